"""After training: averages of checkpoints, and mixtures of the starting and the final weights.

Mixing the weights of a fine-tuned model with those it started from keeps much of what it knew (WiSE-FT: Wortsman et al.
2022, arXiv 2109.01903; for speech recognition arXiv 2210.15282). Which mixture is kept is decided on the validation
split alone: on the test split its score would be too good. Without a validation split the final weights are kept.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechtune.distributed import from_first
from speechtune.errors import OptionError
from speechtune.evaluation.evaluate import Evaluation
from speechtune.evaluation.result_files import write_results
from speechtune.models.recogniser import Recogniser, is_sharded
from speechtune.models.weights import load_mixture, save_weights
from speechtune.plan.checkpoints import checkpoints, explain_disk_full, is_whole
from speechtune.plan.plan import RunPlan
from speechtune.terminal.formatting import percent
from speechtune.training.evaluations import ScoredSet

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from speechtune.training.trainer import SpeechTrainer

__all__ = ["choose_weights", "keep_starting_weights"]

log = logging.getLogger("speechtune")

STARTING, FINAL = ".starting-weights.tmp", ".final-weights.tmp"  # removed at the end, or by the next start
FINAL_FOLDER = "final-weights"

Parts = list[tuple[Path, float]]  # files of weights, and the share of each


def keep_starting_weights(plan: RunPlan, recogniser: Recogniser, args: TrainingArguments) -> Path:
    """Write the weights that training starts from beside the output, and return the file.

    Raises:
        OptionError: they can't be mixed with the final ones.
    """
    settings = plan.settings
    option = "--interpolate_weights" if settings.interpolate_weights else "--average_checkpoints"
    if args.fsdp or is_sharded(recogniser.model):
        raise OptionError(f"{option} with --fsdp: no process has all weights. Leave one of them out.")
    if settings.interpolate_weights and recogniser.has_new_head:
        raise OptionError(
            "--interpolate_weights: the model starts with a new head, which recognises nothing, so there is nothing to "
            "mix with.\nIt is for models that recognise before training, such as Whisper, or CTC models with the "
            "corpus' letters."
        )
    path = plan.folder / STARTING
    if args.process_index == 0 and settings.interpolate_weights:
        with explain_disk_full("the starting weights", plan.folder):
            save_weights(recogniser.model, path)
    return path


def choose_weights(
    plan: RunPlan, trainer: SpeechTrainer, sets: Sequence[ScoredSet], *, selection: ScoredSet | None, starting: Path
) -> dict[str, Evaluation]:
    """Leave the chosen weights in the model and write interpolation.json.

    Args:
        sets: what is evaluated; empty where the run evaluates nothing.
        selection: what is chosen by; None keeps the final weights, or the one mixture that the user named.
        starting: file of the starting weights.

    Returns:
        Evaluations of the chosen weights by suffix of the set, as far as there are any.
    """
    final = plan.folder / FINAL
    is_first = trainer.args.process_index == 0
    if is_first:
        with explain_disk_full("the final weights", plan.folder):
            save_weights(trainer.recogniser.model, final)
    trainer._wait()
    try:
        mixer = _Mixer(plan, trainer, sets, selection)
        parts = mixer.average([(final, 1.0)])
        parts = mixer.interpolate(starting, parts)
        if parts != [(final, 1.0)]:
            load_mixture(trainer.recogniser.model, [(final, 1.0)])
            mixer.record["final_weights"] = _keep_final(plan, trainer)
        load_mixture(trainer.recogniser.model, parts)
        trainer._wait()
    finally:
        if is_first:
            final.unlink(missing_ok=True)
    if is_first:
        write_results(plan.folder / "interpolation.json", mixer.record)
    return mixer.kept


class _Mixer:
    """Mixtures of one run, evaluated.

    Args:
        plan, trainer, sets, selection: as of `choose_weights`.
    """

    def __init__(
        self, plan: RunPlan, trainer: SpeechTrainer, sets: Sequence[ScoredSet], selection: ScoredSet | None
    ) -> None:
        self.plan, self.trainer, self.sets, self.selection = plan, trainer, sets, selection
        self.record: dict[str, Any] = {"selection": selection.plan.scored if selection is not None else None}
        self.kept: dict[str, Evaluation] = {}

    def average(self, parts: Parts) -> Parts:
        """Return the parts of the average of checkpoints where it is better on the selection split, else `parts`."""
        if not self.plan.settings.average_checkpoints:
            return parts
        found = _best_or_last(self.plan, self.trainer, self.plan.settings.average_checkpoints)
        if len(found) < 2:
            log.warning(
                f"--average_checkpoints: {len(found)} whole checkpoints in {self.plan.folder}, so there is nothing to "
                "average. A smaller --save_steps writes more, a larger --save_total_limit keeps more."
            )
            return parts
        names = [path.name for path in found]
        averaged = [(path, 1 / len(found)) for path in found]
        record: dict[str, Any] = {"checkpoints": names, "kept": False}
        if self.selection is not None:
            before, after = self._score(parts, [self.selection]), self._score(averaged, [self.selection])
            old, new = (next(iter(scores.values())).wer for scores in (before, after))
            record |= {"wer_final": old, "wer_average": new, "kept": new < old}
            kept = "kept" if new < old else "not kept"
            log.info(f"average of {', '.join(names)}: WER {percent(new)}, final weights {percent(old)}: {kept}")
        self.record["average"] = record
        return averaged if record["kept"] else parts

    def interpolate(self, starting: Path, parts: Parts) -> Parts:
        """Return the parts of the chosen mixture of the starting weights with `parts`."""
        weights = sorted(set(self.plan.settings.interpolate_weights or ()))
        if not weights:
            return parts
        mixtures = {w: [(starting, 1 - w), *((path, w * share) for path, share in parts)] for w in weights}
        if len(weights) == 1 and not self.sets:
            return mixtures[weights[0]]
        scored = list(self.sets)
        if self.selection is not None and self.selection not in scored:
            scored.append(self.selection)
        found = {weight: self._score(mixtures[weight], scored) for weight in weights}
        chosen = weights[0] if len(weights) == 1 else 1.0
        if self.selection is not None:
            suffix = self.selection.plan.suffix
            chosen = min(weights, key=lambda weight: (found[weight][suffix].total("wer").rate, -weight))
        names = {one.plan.suffix: one.plan.scored for one in scored}
        self.record["kept"] = chosen
        self.record["mixtures"] = [
            {"weight": weight, "scores": {names[key]: one.scores(self.plan.metric_names) for key, one in row.items()}}
            for weight, row in found.items()
        ]
        for weight, row in found.items():
            rates = ", ".join(f"{names[key]} {percent(one.wer)}" for key, one in row.items())
            log.info(f"{weight:g} of the final weights: WER {rates}{'  <- kept' if weight == chosen else ''}")
        self.kept = found.get(chosen, {})
        return mixtures.get(chosen, parts) if chosen < 1 else parts

    def _score(self, parts: Parts, sets: Sequence[ScoredSet]) -> dict[str, Evaluation]:
        load_mixture(self.trainer.recogniser.model, parts)
        return {one.plan.suffix: one.score(self.trainer) for one in sets}


def _best_or_last(plan: RunPlan, trainer: SpeechTrainer, number: int) -> list[Path]:
    """Return the whole checkpoints with the lowest WER while training; where they were not evaluated, the last."""
    rates = {row["step"]: row["eval_wer"] for row in trainer.state.log_history if row.get("eval_wer") is not None}
    found = from_first([path for path in checkpoints(plan.folder) if is_whole(path, read=False)])
    steps = {path: int(path.name.rpartition("-")[2]) for path in found}
    if all(step in rates for step in steps.values()):
        found = sorted(found, key=lambda path: (rates[steps[path]], -steps[path]))[:number]
        return sorted(found, key=steps.__getitem__)
    return found[-number:]


def _keep_final(plan: RunPlan, trainer: SpeechTrainer) -> str:
    """Return the folder that holds the final weights, which the model has now; write one where no checkpoint does."""
    folder, state = plan.folder, trainer.state
    checkpoint = folder / f"checkpoint-{state.global_step}"
    if trainer.args.load_best_model_at_end and state.best_model_checkpoint:
        checkpoint = Path(state.best_model_checkpoint)
    if from_first(is_whole(checkpoint, read=False)):
        name = checkpoint.name
    else:
        name = FINAL_FOLDER
        trainer.save_model(str(folder / name))
        if trainer.args.process_index == 0:
            trainer.recogniser.save_processor(folder / name)
    log.info(f"the final weights, unmixed, stay in {folder / name}")
    return name
