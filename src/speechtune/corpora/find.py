"""Find the corpus that --dataset_name means: a path, a known corpus in a corpora folder, or a dataset of the hub."""

from __future__ import annotations

import difflib
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from speechtune.corpora import search
from speechtune.corpora.archive import is_archive, unpack
from speechtune.corpora.cache import cache_folder
from speechtune.corpora.corpus import Corpus
from speechtune.corpora.hub import HubDataset, hub_corpus
from speechtune.corpora.layout import Layout
from speechtune.corpora.search import Archive, Candidate, all_layouts
from speechtune.errors import CorpusError

__all__ = ["all_layouts", "open_corpus"]

log = logging.getLogger("speechtune")

PATH_ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".tar", ".gz", ".tgz", ".zip", ".parquet")

Unpack = Callable[[Path], Path]


def open_corpus(
    dataset_name: str,
    config_name: str | None = None,
    *,
    corpora_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    trust_remote_code: bool = False,
    overwrite_cache: bool = False,
    allow_outside_audio: bool = False,
) -> Corpus:
    """Find a corpus. Only names of files are read yet, and what a hub dataset says about itself.

    Args:
        dataset_name: a path (folder, archive, manifest), a known corpus in a corpora folder, or a hub dataset.
        config_name: language or variant: `tr`, `clean`, `german`.
        corpora_dir: where corpora are, in this folder or up to three below; so is $SPEECHTUNE_CORPORA.
        cache_dir: see `cache_folder`.
        token: for the hub.
        trust_remote_code: has no effect; logs a warning.
        overwrite_cache: don't use an index or a hub copy made before now.
        allow_outside_audio: read audio that a local table names outside its folder.

    Raises:
        CorpusError: nothing is found (the message lists where it looked and how to get the corpus), there is no such
            configuration, or it is needed and wasn't given.
    """
    cache = cache_folder(cache_dir)
    newer_than_s = time.time() if overwrite_cache else 0.0
    known = next((layout for layout in search.known_layouts() if layout.names.fullmatch(dataset_name)), None)
    looked: list[str] = []
    local = _find_local(dataset_name, config_name, known, corpora_dir, lambda archive: unpack(archive, cache), looked)
    if local is not None:
        return Corpus(local.name, local.layout, local.found, cache, newer_than_s, allow_outside_audio)
    if trust_remote_code:
        log.warning("--trust_remote_code: today's `datasets` runs no code from the hub; the option does nothing")
    hub_name = known.hub_name if known else dataset_name
    try:
        if hub_name is None:
            raise CorpusError("no copy of it that can be read")
        dataset = HubDataset(hub_name, config_name, token, str(cache_dir) if cache_dir else None, overwrite_cache)
        layout, found = hub_corpus(dataset, known)
    except CorpusError as error:
        looked.append(f"the hub, {hub_name or dataset_name}: {error}")
        raise CorpusError(_not_found(dataset_name, config_name, looked, known)) from error
    return Corpus(dataset_name, layout, found, cache, newer_than_s)


def _find_local(
    dataset_name: str,
    config: str | None,
    known: Layout | None,
    corpora_dir: str | Path | None,
    unpack: Unpack,
    looked: list[str],
) -> Candidate | None:
    """Return the corpus of this path or known name, or None; the places searched are added to `looked`."""
    path = _existing_path(dataset_name)
    if path is not None:
        try:
            return _at_path(path, config, unpack)
        except CorpusError:
            if known is None:
                raise
            looked.append(f"{path} (not a corpus)")  # a folder with the name of a known corpus
    roots = _corpora_folders(corpora_dir)
    looked += [str(root) for root in roots] or ["no corpora folder (--corpora_dir and $SPEECHTUNE_CORPORA are not set)"]
    return _known_corpus(dataset_name, config, known, roots, unpack) if known else None


