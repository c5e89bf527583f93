"""From what the user wrote after --dataset_name to a corpus on this disk: a path, or a known name in a corpora folder.

What isn't found here is asked of the hub by the caller, with the list of places that were looked at.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from speechtune.corpora.archive import is_archive
from speechtune.corpora.layout import Found, Layout
from speechtune.errors import CorpusError

__all__ = ["Candidate", "at_path", "choose", "named", "scan"]

log = logging.getLogger("speechtune")

MAX_DEPTH = 4  # folders below the corpora folder: three, and a language's folder in the last
MAX_NAMES = 20_000  # a folder with more entries holds clips, not corpora
MAX_FOLDERS = 20_000
NOT_SEARCHED = frozenset({"clips", "audio", "wavs", "wav", "recordings", "node_modules", "__pycache__"})

Unpack = Callable[[Path], Path]


@dataclass(frozen=True)
class Candidate:
    """A corpus that was recognised, and by what."""

    layout: Layout
    found: Found


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
    """Every corpus of these layouts at `root` or up to `max_depth` folders below, nearest first.

    What a layout recognises is not searched further; nor is what `others` recognise below the root, so that a search
    beside a LibriSpeech doesn't look into its 8,000 folders.
    """
    candidates: list[Candidate] = []
    recognised: list[object] = []
    for folder, names in _walk(root, max_depth, recognised):
        own = [Candidate(layout, found) for layout in layouts for found in layout.detect(folder, names)]
        candidates += own
        recognised += own
        if not own and folder != root:
            recognised += [found for layout in others for found in layout.detect(folder, names)]
    return candidates


def _walk(root: Path, max_depth: int, recognised: Sequence[object]) -> Iterator[tuple[Path, frozenset[str]]]:
    """Folders with their names, level by level; not below one for which the caller adds to `recognised`."""
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
            before = len(recognised)
            yield folder, names
            if len(recognised) == before and len(names) < MAX_NAMES:
                below += [folder / name for name in folders if name[0] != "." and name.lower() not in NOT_SEARCHED]
        level = below


@dataclass(frozen=True)
class Archive:
    """A publisher's archive, and what its name says."""

    path: Path
    config: str | None
    release: str | None


def _archives(roots: Sequence[Path], layouts: Sequence[Layout], config: str | None) -> list[Archive]:
    """The publishers' archives under `roots` that can hold the configuration, newest release last."""
    archives: list[Archive] = []
    for folder, names in (place for root in roots for place in _walk(root, MAX_DEPTH, ())):
        for layout in layouts:
            for name in sorted(names):
                match = layout.archives.fullmatch(name) if layout.archives else None
                facts = match.groupdict() if match else {}
                if match and config in (None, facts.get("config") or config):
                    archives.append(Archive(folder / name, facts.get("config"), facts.get("release")))
    return sorted(archives, key=lambda archive: _version(archive.release))


def _unpacked(
    name: str, config: str | None, archives: Sequence[Archive], layouts: Sequence[Layout], release: str, unpack: Unpack
) -> list[Candidate]:
    """What the best archive holds: of the wanted release, else the newest.

    Raises:
        CorpusError: there are archives of several configurations, and none was named.
    """
    configs = sorted({archive.config or archive.path.name for archive in archives})
    if config is None and len(configs) > 1:
        raise CorpusError(
            f"{name}: archives of several configurations: {', '.join(configs)}.\nChoose with --dataset_config_name."
        )
    of_release = [archive for archive in archives if archive.release == release] if release else []
    return [c for archive in (of_release or archives)[-1:] for c in _in_folder(unpack(archive.path), layouts)]


def named(
    dataset_name: str,
    config: str | None,
    *,
    layout: Layout,
    others: Sequence[Layout] = (),
    roots: Sequence[Path],
    unpack: Unpack,
) -> Candidate | None:
    """The corpus of a known name under the corpora folders; None where there is nothing of it.

    A name with a release prefers that release and takes another with a warning. `others` are known corpora that the
    search need not look into.

    Raises:
        CorpusError: the corpus is there, but not this configuration, or which one is not said.
    """
    match = layout.names.fullmatch(dataset_name)
    assert match
    release = (match.groupdict().get("release") or layout.default_release or "").replace("_", ".")
    candidates = [candidate for root in roots for candidate in scan(root, [layout], others=others)]
    asked = (match.groupdict().get("release") or "").replace("_", ".")
    if not any(_has_config(c, config) and (not asked or c.found.release == asked) for c in candidates):
        archives = _archives(roots, [layout], config)
        better = [archive for archive in archives if archive.release == asked]
        if better or not any(_has_config(c, config) for c in candidates):
            candidates += _unpacked(dataset_name, config, better or archives, [layout], release, unpack)
    if not candidates:
        return None
    chosen = choose(dataset_name, config, candidates, release)
    if asked and chosen.found.release != asked:
        log.warning(
            "%s: release %s is not here; taking release %s at %s",
            dataset_name,
            asked,
            chosen.found.release or "(unknown)",
            chosen.found.root,
        )
    return chosen


