"""Recordings that occur twice: files with the same bytes, whatever their names.

Only recordings of equal size are read, so that a corpus without copies costs a look at its sizes.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechtune.doctor.roles import Role
from speechtune.errors import AudioError

__all__ = ["Copies", "find_copies"]


@dataclass(frozen=True, slots=True)
class Copies:
    """Utterances with the same recording.

    Args:
        members: (split as "train" or "evaluation", file, normalised transcript), two or more.
    """

    members: tuple[tuple[str, str, str], ...]

    @property
    def texts_differ(self) -> bool:
        return len({text for _, _, text in self.members}) > 1


def find_copies(roles: Sequence[Role]) -> list[Copies]:
    """Return the recordings that several utterances have, those with different transcripts first."""
    by_size: dict[int, list[tuple[Role, int]]] = defaultdict(list)
    for role in roles:
        for row, size in enumerate(_sizes(role.table)):
            if size:
                by_size[size].append((role, row))
    found: dict[bytes, list[tuple[str, str, str]]] = defaultdict(list)
    for candidates in by_size.values():
        if len(candidates) > 1:
            for role, row in candidates:
                digest, file = _digest(role, row)
                if digest:
                    found[digest].append((role.name, file, role.texts[row]))
    groups = [Copies(tuple(members)) for members in found.values() if len(members) > 1]
    return sorted(groups, key=lambda group: (not group.texts_differ, group.members))


def _sizes(table: Any) -> list[int]:
    """Return the bytes of each recording; 0 where it is not there."""
    rows = zip(table.files, table.column("#position"), table.column("#num_bytes"), strict=True)
    return [num_bytes or 0 if position >= 0 else _file_size(file) for file, position, num_bytes in rows]


def _file_size(file: str) -> int:
    try:
        return Path(file).stat().st_size
    except (OSError, ValueError):
        return 0


def _digest(role: Role, row: int) -> tuple[bytes, str]:
    """Return a hash of a recording's bytes, empty where it can't be read, and its file."""
    try:
        utterance = role.table[row]
        if isinstance(utterance.audio, bytes):
            return hashlib.blake2b(utterance.audio).digest(), utterance.file
        digest = hashlib.blake2b()
        with Path(utterance.audio).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.digest(), utterance.file
    except (AudioError, OSError):
        return b"", ""