def _existing_path(dataset_name: str) -> Path | None:
    """Return the absolute path, or None where the name isn't one.

    Raises:
        CorpusError: it looks like a path and there is nothing, or it is too long.
    """
    path = Path(dataset_name)
    try:
        path = path.expanduser().absolute()
        path.stat()
        return path
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        name = dataset_name if len(dataset_name) <= 100 else f"{dataset_name[:60]}... ({len(dataset_name)} characters)"
        raise CorpusError(f"{name}: {error.strerror}.\nGive a path, a known corpus or a dataset of the hub.") from error
    except (RuntimeError, ValueError):  # ~user that doesn't exist; a null character
        pass
    looks_like_path = dataset_name.startswith((".", "/", "~")) or dataset_name.count("/") > 1
    if looks_like_path or dataset_name.lower().endswith(PATH_ENDINGS):
        raise CorpusError(f"{dataset_name}: no such file or folder.\nLooked at: {path}")
    return None


def _corpora_folders(corpora_dir: str | Path | None) -> list[Path]:
    names = [str(corpora_dir or ""), *os.environ.get("SPEECHTUNE_CORPORA", "").split(os.pathsep)]
    # os.path instead of Path: no exceptions for a name that is too long, or a ~user that doesn't exist
    folders = [os.path.abspath(os.path.expanduser(name)) for name in names if name]  # noqa: PTH100, PTH111
    if corpora_dir and not os.path.isdir(folders[0]):  # noqa: PTH112
        raise CorpusError(f"{str(corpora_dir)[:200]}: no such folder (--corpora_dir).")
    return [Path(folder) for folder in dict.fromkeys(folders)]


def _here_or_known_below(folder: Path) -> list[Candidate]:
    known = search.known_layouts()
    return (
        search.scan(folder, known, max_depth=0) or search.scan_plain(folder, max_depth=0) or search.scan(folder, known)
    )


def _at_path(path: Path, config: str | None, unpack: Unpack) -> Candidate:
    """Return the corpus at a path: a manifest, an archive, or a folder in a layout that we know.

    Raises:
        CorpusError: it is none, or the configuration is missing.
    """
    name = path.name
    candidates: list[Candidate] = []
    if path.is_file():
        candidates = search.scan(path, all_layouts(), max_depth=0)  # layouts of single files look at the path itself
        if not candidates and is_archive(path):
            path = unpack(path)
    if not candidates and path.is_dir():
        candidates = _here_or_known_below(path)
        archives = [] if candidates else search.find_archives([path], search.known_layouts(), config)
        if unpacked := _unpack_best(str(path), config, archives, "", unpack):
            candidates = _here_or_known_below(unpacked)
        candidates = candidates or search.scan_plain(path, search.MAX_DEPTH - 1)
    if not candidates:
        raise CorpusError(_not_recognised(path))
    chosen = _choose(str(path), config, candidates, "")
    return Candidate(chosen.layout, chosen.found, chosen.layout.name if chosen.layout.searched else name)


def _unpack_best(
    name: str, config: str | None, archives: Sequence[Archive], release: str, unpack: Unpack
) -> Path | None:
    """Unpack the archive of the wanted release, else of the newest.

    Raises:
        CorpusError: there are archives of several configurations, and none was named.
    """
    configs = sorted({archive.config or archive.path.name for archive in archives})
    if config is None and len(configs) > 1:
        raise CorpusError(
            f"{name}: archives of several configurations: {', '.join(configs)}.\nChoose with --dataset_config_name."
        )
    of_release = [archive for archive in archives if archive.release == release] if release else []
    best = (of_release or archives)[-1:]
    return unpack(best[0].path) if best else None


