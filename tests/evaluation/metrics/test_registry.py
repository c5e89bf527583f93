"""A metric is a file in evaluation/metrics/ with a METRIC; options, reports and cards find it."""

from __future__ import annotations

import pytest

from speechtune.errors import OptionError
from speechtune.evaluation.metrics import all_metrics, metric_named
from speechtune.options.parse import parse_options
from speechtune.options.table import METRICS


def test_metrics_are_found_by_themselves():
    assert {name: metric.title for name, metric in all_metrics().items()} == {
        "wer": "word error rate",
        "cer": "character error rate",
        "per": "phone error rate",
        "wer_as_written": "word error rate with case and punctuation",
    }
    assert next(iter(all_metrics())) == "wer"


def test_an_unknown_metric_is_one_message():
    with pytest.raises(OptionError, match=r"bleu: no such metric. Known: wer, cer, per"):
        metric_named("bleu")


def test_every_metric_can_be_asked_for_and_choose_the_best_checkpoint():
    assert list(METRICS) == list(all_metrics())
    for name in METRICS:
        words = ["--model_name_or_path", "m", "--dataset_name", "d", "--output_dir", "o"]
        options = parse_options([*words, "--metric_for_best_model", f"eval_{name}"])
        assert name in options.config.eval_metrics
