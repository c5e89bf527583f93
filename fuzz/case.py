"""What a case is: a command, what it may open, and what must be true of its results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

__all__ = ["Case", "Kind", "Place", "read_rows"]


@dataclass(frozen=True)
class Place:
    """Folders of one case.

    Args:
        folder: of the case; it may be written to.
        outside: a folder with recordings and texts that no command may open; also the case's home folder.
        material: undamaged corpus and models, see material.py.
        quick: leave out cases of more than a few seconds.
    """

    folder: Path
    outside: Path
    material: Path
    quick: bool = False

    @property
    def output(self) -> Path:
        return self.folder / "out"


@dataclass
class Case:
    """One command line, or several that run one after the other.

    Args:
        commands: words of each; the last one's exit code counts.
        rows: number of rows that were written into the damaged split, or None where damage makes it unknown.
        row_split: that split.
        may_open: further folders that the user named.
        check: called after commands that ended with exit code 0; returns what is wrong.
    """

    commands: Sequence[Sequence[str]]
    rows: int | None = None
    row_split: str = "train"
    may_open: Sequence[Path] = ()
    check: Callable[[], list[str]] = field(default=list)


Kind = Callable[[Place, Random], Case]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSONL file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
