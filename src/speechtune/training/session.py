"""The parts of one run, and what is done with them in turn: train, evaluate, write down."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechtune.data.prepare import check_share_skipped
from speechtune.errors import TrainingError
from speechtune.files import write_atomically
from speechtune.options.table import Options
from speechtune.terminal.formatting import visible
from speechtune.training.checkpoint import explain_disk_full, newest_whole
from speechtune.training.data import Splits, dataset_of, encoder_store_for, reader_for
from speechtune.training.output_folder import forget_later_steps, write_settings, write_skipped
from speechtune.types import Skipped

__all__ = ["Session"]

log = logging.getLogger("speechtune")
FEW = 100  # utterances of a stream: before, a share says little


class Session:
    """The parts of one run, and what is done with them in turn."""

    def __init__(
        self,
        options: Options,
        args: Any,
        folder: Path,
        recogniser: Any,
        splits: Splits,
        normalise: Any,
        *,
        precision: str,
    ) -> None:
        self.options, self.args, self.folder = options, args, folder
        self.recogniser, self.splits, self.normalise = recogniser, splits, normalise
        self.precision = precision  # in words
        self.first = args.process_index == 0

    def build(self, train_split: Any, eval_split: Any, normalise_hypothesis: Any) -> None:
        """Datasets, trainer and callbacks."""
        from speechtune.data.batching import with_total
        from speechtune.training.progress import TrainingProgress
        from speechtune.training.signals import StopAtSignal
        from speechtune.training.trainer import SpeechTrainer

        reader = reader_for(self.options, self.recogniser.sampling_rate)
        self.train_set, self.eval_set = (
            dataset_of(
                rows,
                split,
                reader,
                options=self.options,
                args=self.args,
                recogniser=self.recogniser,
                normalise=self.normalise,
                train=train,
            )
            for rows, split, train in (
                (self.splits.train, train_split, True),
                (self.splits.evaluation, eval_split, False),
            )
        )
        config, args = self.options.config, self.args
        per_device = self._batch_settings()
        if config.encoder_cache and self.train_set is not None:
            self.recogniser.keep_encoded(encoder_store_for(self.options))
        self.stop = StopAtSignal()
        self.trainer: Any = SpeechTrainer(
            self.recogniser,
            args,
            train_set=self.train_set,
            eval_set=self.eval_set,
            settings=with_total(per_device, num_parts=args.world_size * args.gradient_accumulation_steps),
            normalise=normalise_hypothesis,
            metric_names=_metric_names(config),
            on_bad_step=self._write_bad_step,
            check_skipped=self._check_skipped,
            callbacks=[self.stop],
        )
        self.stop.trainer = self.trainer
        self.progress = TrainingProgress(lambda: self.trainer.audio_seconds)
        _show_progress_with(self.trainer, self.progress)

    def _batch_settings(self) -> Any:
        """What one forward and backward pass of a process takes, and the order of an epoch."""
        from speechtune.data.batching import BatchSettings
        from speechtune.data.dataset import SpeechDataset

        wish, args = self.options.config.batch_seconds, self.args
        if wish is None or not isinstance(self.train_set, SpeechDataset):  # a stream's batches are counted
            return BatchSettings(
                utterances_per_step=args.per_device_train_batch_size, order=_order(args), seed=args.seed
            )
        if wish == "auto":
            seconds = self._batch_seconds_before() or self._found_batch_seconds(self.train_set.split)
        else:
            seconds = float(wish)
        return BatchSettings(seconds_per_step=seconds, order=_order(args), seed=args.seed)

    def _batch_seconds_before(self) -> float | None:
        """What `--batch_seconds auto` found when the run was begun: a run that goes on keeps its steps."""
        from speechtune.distributed import from_first
        from speechtune.training.data_state import DataState

        seconds = None
        checkpoint = newest_whole(self.folder, read=False) if self.first else None
        if checkpoint is not None:
            state = DataState.read(checkpoint)
            total = state.done[-1].settings.seconds_per_step if state.done else None
            seconds = total / state.parts if total else None
        return from_first(seconds)

    def _found_batch_seconds(self, split: Any) -> float:
        """`--batch_seconds auto`; the smallest of all processes."""
        import torch

        from speechtune.data.auto_batch import find_batch_seconds
        from speechtune.errors import OptionError

        args = self.args
        if getattr(args, "fsdp", None):
            raise OptionError("--batch_seconds auto with --fsdp: a sharded model can't be tried. Give a number.")
        model = self.recogniser.model.to(args.device)
        if args.gradient_checkpointing:
            model.gradient_checkpointing_enable(args.gradient_checkpointing_kwargs)
        half = torch.float16 if args.fp16 else torch.bfloat16
        found = find_batch_seconds(
            self.recogniser,
            split.table.durations_s,
            labels_per_s=len(split.label_ids) / max(split.hours * 3600, 1.0),
            device=args.device,
            autocast=lambda: torch.autocast(args.device.type, half, enabled=args.fp16 or args.bf16),
            num_parts=args.world_size * args.gradient_accumulation_steps,
        )
        log.info(found.line)
        smallest = torch.tensor(found.seconds, device=args.device)
        if args.world_size > 1:
            torch.distributed.all_reduce(smallest, op=torch.distributed.ReduceOp.MIN)
        return float(smallest)

    def opening_line(self) -> str:
        """Corpus, model and precision in one line."""
        from speechtune.data.dataset import SpeechDataset

        parts = [f"{self.splits.name}"]
        for role, dataset in (("train", self.train_set), ("evaluation", self.eval_set)):
            if isinstance(dataset, SpeechDataset):
                parts.append(f"{role} {len(dataset)} utterances, {dataset.split.hours:.2f} h")
        model = self.recogniser.model
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        parts.append(
            f"{model.config.model_type}, {model.num_parameters() / 1e6:.1f} M parameters, "
            f"{trainable / 1e6:.1f} M trained"
        )
        return "; ".join([*parts, self.precision])

    def train(self, *, resumes: bool) -> int:
        """Train to the end or to a signal; returns an exit code."""
        from speechtune.training.signals import stop_signals

        checkpoint = self._checkpoint_to_go_on_from(resumes)
        if self.first:
            write_settings(
                self.options,
                corpus={"name": self.splits.name, "language": self.splits.language},
                model=self._model_facts(),
                protocol=self.protocol(),
            )
            write_skipped(self.folder, self._skipped())
            forget_later_steps(self.folder / "bad_steps.jsonl", checkpoint)
        try:
            with stop_signals(self.stop, log.warning):
                result = self.trainer.train_from(checkpoint)
        finally:
            self.progress.close()
        if self.first:
            write_skipped(self.folder, self._skipped())
        is_complete = self.trainer.state.global_step >= self.trainer.state.max_steps
        if self.stop.stopped and not is_complete:
            where = newest_whole(self.folder, read=False)
            log.warning(
                f"stopped after step {self.trainer.state.global_step}; saved in {where}. "
                "The same command goes on from there."
            )
            return self.stop.exit_code
        if self.trainer.bad_steps.too_many:
            raise TrainingError(
                f"{self.trainer.bad_steps.count} steps had a non-finite loss or gradient, the last ones in a row: "
                f"training stopped at step {self.trainer.state.global_step}, its state is saved.\n"
                f"The utterances are in {self.folder / 'bad_steps.jsonl'}; "
                "look at them, or lower --learning_rate."
            )
        self._save_model()
        if self.first:
            metrics = {
                **result.metrics,
                "skipped_steps": self.trainer.bad_steps.count,
            }
            if self.trainer.sampler is not None:
                metrics["train_samples"] = len(self.train_set)
            write_atomically(self.folder / "train_results.json", json.dumps(metrics, indent=2) + "\n")
            self.trainer.state.save_to_json(str(self.folder / "trainer_state.json"))
        if self.stop.stopped:
            log.warning(f"trained and saved in {self.folder}; the same command goes on with what comes after.")
            return self.stop.exit_code
        return 0

    def evaluate(self) -> None:
        """Recognise the evaluation split and write what came out."""
        from speechtune.evaluation.evaluate import write_evaluation
        from speechtune.terminal.scores import print_scores_table

        names = _metric_names(self.options.config)
        evaluation = self.trainer.recognise(self.eval_set)
        self.trainer.skipped |= {(row.split, row.id): row for row in evaluation.skipped}
        self._check_skipped(evaluation.skipped, num_recognised=len(evaluation.hypotheses))
        if not self.first:
            return
        scores = evaluation.scores(names)
        results = {
            **evaluation.metrics(names),
            **({"epoch": self.trainer.state.epoch} if self.trainer.state.epoch else {}),
            "scores": scores,
            "protocol": self.protocol(),
            "dataset": self.splits.name,
            "split": self.options.config.eval_split_name,
            "model": self.options.config.model_name_or_path,
        }
        write_evaluation(evaluation, results, folder=self.folder)
        print_scores_table(
            [
                {
                    "name": f"{self.splits.name} {results['split']}",
                    "scores": scores,
                    "utterances": len(evaluation.hypotheses),
                    "hours": evaluation.audio_s / 3600,
                }
            ]
        )

    def finish(self) -> None:
        """Write what was skipped and the report, and say where they are."""
        from speechtune.reporting.report import write_report

        if not self.first:
            return
        write_skipped(self.folder, self._skipped())
        report = write_report(self.folder)
        log.info(f"report: {report}")

    def protocol(self) -> dict[str, Any]:
        """How scores are made: normaliser, filters, counts."""
        config = self.options.config
        filters = {}
        if config.protocol == "readme":
            filters = {
                "min_duration_s": config.min_duration_in_seconds,
                "max_duration_s": config.max_duration_in_seconds,
            }
        dropped = [
            row
            for row in self._skipped()
            if self.splits.evaluation is not None and row.split == self.splits.evaluation.split
        ]
        return {
            "name": config.protocol,
            "normalizer": self.normalise.describe(),
            "filters": filters,
            "padding": config.padding,
            "skipped": len(dropped),
            "hash": self.normalise.hash(),
        }

    def _checkpoint_to_go_on_from(self, resumes: bool) -> Path | None:
        from speechtune.distributed import from_first

        asked = self.args.resume_from_checkpoint
        checkpoint = Path(asked) if isinstance(asked, str) and asked.lower() != "true" else None
        if checkpoint is None:  # one process looks: reading a large checkpoint takes seconds
            checkpoint = from_first(newest_whole(self.folder) if resumes and self.first else None)
        if checkpoint is not None and self.first:
            log.info(f"going on from {checkpoint} (--overwrite_output_dir starts anew)")
        return checkpoint

    def _save_model(self) -> None:
        """The trained model into the output folder, file by file in one move each."""
        from speechtune.models.ctc.adapter import save_adapter

        aside = self.folder / "tmp-model"
        with explain_disk_full("the model", self.folder):
            self.trainer.save_model(str(aside))
            if self.first:
                self.recogniser.save_processor(aside)
                if self.options.config.target_language is not None:
                    save_adapter(self.recogniser.model, self.options.config.target_language, aside)
                for path in sorted(aside.iterdir()):
                    path.replace(self.folder / path.name)
                shutil.rmtree(aside)

    def _skipped(self) -> list[Any]:
        from speechtune.data.dataset import SpeechDataset

        rows = []
        for dataset in (self.train_set, self.eval_set):
            rows += dataset.split.dropped if isinstance(dataset, SpeechDataset) else []
        return rows + list(self.trainer.skipped.values())

    def _check_skipped(self, rows: Sequence[Skipped], *, num_recognised: int = 0) -> None:
        """Hold what turned out to be unusable against the user's limit, with what was skipped before.

        Args:
            rows: of any split.
            num_recognised: of the evaluation split, where it is a stream: its length is known at its end only.

        Raises:
            CorpusError: it is more than that.
        """
        from speechtune.data.dataset import SpeechDataset

        if self.first:
            write_skipped(self.folder, self._skipped())
        for role, dataset in (("train", self.train_set), ("evaluation", self.eval_set)):
            if dataset is None:
                continue
            config = self.options.config
            is_table = isinstance(dataset, SpeechDataset)
            found = [row for row in rows if row.split == (dataset.split.table if is_table else dataset.stream).split]
            if is_table:
                skipped = list({(row.split, row.id): row for row in [*dataset.split.dropped, *found]}.values())
                total = len(dataset.split) + len(dataset.split.dropped)
            else:
                skipped = found
                num_used = self.trainer.num_utterances if role == "train" else num_recognised
                total = num_used + len(found)
                is_early = role == "train" or num_recognised  # a share of few says nothing yet
                if total < FEW and is_early and not config.strict:
                    continue
            if found:
                check_share_skipped(
                    role,
                    skipped,
                    total=total,
                    max_share=config.max_skipped,
                    strict=config.strict,
                    path=str(self.folder / "skipped.jsonl"),
                )

    def _model_facts(self) -> dict[str, Any]:
        model = self.recogniser.model
        return {
            "type": model.config.model_type,
            "parameters": model.num_parameters(),
            "from": self.options.config.model_name_or_path,
            "precision": self.precision,
        }

    def _write_bad_step(self, row: dict[str, Any]) -> None:
        with (self.folder / "bad_steps.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        names = ", ".join(visible(entry["file"]) for entry in row["utterances"][:3]) or "no single utterance"
        log.warning(
            f"step {row['step']} skipped: its {row['non_finite']} is not finite ({names}) -> "
            f"{self.folder / 'bad_steps.jsonl'}"
        )


def _metric_names(config: Any) -> list[str]:
    """WER and CER always; PER where phonemes are recognised, or on request."""
    return list(dict.fromkeys(["wer", "cer", *config.eval_metrics, *(["per"] if config.phones else [])]))


def _order(args: Any) -> str:
    """`--train_sampling_strategy` in our words; grouped by duration unless the user wants otherwise."""
    return {"random": "bucketed", "sequential": "sequential"}.get(
        str(getattr(args, "train_sampling_strategy", "")), "bucketed"
    )


def _show_progress_with(trainer: Any, progress: Any) -> None:
    from transformers import PrinterCallback, ProgressCallback

    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(progress)
