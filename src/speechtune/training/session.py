"""Train, evaluate and save what was built for a run."""

from __future__ import annotations

import logging
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechtune.data.dataset import SpeechDataset
from speechtune.errors import TrainingError
from speechtune.evaluation.result_files import write_results, write_train_results
from speechtune.files import as_jsonl
from speechtune.models.lora import ADAPTER_WEIGHTS, has_lora
from speechtune.models.recogniser import Recogniser, is_sharded
from speechtune.plan.checkpoints import explain_disk_full, newest_whole
from speechtune.plan.output_folder import drop_later_steps, remove_other_weights, write_settings
from speechtune.plan.plan import RunPlan
from speechtune.terminal.formatting import visible
from speechtune.training.build import build_trainer
from speechtune.training.data import CorpusData, Datasets, corpus_audio
from speechtune.training.evaluations import ScoredSet, build_set, scores_row, with_before, write_scores
from speechtune.training.lm_scores import score_other_way, score_with_search
from speechtune.training.mixing import choose_weights, keep_starting_weights
from speechtune.training.progress import TrainingProgress
from speechtune.training.signals import StopAtSignal, stop_signals
from speechtune.training.skipped import SkippedRecord

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from speechtune.evaluation.evaluate import Evaluation

__all__ = ["Session"]

log = logging.getLogger("speechtune")


