"""Recordings that a user names: files, folders, globs and standard input, and where their transcripts go."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from speechtune.errors import OptionError

__all__ = ["STDIN", "Source", "find_sources"]

STDIN = "-"
# Of audio and video. A file that is named is tried with any ending; in folders these are recordings.
SUFFIXES = frozenset((
    ".wav", ".wave", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".amr", ".aif", ".aiff",
    ".aifc", ".caf", ".au", ".w64", ".wma", ".wv", ".sph", ".nist", ".mp4", ".m4v", ".mov", ".mkv", ".webm",
    ".3gp", ".3g2", ".asf", ".wmv", ".mka",
))  # fmt: skip
URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")


@dataclass(frozen=True, slots=True)
class Source:
    """A recording: its path, or "-", and the name of its transcripts without their ending."""

    path: str
    output: str


def find_sources(given: Iterable[str], *, named_by_place: bool = True) -> list[Source]:
    """Return the recordings of files, folders (with those below), globs and "-", in this order.

    Transcripts of a folder's recordings keep the folders below it. Of recordings whose transcripts would have one name,
    the names keep the ending of the recording, or else the whole path.

    Args:
        named_by_place: each recording once, with a name; False where no transcripts are written to files.

    Raises:
        OptionError: a URL, or a folder or pattern without recordings.
    """
    named = [pair for word in given for pair in _expanded(word)]
    if not named_by_place:
        return [Source(path, "") for path, _ in named]
    found = dict(reversed(named))  # path: name relative to what the user gave first
    found = {path: found[path] for path, _ in named}
    names = [os.path.splitext(name)[0] for name in found.values()]  # noqa: PTH122
    for longer in (list(found.values()), [_flat(path) for path in found]):
        counts = Counter(name.casefold() for name in names)
        names = [other if counts[name.casefold()] > 1 else name for name, other in zip(names, longer, strict=True)]
    return [Source(path, name) for path, name in zip(found, names, strict=True)]


def _flat(path: str) -> str:
    return os.path.abspath(path).lstrip("/\\").replace("..", "_").replace(":", "_")  # noqa: PTH100


def _expanded(word: str) -> Sequence[tuple[str, str]]:
    """Return path and name of each recording that one word stands for."""
    if word == STDIN:
        return [(STDIN, "stdin")]
    if URL.match(word):
        raise OptionError(f"{word}: recordings are read from files only.\nDownload it, and give the file.")
    if os.path.isdir(word):  # noqa: PTH112
        recordings = _in_folder(word)
        if not recordings:
            raise OptionError(f"{word}: no recordings in this folder or below.\nKnown endings: {_endings()}.")
        return recordings
    if glob.has_magic(word) and not os.path.exists(word):  # noqa: PTH110
        matches = sorted(glob.glob(word, recursive=True))  # noqa: PTH207
        if not matches:
            raise OptionError(f"{word}: no file matches this pattern.")
        return [
            pair
            for match in matches
            for pair in (_in_folder(match) if os.path.isdir(match) else [(match, Path(match).name)])  # noqa: PTH112
        ]
    return [(word, Path(word).name)]


def _in_folder(folder: str) -> list[tuple[str, str]]:
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith("."):  # noqa: PTH122
                path = os.path.join(place, name)  # noqa: PTH118
                found.append((path, os.path.relpath(path, folder)))
    return found


def _endings() -> str:
    return " ".join(sorted(suffix[1:] for suffix in SUFFIXES))