def at_path(path: Path, config: str | None, *, layouts: Sequence[Layout], unpack: Unpack) -> Candidate:
    """The corpus at a path: a manifest, an archive, or a folder in a layout that we know.

    Raises:
        CorpusError: nothing is recognised there, or which configuration is not said.
    """
    if path.is_file():
        candidates = scan(path, layouts, max_depth=0)  # layouts that read single files look at the path itself
        if not candidates and is_archive(path):
            path = unpack(path)
            candidates = _in_folder(path, layouts)
    else:
        candidates = _in_folder(path, layouts)
        if not candidates:
            candidates = _unpacked(str(path), config, _archives([path], layouts, config), layouts, "", unpack)
    if not candidates:
        raise CorpusError(_not_recognised(path, layouts))
    return choose(str(path), config, candidates, "")


def _in_folder(folder: Path, layouts: Sequence[Layout]) -> list[Candidate]:
    """Known corpora first, here and below; then, only here, what any folder of audio may look like."""
    known = [layout for layout in layouts if layout.searched]
    here = scan(folder, known, max_depth=0)
    if here:
        return here
    for layout in layouts:
        if not layout.searched and (plain := scan(folder, [layout], max_depth=0)):
            return plain
    return scan(folder, known)


def _has_config(candidate: Candidate, config: str | None) -> bool:
    own = candidate.found.config
    return config is None or own is None or own.lower() == config.lower()


def choose(name: str, config: str | None, candidates: Sequence[Candidate], release: str) -> Candidate:
    """The candidate with this configuration, of the wanted release where there is one, else of the newest.

    Raises:
        CorpusError: there is no such configuration, or several and none was named.
    """
    fitting = [candidate for candidate in candidates if _has_config(candidate, config)]
    configs = sorted({c.found.config for c in candidates if c.found.config})
    if not fitting:
        raise CorpusError(_wrong_config(name, config or "", configs, candidates[0]))
    if config is None and len(configs) > 1:
        raise CorpusError(
            f"{name}: which configuration?\nFound: {', '.join(configs)}.\n"
            f"Choose with --dataset_config_name, e.g. --dataset_config_name {configs[0]}"
        )
    if config and fitting[0].found.config is None:
        log.info("%s has no configurations; '%s' is not used", name, config)
    return max(fitting, key=lambda c: (bool(release) and c.found.release == release, _version(c.found.release)))


def _version(release: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in (release or "").split(".") if part.isdigit())


def _wrong_config(name: str, config: str, configs: list[str], candidate: Candidate) -> str:
    hint = candidate.layout.config_hints.get(config, "")
    near = [own for own in configs if own in hint] or difflib.get_close_matches(config, configs, n=1)
    text = f"{name}: no configuration '{config}' under {candidate.found.root.parent}.\nFound: {', '.join(configs)}."
    if hint:
        text += f"\n{hint}"
    return f"{text}\nTry --dataset_config_name {near[0]}" if near else text


def _not_recognised(path: Path, layouts: Sequence[Layout]) -> str:
    if path.is_file():
        return f"{path}: not a corpus.\nA manifest is .csv, .tsv, .jsonl or .json; an archive .tar, .tar.gz or .zip."
    names, _ = list_folder(path)
    shown = ", ".join(sorted(names)[:12]) + (", ..." if len(names) > 12 else "")
    known = ", ".join(layout.name for layout in layouts if layout.searched)
    return (
        f"{path}: no corpus is recognised here or up to {MAX_DEPTH - 1} folders below.\n"
        f"Names there: {shown or 'none'}.\n"
        f"Known layouts: {known}. A folder of your own needs metadata.csv (file_name,transcription), "
        "or train.csv and test.csv (audio,text)."
    )