@dataclass
class Session:
    """Everything that was built for a run.

    Args:
        plan: what was decided.
        args, recogniser, data, datasets: what was built from it.
    """

    plan: RunPlan
    args: TrainingArguments
    recogniser: Recogniser
    data: CorpusData
    datasets: Datasets

    def __post_init__(self) -> None:
        plan, data = self.plan, self.data
        self.sets: list[ScoredSet] = []
        if self.datasets.evaluation is not None:
            self.sets.append(ScoredSet(plan, data, self.datasets.evaluation))
        others = [
            build_set(one, self.recogniser, self.args, own_language=plan.language)
            for one in (*plan.further, *([plan.selection] if plan.selection and plan.selection.suffix else []))
        ]
        self.selection = others.pop() if len(others) > len(plan.further) else None
        self.sets += others
        self.evaluations: dict[str, Evaluation] = {}  # of the weights that were kept, by suffix of the set
        self.starting_weights: Path | None = None
        self.is_first = self.args.process_index == 0
        self.folder = self.plan.folder
        self.stop, self.skipped = StopAtSignal(), SkippedRecord(plan, self.datasets)
        self.trainer = build_trainer(
            self.plan,
            self.data,
            self.recogniser,
            self.datasets,
            self.args,
            on_bad_step=self._write_bad_step,
            check_skipped=self.skipped.check,
            callbacks=[self.stop],
        )
        self.stop.trainer = self.skipped.trainer = self.trainer
        self.progress = TrainingProgress(lambda: self.trainer.audio_seconds)
        self.trainer.show_progress_with(self.progress)

    def describe(self) -> str:
        """Return corpus, model and precision in one line."""
        parts = [self.plan.corpus]
        for role, dataset in (("train", self.datasets.train), ("evaluation", self.datasets.evaluation)):
            if isinstance(dataset, SpeechDataset):
                parts.append(f"{role} {len(dataset)} utterances, {dataset.split.hours:.2f} h")
        facts = self._model_facts()
        model = f"{facts['type']}, {facts['parameters'] / 1e6:.1f} M parameters"
        if self.plan.do_train:
            model += f", {facts['trainable'] / 1e6:.1f} M trained"
        return "; ".join([*parts, model, self.plan.precision.description])

    def train(self) -> int:
        """Train to the end or to a signal; return an exit code.

        Raises:
            TrainingError: too many steps in a row had a non-finite loss or gradient.
        """
        checkpoint = self.plan.resume_from
        if self.plan.mixes_weights:
            self.starting_weights = keep_starting_weights(self.plan, self.recogniser, self.args)
        if self.is_first:
            if checkpoint is not None:
                log.info(f"resuming from {checkpoint} (--overwrite_output_dir starts from scratch)")
            write_settings(
                self.plan,
                corpus={"name": self.plan.corpus, "language": self.plan.language},
                model=self._model_facts(),
                protocol=self.protocol(),
            )
            drop_later_steps(self.folder / "bad_steps.jsonl", checkpoint)
        self.skipped.write()
        try:
            with stop_signals(self.stop, log.warning):
                metrics = self.trainer.train_from(checkpoint)
        finally:
            self.progress.close()
        self.skipped.write()
        state = self.trainer.state
        if self.stop.stopped and state.global_step < state.max_steps:
            where = newest_whole(self.folder, read=False)
            log.warning(f"stopped after step {state.global_step}; saved in {where}. The same command resumes there.")
            return self.stop.exit_code
        if self.trainer.bad_steps.too_many:
            raise TrainingError(
                f"{self.trainer.bad_steps.count} steps had a non-finite loss or gradient, the last ones in a row: "
                f"training stopped at step {state.global_step}, its state is saved.\n"
                f"The utterances are in {self.folder / 'bad_steps.jsonl'}; look at them, or lower --learning_rate."
            )
        self._save_model()
        if self.is_first:
            metrics["skipped_steps"] = self.trainer.bad_steps.count
            if isinstance(self.datasets.train, SpeechDataset):
                metrics["train_samples"] = len(self.datasets.train)
            if self.trainer.num_steps_taken or not (self.folder / "train_results.json").exists():
                write_train_results(self.folder, metrics)
            state.save_to_json(str(self.folder / "trainer_state.json"))
        if self.stop.stopped:
            log.warning(f"trained and saved in {self.folder}; the same command continues with what comes after.")
            return self.stop.exit_code
        return 0

    def choose_weights(self) -> None:
        """Average checkpoints and mix starting and final weights, as the options ask; save the chosen ones."""
        assert self.starting_weights is not None
        selection = self.selection or (self.sets[0] if self.plan.selection is not None else None)
        self.evaluations = choose_weights(
            self.plan, self.trainer, self.sets, selection=selection, starting=self.starting_weights
        )
        self.starting_weights.unlink(missing_ok=True)
        self._save_model()

    def evaluate(self) -> None:
        """Recognise the evaluation split and further sets, and write scores and hypotheses."""
        from speechtune.evaluation.before_after import changes
        from speechtune.terminal.scores import print_scores_table

        rows: list[dict[str, Any]] = []
        more: list[dict[str, Any]] = []
        gain = ""
        facts: dict[str, Any] = {"epoch": self.trainer.state.epoch} if self.trainer.state.epoch else {}
        for scored in self.sets:
            evaluation = self.evaluations.get(scored.plan.suffix)
            if evaluation is None:  # a language model is for all sets or, before and after training, for none
                trainer = self.trainer
                evaluation = scored.score(trainer) if self.plan.do_train else score_with_search(scored, trainer)
            self.trainer.agreement.skipped |= {row.key: row for row in evaluation.skipped}
            if scored is self.sets[0]:
                self.skipped.check(evaluation.skipped, num_recognised=len(evaluation.hypotheses))
            if self.is_first:
                is_own = scored is self.sets[0]
                facts["training_words"] = self.data.training_words() if is_own else None
                silence = self._silence() if is_own and self.plan.settings.probe_silence else {}
                write_scores(scored, evaluation, **facts, **silence)
                rows.append(scores_row(scored.plan.scored, evaluation, self.plan.metric_names))
            if scored is self.sets[0]:
                more, gain = score_other_way(scored, evaluation, self.trainer, is_first=self.is_first, **facts)
        if not self.is_first:
            return
        names = {scored.plan.scored for scored in self.sets}
        found = [change for change in changes(self.folder) if change.name in names] if self.plan.baseline else []
        if found:
            write_results(self.folder / "before_after.json", {change.name: change.as_json() for change in found})
        print_scores_table([*with_before(rows, found, self.plan.metric_names), *more])
        if gain:
            print(gain)
        for change in found:
            (log.warning if change.is_warning else log.info)(change.sentence)

    def _silence(self) -> dict[str, Any]:
        """Return what the model writes where nobody speaks, for the results."""
        from speechtune.evaluation.silence import probe_silence

        if is_sharded(self.trainer.model_wrapped):
            log.warning("--probe_silence: not done with --fsdp; `speechtune evaluate` without it does it")
            return {}
        with self.trainer.accelerator.autocast():
            found = probe_silence(self.recogniser, normalise=self.data.normalise_hypothesis)
        clips = f"in {found['clips_with_words']} of {found['clips']} clips"
        log.info(f"{found['seconds']:.0f} s without speech: {found['words']} words written, {clips}")
        return {"silence": found}

    def finish(self) -> None:
        """Write what was skipped and the report, and say where they are."""
        from speechtune.reporting.report import write_report

        if not self.is_first:
            return
        self.skipped.write()
        settings = self.plan.settings
        read_audio = corpus_audio(settings, [self.data.evaluation])
        path = write_report(self.folder, report_audio_mb=settings.report_audio_mb, read_audio=read_audio)
        log.info(f"report: {path}")

    def protocol(self) -> dict[str, Any]:
        """Return how scores are computed, with the number of utterances that have none."""
        evaluation = self.data.evaluation
        excluded = [row for row in self.skipped.rows() if evaluation is not None and row.split == evaluation.split]
        return {**self.plan.protocol, "skipped": len(excluded)}

    def _save_model(self) -> None:
        """Write the trained model into the output folder, each file in one move.

        Raises:
            ModelError: a weight is not finite; such a model is no result.
        """
        from speechtune.models.ctc.adapter import save_adapter
        from speechtune.models.loading import check_finite

        advice = f"It is not saved; the checkpoints in {self.folder} are kept. Lower --learning_rate, or use fp32."
        check_finite(self.recogniser.model, where=f"{self.folder}: the trained model", advice=advice)

        temporary = self.folder / "tmp-model"
        with explain_disk_full("the model", self.folder):
            self.trainer.save_model(str(temporary))
            if self.is_first:
                self.recogniser.save_processor(temporary)
                if self.plan.settings.target_language is not None:
                    save_adapter(self.recogniser.model, self.plan.settings.target_language, temporary)
                written = sorted(temporary.iterdir())
                for path in written:
                    path.replace(self.folder / path.name)
                shutil.rmtree(temporary)
                remove_other_weights(self.folder, kept={path.name for path in written})
                if has_lora(self.recogniser.model):
                    size_mb = (self.folder / ADAPTER_WEIGHTS).stat().st_size / 1e6
                    log.info(
                        f"{self.folder}: an adapter, {size_mb:,.1f} MB, of {self.plan.settings.model_name_or_path}; "
                        f"`speechtune export {shlex.quote(str(self.folder))} --output_dir DIR` merges the two"
                    )

    def _model_facts(self) -> dict[str, Any]:
        model = self.recogniser.model
        return {
            "type": model.config.model_type,
            "parameters": model.num_parameters(),
            "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "from": self.plan.settings.model_name_or_path,
            "precision": self.plan.precision.description,
        }

    def _write_bad_step(self, row: dict[str, Any]) -> None:
        path: Path = self.folder / "bad_steps.jsonl"
        with path.open("a", encoding="utf-8") as file:
            file.write(as_jsonl([row]))
        names = ", ".join(visible(entry["file"]) for entry in row["utterances"][:3]) or "no single utterance"
        log.warning(f"step {row['step']} skipped: its {row['non_finite']} is not finite ({names}) -> {path}")
