"""`speechtune lm build`: an n-gram language model of texts, of a corpus' transcripts, or of both."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from speechtune.errors import ModelError, OptionError
from speechtune.files import read_json
from speechtune.options.parse import parse_options
from speechtune.text.ngrams.arpa import write_arpa
from speechtune.text.ngrams.build import build_ngrams, check_pruning, text_lines
from speechtune.text.normalise import TextFunction, make_normaliser

__all__ = ["build"]

log = logging.getLogger("speechtune")

OF_THE_MODEL = ("chars_to_ignore", "do_lower_case", "language", "protocol")  # settings that make its text


def build(
    texts: Sequence[str] = (),
    *,
    output: Path,
    order: int = 4,
    prune: Sequence[int] = (),
    characters: bool = False,
    model: str | None = None,
    keep_case: bool = False,
    **options: Any,
) -> str:
    """Write an ARPA file and return a line about it.

    Args:
        texts: files with a sentence a line, plain or .gz; "-" is standard input.
        output: name of the ARPA file; zipped where it ends in .gz.
        order, prune, characters: see `build_ngrams`.
        model: trained folder whose normalisation is used.
        keep_case: do not lower-case.
        options: of `speechtune vocab`: `dataset_name` and what belongs to it, `chars_to_ignore`, `language`.

    Raises:
        OptionError, TextError, CorpusError, ModelError, OutputError: what the user gave can't be used.
    """
    if not texts and "dataset_name" not in options:
        raise OptionError("Nothing to read: give files with text, - for standard input, or --dataset_name.")
    check_pruning(prune, order)
    start = time.perf_counter()
    options = (_options_of(model) if model else {}) | options
    if keep_case:
        options["do_lower_case"] = False
    sources: list[Iterable[str]] = []
    if "dataset_name" in options:
        normalise, transcripts = _transcripts(options)
        sources.append(transcripts)
    else:
        normalise = make_normaliser(
            options.get("protocol", "default"),
            options.get("chars_to_ignore"),
            language=options.get("language"),
            lower_case=options.get("do_lower_case", True),
        )
    log.info(f"text: {normalise.describe()}")
    sources.append(text_lines(texts, normalise))
    ngrams = build_ngrams(itertools.chain(*sources), order=order, prune=prune, of_characters=characters)
    for note in ngrams.notes:
        log.info(note)
    write_arpa(ngrams, output)
    sizes = ", ".join(f"{len(part.rows):,}" for part in ngrams.orders)
    units, seconds = "characters" if characters else "words", time.perf_counter() - start
    return f"{output}: {sizes} n-grams of 1 to {order} {units}, {seconds:.1f} s"


def _options_of(model: str) -> dict[str, Any]:
    """Return the options of a trained folder that its transcripts were normalised by."""
    folder = Path(model).expanduser()
    settings = read_json(folder / "settings.json").get("plan", {}).get("settings")
    if settings is None:
        raise ModelError(f"{folder}: no settings.json of a training, which says how its text is normalised.")
    if settings.get("text_column_name") == "phones" or settings.get("phoneme_language"):
        raise ModelError(f"{folder}: recognises phones. Build their model with --dataset_name and the same options.")
    return {name: settings[name] for name in OF_THE_MODEL if settings.get(name) is not None}


def _transcripts(options: Mapping[str, Any]) -> tuple[TextFunction, Sequence[str]]:
    """Return a corpus' normaliser and its normalised training transcripts."""
    from speechtune.plan.resolve import resolve
    from speechtune.training.api import as_words
    from speechtune.training.data import read_corpus

    words = as_words({"train_split_name": "train", "output_dir": ".", **options})
    plan = resolve(parse_options(words, command="vocab", prog="speechtune lm build"))
    for note in plan.notes:
        log.info(note)
    data = read_corpus(plan)
    log.info(f"{plan.corpus}, {plan.settings.train_split_name}: {len(data.train_texts):,} transcripts")
    return data.normalise, data.train_texts
