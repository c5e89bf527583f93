"""What a corpus' file in this folder has to give: a `Layout`. Nothing here knows a particular corpus.

A layout *finds* a corpus in a folder (by names only, so that a search is cheap) and *reads* a split row by row. It
opens no audio: durations, missing files and caching are the index's work, the same for every corpus.

Rejected: a base class to inherit from with hooks. Two functions and a few facts say the same and are easier to read.
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

__all__ = ["BadRow", "Found", "Layout", "Reading", "Row", "Shard", "canonical_split", "names_in"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the corpus' own table, before anyone looked at its audio."""

    id: str
    audio: str | Packed | bytes  # absolute path of an audio file, where its bytes lie, or (only in streams) the bytes
    columns: Mapping[str, str | None]  # under the names that the corpus has on the hub
    duration_s: float = math.nan  # from the corpus' own table; nan: the header is read
    speaker: str | None = None
    language: str | None = None
    file: str = ""  # for messages, where it isn't the audio path: "shard.tar:member"
    key: str = ""  # names the content of audio given as bytes; empty: a hash of them is taken


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that can't be used. It is counted and listed, like a clip that can't be read."""

    file: str  # "train.tsv:17"
    detail: str
    reason: str = "bad_row"
    id: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """One corpus (one configuration of it) as it lies on this disk."""

    root: Path
    splits: Mapping[str, tuple[Path, ...]]  # canonical name -> its tables, folders or archives, in order
    config: str | None = None
    release: str | None = None  # "11.0"
    language: str | None = None  # ISO 639 code
    text_column: str | None = None  # where this copy's differs from the layout's default


@dataclass
class Reading:
    """What the index lends to a reader: options, and a way to say what the result depends on."""

    unpack: Callable[[Path], Path]  # archive -> folder, done once
    cache: Path  # for copies in a form that allows random access
    audio_column: str = "audio"
    depends: dict[str, list[Any]] = field(default_factory=dict)  # path -> stamp, taken before it was read
    expected: int = 0  # rows to come, for the progress bar; 0: unknown

    def seen(self, path: Path) -> Path:
        """Note that the rows depend on this table or folder: a change of it makes the index stale. Gives it back."""
        if str(path) not in self.depends and (known := stamp(path)):
            self.depends[str(path)] = known
        return path


Reader = Callable[[Found, str, Reading], Iterator["Row | BadRow"]]


class Shard(Protocol):
    """A shard that is read in order (stream.py)."""

    def __call__(self, *, part: int, num_parts: int) -> Iterator[Row | BadRow]:
        """Yield records `part`, `part + num_parts`, `part + 2 * num_parts`, ..., counted from 0."""
        ...


StreamOpener = Callable[[Found, Sequence[str], Reading], Sequence[Shard]]


@dataclass(frozen=True)
class Layout:
    """A corpus as its publisher ships it. One per module of this package, under the name LAYOUT."""

    name: str  # canonical: "common_voice"
    version: int  # raise it when the rows change: older indexes are then not used
    names: re.Pattern[str]  # dataset names that mean this corpus (fullmatch); group "release" where they carry one
    default_text_column: str
    detect: Callable[[Path, frozenset[str]], list[Found]]  # (folder, names in it) -> configurations; [] if it isn't one
    read: Reader
    how_to_get: str
    licence: str
    archives: re.Pattern[str] | None = None  # names of the publisher's archives (fullmatch)
    hub_name: str | None = None  # where the hub has it as plain data
    column_aliases: Mapping[str, str] = field(default_factory=dict)  # {"transcript": "text"}
    split_aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # {"train.9h": ("9_hours",)}
    languages: Mapping[str, str] = field(default_factory=dict)  # configuration -> ISO 639 code, where not obvious
    config_hints: Mapping[str, str] = field(default_factory=dict)  # what a wrong config probably meant
    stream: StreamOpener | None = None  # shards and the hub; other corpora are read by index even with --streaming
    default_release: str | None = None  # what the name without a release means on the hub
    searched: bool = True  # looked for by name under the corpora folder; False: only where a path says so


def names_in(folder: Path) -> list[str]:
    """Sorted names in a folder; [] where it can't be read. For detecting: reading must not overlook anything."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - a list of a million names, not of a million objects
    except OSError:
        return []


_SPLITS = {
    "train": "train",
    "training": "train",
    "dev": "validation",
    "development": "validation",
    "valid": "validation",
    "val": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def canonical_split(name: str) -> str:
    """`dev`, `valid`, `val` -> `validation`; other names are themselves."""
    return _SPLITS.get(name.lower(), name)
