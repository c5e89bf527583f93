"""Character error rate."""

from __future__ import annotations

import unicodedata

from speechtune.evaluation.edits import count_edits
from speechtune.evaluation.metrics import Metric
from speechtune.types import EditCounts

__all__ = ["METRIC", "character_edits", "characters_of"]


def character_edits(reference: str, hypothesis: str) -> EditCounts:
    """Count the edits between the characters of two texts."""
    return count_edits(characters_of(reference), characters_of(hypothesis))


def characters_of(text: str) -> str:
    """Return the code points of the composed form (NFC), without the spaces around the text, as in jiwer.

    Spaces between words count. A vowel sign of Devanagari is a code point of its own, so it counts.
    """
    return unicodedata.normalize("NFC", text).strip()


METRIC = Metric("cer", "character error rate", character_edits)