def _known_corpus(
    dataset_name: str, config: str | None, layout: Layout, roots: Sequence[Path], unpack: Unpack
) -> Candidate | None:
    """Return the corpus of a known name in the corpora folders, or None.

    A name with a release prefers that release and takes another with a warning.

    Raises:
        CorpusError: the corpus is there, but not this configuration; or there are several, and none was named.
    """
    match = layout.names.fullmatch(dataset_name)
    asked = ((match.groupdict().get("release") if match else None) or "").replace("_", ".")
    release = asked or layout.default_release or ""
    others = [other for other in search.known_layouts() if other is not layout]
    candidates = [candidate for root in roots for candidate in search.scan(root, [layout], others=others)]
    fitting = [candidate for candidate in candidates if _has_config(candidate, config)]
    if not any(not asked or candidate.found.release == asked for candidate in fitting):
        archives = search.find_archives(roots, [layout], config)
        of_release = [archive for archive in archives if archive.release == asked]
        if of_release or not fitting:
            unpacked = _unpack_best(dataset_name, config, of_release or archives, release, unpack)
            candidates += search.scan(unpacked, [layout]) if unpacked else []
    if not candidates:
        return None
    chosen = _choose(dataset_name, config, candidates, release)
    own = chosen.found.release
    if asked and own != asked:
        place = chosen.found.root
        log.warning("%s: release %s not found; using %s at %s", dataset_name, asked, own or "an unknown one", place)
    return Candidate(layout, chosen.found, _label(dataset_name, own))


def _label(dataset_name: str, release: str | None) -> str:
    """`common_voice_11_0`; where another release was taken, that one's."""
    name = dataset_name.rpartition("/")[2]
    stem, _, asked = name.partition("common_voice_")
    if asked and release and asked != release.replace(".", "_"):
        return f"{stem}common_voice_{release.replace('.', '_')}"
    return name


# ---- choosing among what was found


def _has_config(candidate: Candidate, config: str | None) -> bool:
    own = candidate.found.config
    return config is None or own is None or own.lower() == config.lower()


def _choose(name: str, config: str | None, candidates: Sequence[Candidate], release: str) -> Candidate:
    """Return the candidate with this configuration, of the wanted release where there is one, else of the newest.

    Raises:
        CorpusError: there is no such configuration; or there are several, and none was named.
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
    return max(
        fitting, key=lambda c: (bool(release) and c.found.release == release, search.version_key(c.found.release))
    )


# ---- messages


def _wrong_config(name: str, config: str, configs: list[str], candidate: Candidate) -> str:
    hint = candidate.layout.config_hints.get(config, "")
    near = [own for own in configs if own in hint] or difflib.get_close_matches(config, configs, n=1)
    text = f"{name}: no configuration '{config}' under {candidate.found.root.parent}.\nFound: {', '.join(configs)}."
    if hint:
        text += f"\n{hint}"
    return f"{text}\nTry --dataset_config_name {near[0]}" if near else text


def _not_recognised(path: Path) -> str:
    if path.is_file():
        return f"{path}: not a corpus.\nA manifest is .csv, .tsv, .jsonl or .json; an archive .tar, .tar.gz or .zip."
    names, _ = search.list_folder(path)
    shown = ", ".join(sorted(names)[:12]) + (", ..." if len(names) > 12 else "")
    return (
        f"{path}: no corpus is recognised here or up to {search.MAX_DEPTH - 1} folders below.\n"
        f"Names there: {shown or 'none'}.\n"
        f"Known layouts: {', '.join(layout.name for layout in search.known_layouts())}. "
        "A folder of your own needs metadata.csv (file_name,transcription), or train.csv and test.csv (audio,text)."
    )


def _not_found(dataset_name: str, config_name: str | None, looked: list[str], known: Layout | None) -> str:
    asked = f"{dataset_name}/{config_name}" if config_name else dataset_name
    lines = [f"{asked}: not found.", "Looked at:", *(f"  {place}" for place in looked)]
    if known is not None:
        lines += [known.how_to_get, "Then name the folder that holds it with --corpora_dir or $SPEECHTUNE_CORPORA."]
    else:
        names = ", ".join(layout.name for layout in search.known_layouts())
        lines += [f"Known corpora: {names}. A corpus of your own: give the path of its folder or manifest."]
    return "\n".join(lines)
