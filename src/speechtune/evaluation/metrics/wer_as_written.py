"""Word error rate of the text as it is written: case and punctuation count."""

from __future__ import annotations

from speechtune.evaluation.metrics import Metric
from speechtune.evaluation.metrics.wer import word_edits

__all__ = ["METRIC"]

METRIC = Metric("wer_as_written", "word error rate with case and punctuation", word_edits, of="written")
