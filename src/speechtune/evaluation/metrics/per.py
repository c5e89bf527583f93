"""Phones: what PER counts."""

from __future__ import annotations

import unicodedata

from speechtune.evaluation.metrics.edit import count_edits
from speechtune.types import EditCounts

__all__ = ["phone_edits"]


def phone_edits(reference: str, hypothesis: str) -> EditCounts:
    """Count the edits between two phone sequences, written with spaces between the phones ("h ə l oʊ").

    A phone may be several characters long. Folding of similar phones (TIMIT's 61 to 39) is the caller's choice.
    """
    return count_edits(_phones(reference), _phones(hypothesis))


def _phones(text: str) -> list[str]:
    return unicodedata.normalize("NFC", text).split()
