"""Build an n-gram model of texts: lines of files, normalised, counted and estimated."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from speechtune.errors import OptionError, TextError
from speechtune.text.ngrams.counts import count_ngrams
from speechtune.text.ngrams.estimate import Ngrams, estimate
from speechtune.text.ngrams.model import characters_of

__all__ = ["build_ngrams", "check_pruning", "text_lines"]


def build_ngrams(
    texts: Iterable[str], *, order: int = 4, prune: Sequence[int] = (), of_characters: bool = False
) -> Ngrams:
    """Estimate a model of normalised sentences.

    Args:
        order: words, or characters, of the longest n-gram.
        prune: see `estimate`.
        of_characters: a model of characters, with a token for the space between words.

    Raises:
        TextError: there is no word.
    """
    lines = (" ".join(characters_of(text)) for text in texts) if of_characters else texts
    return estimate(*count_ngrams(lines, order), prune=prune)


def check_pruning(prune: Sequence[int], order: int) -> None:
    """Check thresholds of `estimate`.

    Raises:
        OptionError: they fall, unigrams would be pruned, or there are more than orders.
    """
    if prune and (prune[0] or list(prune) != sorted(prune) or len(prune) > order):
        raise OptionError(
            f"--prune {' '.join(map(str, prune))}: expected at most {order} numbers that do not fall, the first one 0: "
            "n-grams of each order that occur so often or less are removed.\nSuch as: --prune 0 0 1"
        )


def text_lines(paths: Sequence[str], normalise: Callable[[str], str] = str) -> Iterator[str]:
    """Yield the normalised lines of text files, plain or .gz; "-" is standard input. Nothing is kept in memory.

    Raises:
        TextError: a file can't be read, or is no UTF-8.
    """
    for name in paths:
        try:
            with _opened(name) as file:
                for line in file:
                    yield normalise(line)
        except (OSError, EOFError, UnicodeDecodeError) as error:  # noqa: PERF203 - a file is many lines
            raise TextError(
                f"{name}: can't be read as text in UTF-8: {getattr(error, 'strerror', None) or error}."
            ) from error


def _opened(name: str) -> IO[str]:
    if name == "-":
        return open(sys.stdin.fileno(), encoding="utf-8", closefd=False)
    with Path(name).open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(name, "rt", encoding="utf-8") if zipped else Path(name).open(encoding="utf-8")
