"""Speech corpora, read where they lie. One file a corpus: a module here with a `LAYOUT` is found by itself.

    open_corpus("common_voice", "tr").read("train+validation")  ->  SplitTable of Utterances

Only headers of audio files are read, once; see index.py.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import pkgutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from speechtune.errors import CorpusError

if TYPE_CHECKING:
    from speechtune.corpora.corpus import Corpus
    from speechtune.corpora.layout import Layout

__all__ = ["all_layouts", "open_corpus"]

log = logging.getLogger("speechtune")


@functools.cache
def all_layouts() -> tuple[Layout, ...]:
    """The `LAYOUT` of every module of this package, those of known corpora first."""
    from speechtune.corpora import layouts as package

    names = [info.name for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")]
    modules = [importlib.import_module(name) for name in names]
    layouts = [module.LAYOUT for module in modules if hasattr(module, "LAYOUT")]
    return tuple(sorted(layouts, key=lambda layout: (not layout.searched, layout.name)))


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
    """Find a corpus. Nothing of it is read yet but names.

    Args:
        dataset_name: a path (folder, archive, manifest); else a known corpus under the corpora folders; else one of
            the hub's.
        config_name: language or variant: `tr`, `clean`, `german`.
        corpora_dir: where corpora lie, at this folder or up to three below; $SPEECHTUNE_CORPORA is looked at too.
        cache_dir: see `cache_folder`.
        token: for the hub.
        trust_remote_code: passed to the hub's library.
        overwrite_cache: don't use an index or a hub copy made before now.
        allow_outside_audio: read audio that a local table names outside its folder.

    Raises:
        CorpusError: nothing is found (the message says where it looked and how one gets the corpus), or the
            configuration is not there or not said.
    """
    from speechtune.corpora.archive import unpack
    from speechtune.corpora.cache import cache_folder
    from speechtune.corpora.corpus import Corpus
    from speechtune.corpora.resolve import at_path, named

    cache = cache_folder(cache_dir)
    newer_than_s = time.time() if overwrite_cache else 0.0
    layouts = all_layouts()

    def unpacked(archive: Path) -> Path:
        return unpack(archive, cache)

    layout = next((layout for layout in layouts if layout.searched and layout.names.fullmatch(dataset_name)), None)
    path = Path(dataset_name).expanduser()
    looked: list[str] = []
    if path.exists():
        try:
            candidate = at_path(path.absolute(), config_name, layouts=layouts, unpack=unpacked)
            name = candidate.layout.name if candidate.layout.searched else path.absolute().name
            return Corpus(name, candidate.layout, candidate.found, cache, newer_than_s, allow_outside_audio)
        except CorpusError:
            if layout is None:
                raise
            looked.append(f"{path.absolute()} (not a corpus)")
    elif _looks_like_path(dataset_name):
        raise CorpusError(f"{dataset_name}: no such file or folder.\nLooked at: {path.absolute()}")
    roots = _corpora_folders(corpora_dir)
    looked += [str(root) for root in roots] or ["no corpora folder (--corpora_dir and $SPEECHTUNE_CORPORA are not set)"]
    if layout is not None:
        others = [other for other in layouts if other.searched and other is not layout]
        chosen = named(dataset_name, config_name, layout=layout, others=others, roots=roots, unpack=unpacked)
        if chosen:
            return Corpus(_label(dataset_name, chosen.found.release), layout, chosen.found, cache, newer_than_s)
    return _from_hub(
        dataset_name, config_name, cache, looked, layout, cache_dir, token, trust_remote_code, newer_than_s
    )


def _from_hub(
    dataset_name: str,
    config_name: str | None,
    cache: Path,
    looked: list[str],
    layout: Layout | None,
    cache_dir: str | Path | None,
    token: str | bool | None,
    trust_remote_code: bool,
    newer_than_s: float,
) -> Corpus:
    from speechtune.corpora.corpus import Corpus
    from speechtune.corpora.hub import HubDataset, hub_corpus

    if trust_remote_code:
        log.warning("--trust_remote_code: today's `datasets` runs no code from the hub; the option does nothing")
    name = layout.hub_name if layout else dataset_name
    if name is None:
        looked.append("the hub has no copy of it that can be read")
        raise CorpusError(not_found(dataset_name, config_name, looked, layout))
    dataset = HubDataset(name, config_name, token, str(cache_dir) if cache_dir else None, force=newer_than_s > 0)
    try:
        hub_layout, found = hub_corpus(dataset, layout)
    except CorpusError as error:
        looked.append(f"the hub, {name}: {error}")
        raise CorpusError(not_found(dataset_name, config_name, looked, layout)) from error
    return Corpus(dataset_name, hub_layout, found, cache, newer_than_s)


def _corpora_folders(corpora_dir: str | Path | None) -> list[Path]:
    texts = [str(corpora_dir)] if corpora_dir else []
    texts += [text for text in os.environ.get("SPEECHTUNE_CORPORA", "").split(os.pathsep) if text]
    folders = [Path(text).expanduser().absolute() for text in texts]
    if corpora_dir and not folders[0].is_dir():
        raise CorpusError(f"{corpora_dir}: no such folder (--corpora_dir).")
    return list(dict.fromkeys(folders))


def _looks_like_path(name: str) -> bool:
    endings = (".csv", ".tsv", ".jsonl", ".json", ".tar", ".gz", ".tgz", ".zip", ".parquet")
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or name.lower().endswith(endings)


def _label(dataset_name: str, release: str | None) -> str:
    """`common_voice_11_0`; where another release was taken, that one's."""
    name = dataset_name.rpartition("/")[2]
    stem, _, asked = name.partition("common_voice_")
    if asked and release and asked != release.replace(".", "_"):
        return f"{stem}common_voice_{release.replace('.', '_')}"
    return name


def not_found(dataset_name: str, config_name: str | None, looked: list[str], layout: Layout | None) -> str:
    """The message when nothing is found: where we looked and how one gets the corpus."""
    asked = f"{dataset_name}/{config_name}" if config_name else dataset_name
    lines = [f"{asked}: not found.", "Looked at:", *(f"  {place}" for place in looked)]
    if layout is not None:
        lines += [layout.how_to_get, "Then name the folder that holds it with --corpora_dir or $SPEECHTUNE_CORPORA."]
    else:
        known = sorted(layout.name for layout in all_layouts() if layout.searched)
        lines += [f"Known corpora: {', '.join(known)}. A corpus of your own: give the path of its folder or manifest."]
    return "\n".join(lines)
