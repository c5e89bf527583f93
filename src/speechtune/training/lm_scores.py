"""The language model in the evaluation of a run: built from the training text, and scored beside the model alone.

The scores of a training are those of the model alone, which compare with those before it; with the language model there
is an evaluation more. `speechtune evaluate` scores both, with the language model and without, in one pass.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from speechtune.decoding.search import LM_NAMES, WEIGHTS, attached_search, uses_search
from speechtune.distributed import on_first
from speechtune.evaluation.evaluate import Evaluation
from speechtune.options.table import Settings
from speechtune.plan.plan import RunPlan
from speechtune.terminal.scores import gain_text
from speechtune.text.ngrams.arpa import write_arpa
from speechtune.text.ngrams.build import build_ngrams
from speechtune.training.evaluations import ScoredSet, scores_row, write_scores

if TYPE_CHECKING:
    from speechtune.training.trainer import SpeechTrainer

__all__ = ["build_language_model", "score_other_way", "score_with_search"]

log = logging.getLogger("speechtune")


def build_language_model(plan: RunPlan, texts: Sequence[str]) -> None:
    """Write the n-gram model of normalised training texts into the output folder; every process has to call it."""

    def build() -> None:
        for name in (*LM_NAMES, WEIGHTS):  # of an earlier training
            (plan.folder / name).unlink(missing_ok=True)
        ngrams, path = build_ngrams(texts), plan.folder / LM_NAMES[0]
        write_arpa(ngrams, path)
        sizes = ", ".join(f"{len(part.rows):,}" for part in ngrams.orders)
        log.info(f"language model: {sizes} n-grams of 1 to {len(ngrams.orders)} words of the training text -> {path}")

    on_first(build)


def score_with_search(scored: ScoredSet, trainer: SpeechTrainer, settings: Settings | None = None) -> Evaluation:
    """Evaluate the trainer's model with the language model, hot words and beams of the options."""
    with attached_search(trainer.recogniser, settings or scored.plan.settings, normalise=scored.data.normalise):
        return scored.score(trainer)


def score_other_way(
    scored: ScoredSet, evaluation: Evaluation, trainer: SpeechTrainer, *, is_first: bool, **facts: Any
) -> tuple[list[dict[str, Any]], str]:
    """Write the scores with the language model after a training, those without it after an evaluation with it.

    Every process has to call it.

    Args:
        evaluation: of the run.
        facts: written with the results.

    Returns:
        Rows for the table in the terminal, and a line with the difference; nothing where no search was asked for.
    """
    plan = scored.plan
    if not uses_search(plan.settings):
        return [], ""
    if plan.do_train:
        folder = str(plan.folder) if plan.settings.lm == "auto" else plan.settings.model_name_or_path
        aided = other = score_with_search(scored, trainer, replace(plan.settings, model_name_or_path=folder))
    else:
        aided, other = evaluation, evaluation.without_help()
    if not aided.unaided or not is_first:
        return [], ""
    gain, what = aided.gain(), "lm" if plan.settings.lm else "search"
    facts_of_aided = facts | {f"gain_of_{what}": gain}
    way, protocol = ("with", plan.aided_protocol) if plan.do_train else ("without", plan.unaided_protocol)
    name = f"{plan.scored}, {way} {what}"
    named = replace(scored, plan=replace(plan, suffix=f"_{way}_{what}", protocol=protocol))
    write_scores(named, other, **(facts_of_aided if plan.do_train else facts), name=name)
    if not plan.do_train:
        write_scores(scored, evaluation, **facts_of_aided)
    return [scores_row(name, other, plan.metric_names)], gain_text(gain)
