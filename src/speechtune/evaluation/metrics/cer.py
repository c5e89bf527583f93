"""Characters: what CER counts."""

from __future__ import annotations

import unicodedata

from speechtune.evaluation.metrics.edit import count_edits
from speechtune.types import EditCounts

__all__ = ["character_edits"]


def character_edits(reference: str, hypothesis: str) -> EditCounts:
    """Count the edits between the characters of two texts.

    Characters are Unicode code points of the composed form (NFC); spaces between words count, those around the text
    don't (as in jiwer). A vowel sign of Devanagari is a code point of its own, so it counts.
    """
    return count_edits(_characters(reference), _characters(hypothesis))


def _characters(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()
