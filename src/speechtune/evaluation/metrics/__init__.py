"""Error rates, one file each: options, scores and reports find a module here by its `METRIC`, named as the file."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from speechtune.errors import OptionError
from speechtune.types import EditCounts

__all__ = ["Metric", "all_metrics", "metric_named"]


@dataclass(frozen=True, slots=True)
class Metric:
    """An error rate: edits divided by the tokens of the references, summed over a corpus."""

    name: str  # in options, in score files and on the hub: "wer"
    title: str  # for people: "word error rate"
    count: Callable[[str, str], EditCounts]  # (reference, hypothesis) of one utterance
    # The form of the text that is counted: as scored, split by the recogniser, or as corpus and model write it.
    of: Literal["text", "words", "phones", "written"] = "text"


@functools.cache
def all_metrics() -> dict[str, Metric]:
    """Return the metrics by name, WER first."""
    names = [info.name for info in pkgutil.iter_modules(__path__, f"{__name__}.")]
    metrics = [importlib.import_module(name).METRIC for name in names]
    return {metric.name: metric for metric in sorted(metrics, key=lambda m: (m.name != "wer", m.name))}


def metric_named(name: str) -> Metric:
    """Return one metric.

    Raises:
        OptionError: there is no such metric.
    """
    try:
        return all_metrics()[name]
    except KeyError:
        raise OptionError(f"--eval_metrics {name}: no such metric. Known: {', '.join(all_metrics())}.") from None
