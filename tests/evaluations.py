"""Hypotheses and evaluations by hand, and their files as a run writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from speechtune.evaluation.evaluate import Evaluation, write_evaluation
from speechtune.evaluation.metrics.cer import character_edits
from speechtune.evaluation.metrics.wer import word_edits
from speechtune.types import Hypothesis


def hypothesis(id: str, reference: str, text: str, **more: Any) -> Hypothesis:
    words, characters = word_edits(reference, text), character_edits(reference, text)
    return Hypothesis(id, reference, text, words, characters, **more)


def write(folder: Path, *rows: Hypothesis, suffix: str = "", **results: Any) -> None:
    evaluation = Evaluation(list(rows))
    content = {**evaluation.metrics(), "scores": evaluation.scores(), **results}
    write_evaluation(evaluation, content, folder=folder, suffix=suffix)
