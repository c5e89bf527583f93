"""A command to train with, as far as the corpus says what its options should be. To be copied, read and changed."""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path

import numpy as np

from speechtune.doctor.checks import signs_in
from speechtune.doctor.roles import Corpus
from speechtune.options.table import Options
from speechtune.text.languages import find_language

__all__ = ["suggested_command"]

FEW_HOURS = 10.0  # below, a model that already recognises many languages needs less data (docs/getting-started.md)
MIN_SHARE_LONG = 0.01  # of utterances over the limit from which a higher one is worth it
WHISPER_LIMIT_S = 30.0


def suggested_command(corpus: Corpus, options: Options, *, corrections: Path | None = None) -> str:
    """Return a `speechtune train` command, quoted for a shell.

    Args:
        options: what the user gave to the doctor; it is kept.
        corrections: label_errors.csv, to be edited first.
    """
    settings, given = corpus.settings, options.given
    words = ["speechtune", "train"]
    words += ["--model_name_or_path", settings.model_name_or_path or _model(corpus)]
    words += ["--dataset_name", settings.dataset_name]
    for name in ("dataset_config_name", "corpora_dir", "train_split_name", "eval_split_name", "text_column_name"):
        if name in given and getattr(settings, name) is not None:
            words += [f"--{name}", str(getattr(settings, name))]
    if corpus.language and find_language(corpus.language):
        words += ["--language", corpus.language]
    words += _ignored(corpus)
    limit_s = _duration_limit_s(corpus)
    if limit_s is not None or "max_duration_in_seconds" in given:
        words += ["--max_duration_in_seconds", f"{limit_s or settings.max_duration_in_seconds:g}"]
    if corrections is not None or settings.corrections:
        words += ["--corrections", str(corrections or settings.corrections)]
    name = re.sub(r"[^\w.-]+", "-", Path(corpus.title.partition(",")[0]).name).strip("-.") or "mine"
    return shlex.join([*words, "--output_dir", f"runs/{name}"])


def _model(corpus: Corpus) -> str:
    few = corpus.train.hours < FEW_HOURS and not corpus.settings.phones
    return "openai/whisper-small" if few else "facebook/wav2vec2-xls-r-300m"


def _ignored(corpus: Corpus) -> list[str]:
    """Return --chars_to_ignore with what the user gave and the signs of the text that nobody pronounces."""
    given = corpus.settings.chars_to_ignore or ()
    if corpus.settings.phones or corpus.settings.protocol == "readme":
        return ["--chars_to_ignore", *given] if given else []
    plain = getattr(corpus.normalise, "normaliser", corpus.normalise)
    signs = [sign for sign, _ in signs_in([plain(text) for text in corpus.train.table.texts]).most_common()]
    ignored = list(dict.fromkeys([*given, *signs]))
    return ["--chars_to_ignore", *ignored] if ignored else []


def _duration_limit_s(corpus: Corpus) -> float | None:
    """Return 30 s where a good part of the training is longer than the limit, but not than that."""
    durations_s, limit_s = corpus.train.table.durations_s, corpus.settings.max_duration_in_seconds
    between = np.count_nonzero((durations_s > limit_s) & (durations_s <= WHISPER_LIMIT_S))
    if limit_s >= WHISPER_LIMIT_S or between < max(1, math.ceil(MIN_SHARE_LONG * len(durations_s))):
        return None
    return WHISPER_LIMIT_S
