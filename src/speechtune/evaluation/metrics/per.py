"""Phone error rate."""

from __future__ import annotations

from speechtune.evaluation.metrics import Metric
from speechtune.evaluation.metrics.wer import word_edits

__all__ = ["METRIC"]

# Phones are written with spaces between them ("h ə l oʊ"), so they are counted as words are. Folding of similar
# phones (TIMIT's 61 to 39) is the caller's choice.
METRIC = Metric("per", "phone error rate", word_edits, of="phones")
