"""Words: what WER counts."""

from __future__ import annotations

import unicodedata

from speechtune.evaluation.metrics.edit import count_edits
from speechtune.types import EditCounts

__all__ = ["word_edits"]


def word_edits(reference: str, hypothesis: str) -> EditCounts:
    """Count the edits between the words of two texts.

    Words are what stands between white space, in Unicode's composed form (NFC), so that an é made of two code points
    equals one made of one. Letter case and punctuation count: normalising is the caller's choice.

    The rate of the sum over a corpus is its WER; the mean of the utterances' rates is not.
    """
    return count_edits(_words(reference), _words(hypothesis))


def _words(text: str) -> list[str]:
    return unicodedata.normalize("NFC", text).split()
