"""Search folders for corpora and their publishers' archives."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from speechtune.corpora.layout import Found, Layout
from speechtune.errors import CorpusError

__all__ = [
    "MAX_DEPTH", "Archive", "Candidate", "all_layouts", "find_archives", "known_layouts", "list_folder", "scan",
    "scan_plain", "version_key",
]  # fmt: skip

log = logging.getLogger("speechtune")

MAX_DEPTH = 4  # folders below the corpora folder: three, and a language's folder in the last
MAX_NAMES = 20_000  # a folder with more entries holds clips, not corpora
MAX_FOLDERS = 20_000
NOT_SEARCHED = frozenset({"clips", "audio", "wavs", "wav", "recordings", "node_modules", "__pycache__", "__macosx"})


@functools.cache
def all_layouts() -> tuple[Layout, ...]:
    """Return the `LAYOUT` of every module of `layouts/`, those of known corpora first."""
    from speechtune.corpora import layouts as package

    names = [info.name for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")]
    modules = [importlib.import_module(name) for name in names]
    layouts = [module.LAYOUT for module in modules if hasattr(module, "LAYOUT")]
    return tuple(sorted(layouts, key=lambda layout: (not layout.searched, layout.name)))


def known_layouts() -> list[Layout]:
    """Return those of known corpora; the others fit a folder of anyone's recordings."""
    return [layout for layout in all_layouts() if layout.searched]


@dataclass(frozen=True)
class Candidate:
    """A corpus that was recognised, and by which layout."""

    layout: Layout
    found: Found
    name: str = ""  # for labels


def _walk(root: Path, is_corpus: Callable[[Path, frozenset[str]], bool], max_depth: int = MAX_DEPTH) -> None:
    """Call `is_corpus(folder, names in it)` level by level; a corpus is not searched further."""
    level = [root]
    visited = 0
    for _ in range(max_depth + 1):
        below: list[Path] = []
        for folder in level:
            visited += 1
            if visited > MAX_FOLDERS:
                log.warning("%s: more than %d folders; the search ends here", root, MAX_FOLDERS)
                return
            names, folders = list_folder(folder)
            if not is_corpus(folder, names) and len(names) < MAX_NAMES:
                below += [folder / name for name in folders if name[0] != "." and name.lower() not in NOT_SEARCHED]
        level = below


def list_folder(folder: Path) -> tuple[frozenset[str], list[str]]:
    """(all names, those of folders, sorted); empty where it can't be read, the first MAX_NAMES of a huge one."""
    names: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                names.append(entry.name)
                if entry.is_dir():
                    folders.append(entry.name)
                if len(names) >= MAX_NAMES:
                    break
    except OSError:
        pass
    return frozenset(names), sorted(folders)


def scan(
    root: Path, layouts: Sequence[Layout], *, others: Sequence[Layout] = (), max_depth: int = MAX_DEPTH
) -> list[Candidate]:
    """Return every corpus of these layouts in `root` or up to `max_depth` folders below, nearest first.

    Corpora of `others` below the root are not searched, such as the 8,000 folders of a LibriSpeech.
    """
    candidates: list[Candidate] = []

    def is_corpus(folder: Path, names: frozenset[str]) -> bool:
        own = [Candidate(layout, found) for layout in layouts for found in layout.detect(folder, names)]
        candidates.extend(own)
        return bool(own) or (folder != root and any(layout.detect(folder, names) for layout in others))

    _walk(root, is_corpus, max_depth)
    return candidates


def scan_plain(root: Path, max_depth: int) -> list[Candidate]:
    """Return the one corpus (its configurations) without a known layout in `root` or below.

    Raises:
        CorpusError: there are several.
    """
    corpora: dict[Path, list[Candidate]] = {}

    def is_corpus(folder: Path, names: frozenset[str]) -> bool:
        for layout in all_layouts():
            if not layout.searched and (found := layout.detect(folder, names)):
                corpora[folder] = [Candidate(layout, each) for each in found]
                return True
        return False

    _walk(root, is_corpus, max_depth)
    if len(corpora) > 1:
        names = [str(folder.relative_to(root)) for folder in corpora]
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise CorpusError(f"{root}: {len(names)} corpora are in it: {shown}.\nGive the path of one of them.")
    return next(iter(corpora.values()), [])


@dataclass(frozen=True)
class Archive:
    """A publisher's archive, and what its name says."""

    path: Path
    config: str | None
    release: str | None


def find_archives(roots: Sequence[Path], layouts: Sequence[Layout], config: str | None) -> list[Archive]:
    """Return the publishers' archives under `roots` that can hold the configuration, newest release last."""
    archives: list[Archive] = []

    def collect(folder: Path, names: frozenset[str]) -> bool:
        for layout in layouts:
            for name in sorted(names):
                match = layout.archives.fullmatch(name) if layout.archives else None
                facts = match.groupdict() if match else {}
                if match and config in (None, facts.get("config") or config):
                    archives.append(Archive(folder / name, facts.get("config"), facts.get("release")))
        return False

    for root in roots:
        _walk(root, collect)
    return sorted(archives, key=lambda archive: version_key(archive.release))


def version_key(release: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in (release or "").split(".") if part.isdigit())
