"""Result files under the names that transformers' `Trainer.save_metrics` gives them, and the hash of a protocol."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechtune.files import read_json, write_atomically

__all__ = ["evaluation_files", "merge_into_all_results", "protocol_hash", "write_results", "write_train_results"]


def evaluation_files(suffix: str = "", *, baseline: bool = False) -> tuple[str, str]:
    """Return the names of an evaluation's files of results and of hypotheses.

    Args:
        suffix: of a further set: "_unseen_voice".
        baseline: it is of the starting model, before training.
    """
    results, hypotheses = ("baseline_results", "baseline_hypotheses") if baseline else ("eval_results", "hypotheses")
    return f"{results}{suffix}.json", f"{hypotheses}{suffix}.jsonl"


def write_train_results(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write train_results.json and merge the metrics into all_results.json."""
    write_results(folder / "train_results.json", metrics)
    merge_into_all_results(folder, metrics)


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write a JSON object; numbers that are not finite become null."""
    write_atomically(path, json.dumps(_finite(results), ensure_ascii=False, indent=2) + "\n")


def merge_into_all_results(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Add flat numbers to all_results.json: the union of the metrics of training and evaluation."""
    numbers = {name: value for name, value in metrics.items() if isinstance(value, (int, float))}
    merged = {**read_json(folder / "all_results.json"), **numbers}
    write_results(folder / "all_results.json", dict(sorted(merged.items())))


def protocol_hash(protocol: Mapping[str, Any]) -> str:
    """Return 12 hexadecimal digits over everything that changes a hypothesis or a score; order does not matter.

    Args:
        protocol: normaliser, filters, padding, encoder context, generation settings, language, task, precision, ...
    """
    text = json.dumps(protocol, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _finite(value: Any) -> Any:
    """Replace nan and infinity, which JSON doesn't have, by None."""
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
