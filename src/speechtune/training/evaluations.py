"""The evaluations of a run: its own split and further sets, by the trained model and, before, by the starting one."""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechtune.corpora.table import SplitTable
from speechtune.data.dataset import SpeechDataset
from speechtune.distributed import on_first
from speechtune.errors import ModelError
from speechtune.evaluation.analysis import analyse
from speechtune.evaluation.before_after import Change
from speechtune.evaluation.evaluate import Evaluation, write_evaluation
from speechtune.evaluation.result_files import evaluation_files
from speechtune.evaluation.slices import with_columns
from speechtune.files import read_json
from speechtune.models.recogniser import Recogniser
from speechtune.models.weights import weights_version
from speechtune.plan.plan import RunPlan
from speechtune.training.build import build_recogniser, build_trainer
from speechtune.training.data import CorpusData, Datasets, build_datasets, read_corpus
from speechtune.types import Skipped

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from speechtune.training.data import AnyDataset
    from speechtune.training.trainer import SpeechTrainer

__all__ = [
    "ScoredSet", "build_set", "evaluate_baseline", "evaluation_identity", "scores_row", "with_before", "write_scores",
]  # fmt: skip

log = logging.getLogger("speechtune")


@dataclass(frozen=True, eq=False)
class ScoredSet:
    """A split to score.

    Args:
        plan: of this evaluation.
        data: its rows and normalisers.
        dataset: its batches.
        language: that the model is told, where it is not the run's own.
    """

    plan: RunPlan
    data: CorpusData
    dataset: AnyDataset
    language: str | None = None

    def score(self, trainer: SpeechTrainer) -> Evaluation:
        """Evaluate the trainer's model; every process has to call it, and gets the whole."""
        with trainer.recogniser.speaking(self.language):
            return trainer.recognise(self.dataset, normalise=self.data.normalise_hypothesis)

    def skipped(self, evaluation: Evaluation) -> list[Skipped]:
        """Return the utterances that have no score."""
        dropped = self.dataset.split.dropped if isinstance(self.dataset, SpeechDataset) else []
        return [*dropped, *evaluation.skipped]


def build_set(plan: RunPlan, recogniser: Recogniser, args: TrainingArguments, *, own_language: str | None) -> ScoredSet:
    """Encode the split of an evaluation beside the run's own.

    Args:
        own_language: of the run.

    Raises:
        CorpusError: more is skipped than --max_skipped allows.
        OptionError: the model doesn't have its language.
    """
    language = plan.language if plan.language != own_language else None
    data = read_corpus(plan)
    with recogniser.speaking(language):
        dataset = build_datasets(plan, data, recogniser, args).evaluation
    assert dataset is not None
    return ScoredSet(plan, data, dataset, language)


def write_scores(
    scored: ScoredSet,
    evaluation: Evaluation,
    *,
    baseline: bool = False,
    training_words: Mapping[str, int] | None = None,
    **facts: Any,
) -> None:
    """Write an evaluation's results and hypotheses into the output folder.

    Args:
        training_words: how often each word is in the training text.
        facts: further results, such as the epoch.
    """
    plan, normaliser = scored.plan, scored.plan.settings.normaliser
    is_plain = normaliser == "default" and not plan.settings.spell_numbers
    words = training_words if is_plain else None  # else references are not written as it is
    if isinstance(scored.data.evaluation, SplitTable):
        evaluation.hypotheses = with_columns(evaluation.hypotheses, scored.data.evaluation)
    results = {
        **evaluation.metrics(plan.metric_names),
        "scores": evaluation.scores(plan.metric_names),
        "analysis": analyse(
            evaluation, training_words=words, as_written="wer_as_written" in plan.metric_names or normaliser == "none"
        ),
        "protocol": {**plan.protocol, "skipped": len(scored.skipped(evaluation))},
        **evaluation_identity(plan),
        **({"name": plan.scored} if plan.suffix else {}),
        **facts,
    }
    write_evaluation(evaluation, results, folder=plan.folder, suffix=plan.suffix, baseline=baseline)


def scores_row(name: str, evaluation: Evaluation, metrics: Sequence[str]) -> dict[str, Any]:
    """Return a row of the table in the terminal."""
    scores = evaluation.scores(metrics) if not evaluation.results else evaluation.results["scores"]
    hours = evaluation.audio_s / 3600
    return {"name": name, "scores": scores, "utterances": len(evaluation.hypotheses), "hours": hours}


def with_before(
    rows: Sequence[Mapping[str, Any]], found: Sequence[Change], metrics: Sequence[str]
) -> list[Mapping[str, Any]]:
    """Return the rows of the table, each after that of its set before training, where there is one."""
    before = {change.name: change.before for change in found}
    table: list[Mapping[str, Any]] = []
    for row in rows:
        old = before.get(row["name"])
        if old is not None:
            table.append(scores_row(f"{row['name']}, before training", old, metrics))
        table.append({**row, "name": f"{row['name']}, after"} if old is not None else row)
    return table


def evaluation_identity(plan: RunPlan) -> dict[str, Any]:
    """Return what of which weights is evaluated, for the results file, by which it is known again."""
    settings, name = plan.settings, plan.settings.model_name_or_path
    limit = {"max_eval_samples": settings.max_eval_samples} if settings.max_eval_samples else {}
    names = {"dataset": plan.corpus, "split": settings.eval_split_name, "model": name}
    if not name or Path(name).resolve() == plan.folder.resolve():  # training makes or replaces these weights
        return {**names, **limit}
    version = weights_version(name, cache_dir=settings.cache_dir, revision=settings.model_revision)
    return {**names, "weights": version, **limit}


# ---- the starting model


def evaluate_baseline(plan: RunPlan, args: TrainingArguments) -> None:
    """Evaluate the starting model on the run's sets, but for those that an earlier start of this run has done.

    It is loaded as `speechtune evaluate` loads it, with its own head and tokenizer, and freed before training.
    """
    pending = on_first(lambda: [not _is_done(one) for one in plan.baseline])
    todo = [one for one, is_pending in zip(plan.baseline, pending, strict=True) if is_pending]
    if not todo:
        return
    log.info(f"before training: evaluating {plan.settings.model_name_or_path} (--no_baseline leaves this out)")
    first = plan.baseline[0]
    try:
        recogniser = build_recogniser(first, read_corpus(first), args)
    except ModelError as error:
        reason = str(error).splitlines()[0]
        log.warning(f"no evaluation before training: the starting model can't recognise by itself: {reason}")
        return
    for one in todo:
        scored = build_set(one, recogniser, args, own_language=plan.language)
        trainer = build_trainer(one, scored.data, recogniser, Datasets(None, scored.dataset), args)
        evaluation = scored.score(trainer)
        if args.process_index == 0:
            write_scores(scored, evaluation, baseline=True)
        del scored, trainer
    del recogniser
    _free_memory()


def _is_done(plan: RunPlan) -> bool:
    """Whether this evaluation of the starting model is in the folder."""
    results = read_json(plan.folder / evaluation_files(plan.suffix, baseline=True)[0])
    same = {**evaluation_identity(plan), "max_eval_samples": plan.settings.max_eval_samples}
    is_same = all(results.get(name) == value for name, value in same.items())
    return is_same and (results.get("protocol") or {}).get("hash") == plan.protocol["hash"]


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
