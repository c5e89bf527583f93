"""A metric is a file in evaluation/metrics/ with a METRIC; options, reports and cards find it."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest

from speechtune.errors import OptionError
from speechtune.evaluation.metrics import all_metrics, metric_named
from speechtune.options.table import Settings


def test_metrics_are_found_by_themselves():
    assert {name: metric.title for name, metric in all_metrics().items()} == {
        "wer": "word error rate",
        "cer": "character error rate",
        "per": "phone error rate",
    }
    assert next(iter(all_metrics())) == "wer"


def test_an_unknown_metric_is_one_message():
    with pytest.raises(OptionError, match=r"bleu: no such metric. Known: wer, cer, per"):
        metric_named("bleu")


def test_every_metric_can_be_asked_for():
    names = get_args(get_args(get_type_hints(Settings)["eval_metrics"])[0])
    assert set(names) == set(all_metrics())
