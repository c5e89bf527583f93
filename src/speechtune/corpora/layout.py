"""The interface of a corpus layout: a module of layouts/ defines one `Layout`. Nothing here knows a particular corpus.

A layout *detects* a corpus in a folder (by names only, so that a search is cheap) and *reads* a split row by row. It
opens no audio: durations, missing files and caching are the index's work, the same for every corpus.

Rejected: a base class with hooks. Two functions and a few constants say the same and are easier to read.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from speechtune.audio.packed import Packed
from speechtune.corpora.cache import stamp
from speechtune.errors import AudioError

__all__ = [
    "BadRow",
    "Found",
    "Layout",
    "Reading",
    "Row",
    "Shard",
    "canonical_split",
    "folders_in",
    "names_in",
    "ordered_splits",
]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the corpus' own table. Its audio was not looked at yet."""

    id: str
    audio: str | Packed | bytes  # absolute path, location in a larger file, or (only in streams) the bytes
    columns: Mapping[str, str | None]  # under the names that the corpus has on the hub
    duration_s: float = math.nan  # from the corpus' own table; nan: the header is read
    speaker: str | None = None
    language: str | None = None
    file: str = ""  # for messages, where it isn't the audio path: "shard.tar:member"
    key: str = ""  # names the content of audio given as bytes; empty: a hash of them is taken
    line: str = ""  # for messages: "train.tsv:17"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that can't be used. It is counted and listed, like a clip that can't be read."""

    file: str  # "train.tsv:17"
    detail: str
    reason: str = "bad_row"
    id: str = ""
    text: str = field(default="", compare=False, repr=False)  # the line as far as it could be decoded


@dataclass(frozen=True, slots=True)
class Found:
    """One corpus (one configuration of it) that was detected on disk."""

    root: Path
    splits: Mapping[str, tuple[Path, ...]]  # canonical name -> its tables, folders or archives, in order
    config: str | None = None
    release: str | None = None  # "11.0"
    language: str | None = None  # ISO 639 code
    text_column: str | None = None  # where this copy's differs from the layout's default


@dataclass
class Reading:
    """Passed to a layout's `read`: options, unpacking, and a record of what the rows depend on."""

    unpack: Callable[[Path], Path]  # archive -> folder, done once
    cache: Path  # for copies in a form that allows random access
    audio_column: str = "audio"
    allow_outside_audio: bool = False
    depends: dict[str, list[Any]] = field(default_factory=dict)  # path -> stamp, taken before it was read
    expected: int = 0  # rows to come, for the progress bar; 0: unknown

    def seen(self, path: Path) -> Path:
        """Record that the rows depend on this table or folder: when it changes, the index is rebuilt. Returns it."""
        if str(path) not in self.depends and (known := stamp(path)):
            self.depends[str(path)] = known
        return path

    def table(self, path: Path, *, header: int = 1) -> Path:
        """Record a dependency on a table and count its rows (about 1 GB/s) for the progress bar. Returns it."""
        if path.is_file():  # anything else is refused when it is read
            with path.open("rb") as file:
                lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
            self.expected += max(0, lines - header)
        return self.seen(path)

    def audio_path(self, name: str, folder: Path, root: Path, *, absolute: bool) -> str:
        """Return the path of an audio file that a table in `folder` names.

        Args:
            root: of the corpus. A name that leads out of it is refused unless --allow_outside_audio is set; out of an
                unpacked archive it is always refused.
            absolute: allow absolute names anywhere (a manifest that the user wrote).

        Raises:
            AudioError: `name` leads out of the corpus (`outside_audio`).
        """
        path = os.path.normpath(os.path.join(folder, os.path.expanduser(name)))  # noqa: PTH111, PTH118 - for each row
        if path.startswith(os.path.normpath(root).rstrip(os.sep) + os.sep):
            return path
        unpacked = self.cache / "unpacked"
        if root.is_relative_to(unpacked):
            if Path(path).is_relative_to(unpacked / root.relative_to(unpacked).parts[0]):
                return path
            raise AudioError(f"{name[:200]!r} is outside the archive", reason="outside_audio")
        if self.allow_outside_audio or (absolute and os.path.isabs(name)):  # noqa: PTH117
            return path
        raise AudioError(f"{name[:200]!r} is outside {root} (--allow_outside_audio)", reason="outside_audio")


Reader = Callable[[Found, str, Reading], Iterator["Row | BadRow"]]


class Shard(Protocol):
    """A shard that is read in order (stream.py)."""

    def __call__(self, *, part: int, num_parts: int) -> Iterator[Row | BadRow]:
        """Yield records `part`, `part + num_parts`, `part + 2 * num_parts`, ..., counted from 0."""
        ...


StreamOpener = Callable[[Found, Sequence[str], Reading], Sequence[Shard]]


@dataclass(frozen=True)
class Layout:
    """A corpus as its publisher ships it. One per module of layouts/, under the name LAYOUT."""

    name: str  # canonical: "common_voice"
    version: int  # raise it when the rows change: older indexes are then not used
    default_text_column: str
    detect: Callable[[Path, frozenset[str]], list[Found]]  # (folder, names in it) -> configurations; [] if it isn't one
    read: Reader
    how_to_get: str
    licence: str = ""
    names: re.Pattern[str] = re.compile(r"(?!)")  # dataset names of this corpus (fullmatch); group "release" if any
    archives: re.Pattern[str] | None = None  # names of the publisher's archives (fullmatch)
    hub_name: str | None = None  # where the hub has it as plain data
    column_aliases: Mapping[str, str] = field(default_factory=dict)  # {"transcript": "text"}
    split_aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # {"train.9h": ("9_hours",)}
    languages: Mapping[str, str] = field(default_factory=dict)  # configuration -> ISO 639 code, where not obvious
    config_hints: Mapping[str, str] = field(default_factory=dict)  # what a wrong config probably meant
    stream: StreamOpener | None = None  # shards and the hub; other corpora are read by index even with --streaming
    default_release: str | None = None  # the release on the hub under the name without a release
    searched: bool = True  # looked for by name under the corpora folder; False: only where a path names it


def names_in(folder: Path) -> list[str]:
    """Return the sorted names in a folder; [] if it can't be read. Only for `detect`: `read` must report errors."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - a list of a million names, not of a million objects
    except OSError:
        return []


def folders_in(folder: Path) -> list[Path]:
    """Return the sorted folders in a folder."""
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir())


_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "dev", "development", "valid", "val"),
    "test": ("test", "testing"),
}
_CANONICAL = {name: split for split, names in _SPLITS.items() for name in names}


def canonical_split(name: str) -> str:
    """`dev`, `valid`, `val` -> `validation`; other names are returned as they are."""
    return _CANONICAL.get(name.lower(), name)


def ordered_splits(splits: Mapping[str, tuple[Path, ...]]) -> dict[str, tuple[Path, ...]]:
    """Return train, validation and test in this order, those that are there."""
    return {split: splits[split] for split in _SPLITS if split in splits}
