"""transformers' Trainer with four seams replaced: which rows make a step, the loss of a step, evaluation, and checkpoints.

- *Rows*: a StepSampler plans each epoch (data/batching.py); a checkpoint's data_state.json says what of it is done.
- *Loss*: the sum over all utterances (or tokens) of a step, over all processes and accumulation rounds, divided by their number. It does not
  depend on how the step was shared out. Trainer's own is a mean of means.
- *Evaluation*: evaluate.recognise_split instead of gathered logits.
- *Checkpoints*: checkpoint.py; written whole or not at all.

One subclass for all kinds of models; what differs between them is a Recogniser.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer
from transformers.trainer_utils import SaveStrategy, rotate_checkpoints

from speechtune.checkpoint import begin_checkpoint, disk_full_means, finish_checkpoint
from speechtune.data.batching import BatchSettings, EpochPart
from speechtune.data.dataset import (
    Batch,
    SpeechDataset,
    StepSampler,
    evaluation_loader,
    stream_loader,
    training_loader,
)
from speechtune.data.streaming import StreamDataset
from speechtune.errors import TrainingError
from speechtune.evaluate import Evaluation, recognise_split
from speechtune.models.recogniser import Recogniser
from speechtune.progress import evaluation_progress
from speechtune.types import LeftOut, Utterance

__all__ = ["DATA_STATE", "DataState", "SpeechTrainer"]

DATA_STATE = "data_state.json"
MAX_BAD_STEPS_IN_A_ROW = 20


@dataclass
class DataState:
    """What of the data has been trained on, kept in a checkpoint.

    Args:
        epoch: the one under way, from 0.
        done: parts of it that are trained.
        seconds: audio seconds trained on so far, by one process.
        batches, processes: how far a stream was read: batches of each of so many processes.
    """

    epoch: int = 0
    done: list[EpochPart] = field(default_factory=list)
    seconds: float = 0.0
    batches: int = 0
    processes: int = 1

    def write(self, path: Path) -> None:
        row = {**vars(self), "done": [part.as_json() for part in self.done]}
        path.write_text(json.dumps(row, indent=1), "utf-8")

    @classmethod
    def read(cls, path: Path) -> DataState:
        row = json.loads(path.read_text("utf-8"))
        return cls(**{**row, "done": [EpochPart.from_json(part) for part in row["done"]]})


@dataclass
class _StepRecord:
    """What is needed to name the culprits of a step that turns out to be non-finite."""

    step: int
    utterances: list[Utterance]
    losses: list[torch.Tensor]
    finite: torch.Tensor


@contextmanager
def lost_process_means() -> Iterator[None]:
    """Turn a broken connection to another process into one message."""
    try:
        yield
    except RuntimeError as error:
        lost = ("Connection closed by peer", "Connection reset", "Timed out", "NCCL", "Broken pipe", "Socket")
        if not any(sign in str(error) for sign in lost):
            raise
        raise TrainingError(
            f"Another process of this run was lost: {str(error).strip().splitlines()[0][:200]}\n"
            "Run the same command again: it goes on from the last whole checkpoint."
        ) from error


class SpeechTrainer(Trainer):
    """See the module's docstring.

    Args:
        recogniser: model, tokenizer and input.
        args: TrainingArguments.
        train_set, eval_set: datasets; either may be None.
        settings: size of a whole step, over processes and accumulation.
        normalise: applied to hypotheses before they are scored.
        metric_names: of evaluations during training.
        on_bad_step: called on the first process with one JSON-able row for each skipped step.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        args: Any,
        *,
        train_set: SpeechDataset | StreamDataset | None,
        eval_set: SpeechDataset | StreamDataset | None,
        settings: BatchSettings | None,
        normalise: Callable[[str], str] = str,
        metric_names: Sequence[str] = ("wer", "cer"),
        on_bad_step: Callable[[dict[str, Any]], None] = lambda row: None,
        callbacks: Sequence[Any] = (),
    ) -> None:
        super().__init__(
            model=recogniser.model, args=args, train_dataset=train_set, eval_dataset=eval_set, callbacks=list(callbacks)
        )
        self.recogniser = recogniser
        self.train_set, self.eval_set = train_set, eval_set
        self.normalise, self.metric_names = normalise, tuple(metric_names)
        self.on_bad_step = on_bad_step
        self.loss_is_scaled_for_ga = True
        if hasattr(recogniser, "autocast"):  # parts of a model that are called apart from its forward
            recogniser.autocast = self.accelerator.autocast
        self.data_state = DataState()
        self.left_out: dict[tuple[str, str], LeftOut] = {}
        self.last_evaluation: Evaluation | None = None
        self.stop_requested = False  # by a signal to this process
        self.stop_agreed = False  # by all processes, at the same step
        self._stop_votes: torch.Tensor | None = None
        self.num_bad_steps = 0
        self._bad_in_a_row = 0
        self._pending: list[_StepRecord] = []
        self._step_utterances: list[Utterance] = []
        self._step_losses: list[torch.Tensor] = []
        self._seconds_logged, self._time_logged = 0.0, time.perf_counter()
        self._epoch_began_at_step = 0
        self.sampler: StepSampler | None = None
        if isinstance(train_set, SpeechDataset) and settings is not None:
            self.sampler = StepSampler(
                train_set.split.table.durations_s,
                settings,
                rank=args.process_index,
                world_size=args.world_size,
                accumulation=args.gradient_accumulation_steps,
            )

    # ---- rows

    def get_train_dataloader(self) -> Any:
        if isinstance(self.train_set, StreamDataset):
            return stream_loader(
                self.train_set,
                num_workers=self.args.dataloader_num_workers,
                pin_memory=self.args.device.type == "cuda",
            )
        assert self.train_set is not None and self.sampler is not None
        return training_loader(
            self.train_set,
            self.sampler,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.device.type == "cuda",
        )

    def set_initial_training_values(self, args: Any, dataloader: Any) -> tuple[Any, ...]:
        values = list(super().set_initial_training_values(args, dataloader))
        if self._resumed is not None and args.max_steps <= 0:
            # What is left, counted in steps of today's size: the step may be larger or smaller than before the interruption.
            epoch, offset, global_step = self._resumed
            values[-1] = global_step + int((values[0] - epoch) * values[1]) - offset
        return tuple(values)

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        first = super()._init_training_state(*args, **kwargs)
        if self._resumed is None:
            return first
        epoch, offset, _ = self._resumed
        return epoch, offset * self.args.gradient_accumulation_steps

    _resumed: tuple[int, int, int] | None = None  # epoch, step of the epoch, global step

    def train_from(self, checkpoint: Path | None) -> Any:
        """Train, from a whole checkpoint where there is one."""
        if checkpoint is None:
            return self.train()
        self.data_state = DataState.read(checkpoint / DATA_STATE)
        if isinstance(self.train_set, StreamDataset):
            return self._train_stream_from(checkpoint, self.train_set)
        assert self.sampler is not None
        offset = self.sampler.resume(self.data_state.epoch, self.data_state.done)
        epoch = self.data_state.epoch
        if offset >= self.sampler.num_steps:
            epoch, offset = epoch + 1, 0
            self.data_state.epoch, self.data_state.done = epoch, []
        step = json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))["global_step"]
        self._resumed = (epoch, offset, step)
        self._seconds_logged = self.data_state.seconds
        return self.train(resume_from_checkpoint=str(checkpoint))

    def _train_stream_from(self, checkpoint: Path, stream: StreamDataset) -> Any:
        """A stream passes over what was trained by itself, without decoding it."""
        processes = self.data_state.processes
        stream.skip_batches = self.data_state.batches * processes // self.args.world_size
        self.args.ignore_data_skip = True
        self._seconds_logged = self.data_state.seconds
        return self.train(resume_from_checkpoint=str(checkpoint))

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        epoch = kwargs["epoch"]
        self._done_before = list(self.data_state.done) if self._resumed and epoch == self._resumed[0] else []
        self.data_state.epoch, self._epoch_began_at_step = epoch, self.state.global_step
        if self.sampler is not None:
            self.sampler.set_epoch(epoch)
        super()._run_epoch(*args, **kwargs)

    # ---- loss

    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs.to(self.args.device) if isinstance(inputs, Batch) else super()._prepare_inputs(inputs)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """Items of the whole step over all processes; carries the wish to stop, so that all stop at the same step."""
        for batch in batch_samples:
            self._note(batch)
        count = float(sum(self.recogniser.num_items(batch) for batch in batch_samples))
        if self.args.world_size == 1:
            self.stop_agreed = self.stop_requested
            return torch.tensor(max(count, 1.0), device=device)
        if self._stop_votes is not None:  # of the step before, which a GPU has finished: reading it waits for nothing
            self.stop_agreed = bool(self._stop_votes.item() > 0)
        ours = torch.tensor([count, float(self.stop_requested)], device=device)
        with lost_process_means():
            torch.distributed.all_reduce(ours)
        self._stop_votes = ours[1]
        return ours[0].clamp(min=1.0)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        assert isinstance(inputs, Batch) and not return_outputs
        losses = self.recogniser.losses(model, inputs)
        self._step_utterances += inputs.utterances
        if len(inputs):
            self._step_losses.append(losses.detach())
        # DDP averages gradients over processes; the sum over them is what is wanted.
        return losses.sum() / num_items_in_batch * self.args.world_size

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        with lost_process_means():
            return super().training_step(*args, **kwargs)

    def floating_point_ops(self, inputs: Any) -> int:
        return 0

    def _track_num_input_tokens(self, inputs: Any) -> None:
        self.data_state.seconds += inputs.seconds

    def _note(self, batch: Batch) -> None:
        for row in batch.left_out:
            self.left_out[(row.split, row.id)] = row

    @property
    def audio_seconds(self) -> float:
        """Audio trained on so far, over all processes."""
        return self.data_state.seconds * self.args.world_size

    # ---- non-finite steps

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """The gradient's norm; where it is not finite the optimiser's step is skipped and its utterances are named."""
        norm = super()._get_grad_norm(model, grad_norm)
        finite = torch.isfinite(torch.as_tensor(norm))
        utterances, losses = self._step_utterances, self._step_losses
        self._step_utterances, self._step_losses = [], []
        if getattr(self.accelerator, "scaler", None) is None:
            optimizer = self.optimizer.optimizer
            if finite.is_cuda and optimizer.defaults.get("fused"):
                optimizer.grad_scale, optimizer.found_inf = None, (~finite).float()
            elif not bool(finite):
                model.zero_grad(set_to_none=True)  # a parameter without gradient is left alone by the optimiser
        self._pending.append(_StepRecord(self.state.global_step + 1, utterances, losses, finite))
        # On a GPU the verdict of the step before is read, which is there by now; reading this one's would wait for it.
        self._judge(keep=1 if finite.is_cuda else 0)
        return norm

    def _judge(self, *, keep: int) -> None:
        while len(self._pending) > keep:
            record = self._pending.pop(0)
            if bool(record.finite):
                self._bad_in_a_row = 0
                continue
            self.num_bad_steps += 1
            self._bad_in_a_row += 1
            self._report_bad(record)
            if self._bad_in_a_row >= MAX_BAD_STEPS_IN_A_ROW:
                self.control.should_save = self.control.should_training_stop = True

    @property
    def diverged(self) -> bool:
        """Too many non-finite steps in a row ended the training."""
        return self._bad_in_a_row >= MAX_BAD_STEPS_IN_A_ROW

    def _report_bad(self, record: _StepRecord) -> None:
        values = torch.cat(record.losses).float().cpu().tolist() if record.losses else []
        culprits = [
            {"id": said.id, "file": said.file, "loss": repr(value)}
            for said, value in zip(record.utterances, values, strict=True)
            if value - value != 0
        ]
        step_ids = [said.id for said in record.utterances]
        if self.args.world_size > 1:
            parts: list[Any] = [None] * self.args.world_size
            torch.distributed.all_gather_object(parts, (culprits, step_ids))
            culprits = [row for part in parts for row in part[0]]
            step_ids = [name for part in parts for name in part[1]]
        if self.args.process_index == 0:
            what = "loss" if culprits else "gradient"
            self.on_bad_step({"step": record.step, "non_finite": what, "utterances": culprits, "all_ids": step_ids})

    # ---- evaluation

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
        assert self.eval_set is not None
        evaluation = self.recognise(self.eval_set)
        self.last_evaluation = evaluation
        metrics = evaluation.metrics(self.metric_names, prefix=metric_key_prefix)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def recognise(self, dataset: SpeechDataset | StreamDataset) -> Evaluation:
        """Evaluate a prepared split or a stream; each process does its share, all get the whole."""
        args = self.args
        if isinstance(dataset, StreamDataset):
            total_s = float("nan")  # a stream does not say how long it is
            loader = stream_loader(dataset, num_workers=args.dataloader_num_workers, pin_memory=False)
        else:
            total_s = dataset.split.hours * 3600 / args.world_size
            loader = evaluation_loader(
                dataset,
                batch_size=args.per_device_eval_batch_size,
                rank=args.process_index,
                world_size=args.world_size,
                num_workers=args.dataloader_num_workers,
            )
        model = self.model_wrapped if self.is_fsdp_enabled else self.model
        with (
            self.autocast_smart_context_manager(),
            evaluation_progress(total_s, enabled=args.process_index == 0) as on_batch,
        ):
            return recognise_split(
                self.recogniser, model, loader, device=args.device, normalise=self.normalise, on_batch=on_batch
            )

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            now = time.perf_counter()
            seconds = (self.data_state.seconds - self._seconds_logged) * self.args.world_size
            logs["audio_s_per_s"] = round(seconds / max(now - self._time_logged, 1e-9), 1)
            self._seconds_logged, self._time_logged = self.data_state.seconds, now
            if self.num_bad_steps:
                logs["skipped_steps"] = self.num_bad_steps
        super().log(logs, *args, **kwargs)

    # ---- checkpoints

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        saved_now = self.control.should_save or self.args.save_strategy == SaveStrategy.BEST
        return bool(super()._determine_best_metric(metrics, trial)) if saved_now else False

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._judge(keep=0)
        folder, step = Path(self.args.output_dir), self.state.global_step
        with disk_full_means(f"checkpoint {step}", folder):
            half = begin_checkpoint(folder, step) if self.args.should_save else folder / f"tmp-checkpoint-{step}"
            self._wait()
            self._write_checkpoint(half, folder / f"checkpoint-{step}")
            self._wait()
            if self.args.should_save:
                finish_checkpoint(half, step)
        self._wait()
        if self.args.should_save:
            rotate_checkpoints(
                output_dir=str(folder),
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
            )

    def _write_checkpoint(self, half: Path, place: Path) -> None:
        self.save_model(str(half), _internal_call=True)
        if not self.args.save_only_model:
            self._save_optimizer_and_scheduler(str(half))
            self._save_scaler(str(half))
            self._save_rng_state(str(half))
        if not self.args.should_save:
            return
        if self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(place)
        self.recogniser.save_processor(half)
        self.state.save_to_json(str(half / "trainer_state.json"))
        done: list[EpochPart] = []
        if self.sampler is not None:
            steps = self.state.global_step - self._epoch_began_at_step
            done = [*self._done_before, EpochPart(self.sampler.settings, steps)]
        batches = self.state.global_step * self.args.gradient_accumulation_steps
        state = replace(self.data_state, done=done, batches=batches, processes=self.args.world_size)
        state.write(half / DATA_STATE)

    def _save(self, *args: Any, **kwargs: Any) -> None:
        super()._save(*args, **kwargs)
        # A pickle that nothing needs, and that may hold a token: settings.json says what was asked for.
        folder = Path(kwargs.get("output_dir") or (args[0] if args else None) or self.args.output_dir)
        (folder / "training_args.bin").unlink(missing_ok=True)

    def _wait(self) -> None:
        if self.args.world_size > 1:
            with lost_process_means():
                torch.distributed.barrier()
