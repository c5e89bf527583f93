"""Word error rate."""

from __future__ import annotations

import unicodedata

from speechtune.evaluation.edits import count_edits
from speechtune.evaluation.metrics import Metric
from speechtune.types import EditCounts

__all__ = ["METRIC", "word_edits", "words_in"]


def word_edits(reference: str, hypothesis: str) -> EditCounts:
    """Count the edits between the words of two texts: what is between white space, composed (NFC).

    Letter case and punctuation count: normalising is the caller's choice.
    """
    return count_edits(words_in(reference), words_in(hypothesis))


def words_in(text: str) -> list[str]:
    """Return what is between white space, composed (NFC)."""
    return unicodedata.normalize("NFC", text).split()


METRIC = Metric("wer", "word error rate", word_edits, of="words")
