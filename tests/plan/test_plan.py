"""What a plan tells of itself."""

from __future__ import annotations

from typing import Any

import pytest

from speechtune.options.table import Settings
from speechtune.plan.hardware import Precision
from speechtune.plan.plan import RunPlan


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["wer", "cer"]),
        ({"eval_metrics": ("cer",)}, ["wer", "cer"]),
        ({"eval_metrics": ("per", "wer")}, ["wer", "cer", "per"]),
        ({"phoneme_language": "tr"}, ["wer", "cer", "per"]),
        ({"text_column_name": "phones", "eval_metrics": ("per",)}, ["wer", "cer", "per"]),
    ],
)
def test_words_and_characters_are_always_scored_and_phones_where_they_are_recognised(options: Any, names: list[str]):
    precision = Precision(False, False, "highest", "float32", True)
    assert RunPlan("train", "ctc", Settings(**options), precision, "c", None, None, None).metric_names == names
