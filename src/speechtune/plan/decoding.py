"""The language model of a run, and its part of the protocol."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from speechtune.decoding.search import default_beams, find_lm, hotword_weights, tuned_weights
from speechtune.errors import OptionError
from speechtune.files import blocks
from speechtune.options.table import Family, Settings
from speechtune.text.ngrams.arpa import read_arpa

__all__ = ["resolve_lm", "search_protocol"]


def resolve_lm(settings: Settings, *, builds: bool) -> Settings:
    """Return the settings with the path of the language model; "auto" stays where training is to build it.

    Raises:
        OptionError, ModelError: there is no such model, or a training could not use it at its end.
    """
    assert settings.lm is not None
    if builds and settings.lm == "auto":
        if settings.streaming:
            raise OptionError(
                "--lm auto: a stream's text is not known before its end.\n"
                "`speechtune lm build` makes a language model of text files; give it to --lm."
            )
        return settings
    path = find_lm(settings.lm, settings.model_name_or_path)
    if builds:
        read_arpa(path)  # a damaged one is an error now, not after the training
    return replace(settings, lm=str(path))


def search_protocol(settings: Settings, family: Family) -> dict[str, Any]:
    """Return what in the search can change a hypothesis."""
    beams = default_beams(family)  # an error of a family without a search
    found: dict[str, Any] = {"num_beams": settings.num_beams or beams}
    if settings.hotwords:
        found["hotwords"] = hotword_weights(settings.hotwords)
    if settings.lm:
        path = None if settings.lm == "auto" else Path(settings.lm)
        name = "4-grams of the training text" if path is None else _digest(path)
        found["lm"] = {"model": name, **asdict(tuned_weights(path, settings))}
    return found


def _digest(path: Path) -> str:
    """Return 12 hexadecimal digits over a file."""
    digest = hashlib.sha256()
    for block in blocks(path):
        digest.update(block)
    return f"sha256 {digest.hexdigest()[:12]}"
