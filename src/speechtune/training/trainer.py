"""transformers' Trainer with four parts replaced: which rows make a step, the loss of a step, evaluation, and
checkpoints (resume.py).

- *Rows*: a StepSampler plans each epoch (data/batching.py).
- *Loss*: the sum over all utterances (or tokens) of a step, over all processes and accumulation rounds, divided by
  their number. It does not depend on how the step was divided. Trainer's own is a mean of means.
- *Evaluation*: `recognise_split` instead of gathered logits.

One subclass for all kinds of models; what differs between them is a Recogniser.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainerControl, TrainingArguments

from speechtune.data.batching import BatchSettings
from speechtune.data.dataset import (
    SpeechDataset,
    evaluation_loader,
    stream_loader,
    training_loader,
)
from speechtune.data.streaming import StreamDataset
from speechtune.evaluation.evaluate import Evaluation, recognise_split
from speechtune.models.batch import Batch
from speechtune.models.encoder.attention import use_own_attention
from speechtune.models.recogniser import Recogniser
from speechtune.terminal.progress import evaluation_progress
from speechtune.training.agreement import Agreement
from speechtune.training.non_finite import BadSteps
from speechtune.training.resume import ResumingTrainer
from speechtune.types import Skipped

__all__ = ["SpeechTrainer"]

log = logging.getLogger("speechtune")


class SpeechTrainer(ResumingTrainer):
    """See the module's docstring.

    Args:
        recogniser: model, tokenizer and input.
        args: TrainingArguments.
        train_set, eval_set: datasets; either may be None.
        settings: size of a whole step, over processes and accumulation.
        normalise: applied to hypotheses before they are scored.
        metric_names: of evaluations during training.
        on_bad_step: called on the first process with a JSON-serialisable row for each skipped step.
        check_skipped: called on every process with all that was skipped so far, whenever that grows; may raise.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        args: TrainingArguments,
        *,
        train_set: SpeechDataset | StreamDataset | None,
        eval_set: SpeechDataset | StreamDataset | None,
        settings: BatchSettings | None,
        normalise: Callable[[str], str] = str,
        metric_names: Sequence[str] = ("wer", "cer"),
        on_bad_step: Callable[[dict[str, Any]], None] = lambda row: None,
        check_skipped: Callable[[Sequence[Skipped]], None] = lambda rows: None,
        callbacks: Sequence[Any] = (),
    ) -> None:
        super().__init__(
            recogniser,
            args,
            train_set=train_set,
            settings=settings,
            bad_steps=BadSteps(on_bad_step),
            agreement=Agreement(args, check_skipped),
            eval_dataset=eval_set,
            callbacks=list(callbacks),
        )
        self.eval_set = eval_set
        self.normalise, self.metric_names = normalise, tuple(metric_names)
        self.loss_is_scaled_for_ga = True
        use_own_attention(recogniser.model)
        if hasattr(recogniser, "autocast"):  # parts of a model that are called apart from its forward
            recogniser.autocast = self.accelerator.autocast
        self.last_evaluation: Evaluation | None = None
        self.num_utterances = 0  # trained on since the start, approximately, over all processes
        self._logged = (0, 0)  # steps taken and skipped when the loss was last logged
        self._seconds_logged, self._time_logged = 0.0, time.perf_counter()

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

    def show_progress_with(self, progress: TrainerCallback) -> None:
        """Replace Trainer's own displays."""
        for callback in (PrinterCallback, ProgressCallback):
            self.remove_callback(callback)
        self.add_callback(progress)

    def train_from(self, checkpoint: Path | None) -> dict[str, Any]:
        """Train, from a whole checkpoint where there is one; return Trainer's metrics.

        Raises:
            OutputError: training can't resume from the checkpoint.
        """
        if checkpoint is not None:
            self.prepare_resume(checkpoint)
            self._logged, self._seconds_logged = self._began, self.data_state.seconds
        result = self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        self.agreement.finish()
        metrics: dict[str, Any] = dict(result.metrics)
        return metrics

    # ---- loss

    control: TrainerControl

    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs.to(self.args.device) if isinstance(inputs, Batch) else super()._prepare_inputs(inputs)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """Return the number of items of the whole step over all processes."""
        self._loss_before = self._tr_loss.clone()
        for batch in batch_samples:
            self.agreement.add_skipped(batch.skipped)
            self.num_utterances += len(batch) * self.args.world_size
        count = float(sum(self.recogniser.num_items(batch) for batch in batch_samples))
        return self.agreement.total(count, device)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        assert isinstance(inputs, Batch) and not return_outputs
        losses = self.recogniser.losses(model, inputs)
        self.bad_steps.add(inputs.utterances, losses)
        # DDP averages gradients over processes; the sum over them is what is wanted.
        return losses.sum() / num_items_in_batch * self.args.world_size

    def floating_point_ops(self, inputs: Any) -> int:
        return 0

    def _track_num_input_tokens(self, inputs: Any) -> None:
        self.data_state.seconds += inputs.seconds

    @property
    def audio_seconds(self) -> float:
        """Audio trained on so far, over all processes."""
        return self.data_state.seconds * self.args.world_size

    # ---- non-finite steps

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Return the gradient's norm; where it is not finite, skip the optimiser's step and name its utterances."""
        norm = super()._get_grad_norm(model, grad_norm)
        finite = torch.isfinite(torch.as_tensor(norm))
        scaler = getattr(self.accelerator, "scaler", None)
        if scaler is not None:
            finite = self._finite_but_for_scaling(scaler, finite)
        else:
            optimizer = self.optimizer.optimizer
            if optimizer.defaults.get("fused"):  # the kernel checks it, so that the host does not wait for the GPU
                optimizer.grad_scale, optimizer.found_inf = None, (~finite).float()
            elif not bool(finite):
                model.zero_grad(set_to_none=True)  # the optimiser skips a parameter without gradient
        # The loss of a skipped step is left out of the logged mean: one NaN would make it, and all later ones, NaN.
        self._tr_loss.copy_(torch.where(finite.to(self._tr_loss.device), self._tr_loss, self._loss_before))
        self.bad_steps.end_step(self.state.global_step + 1, finite)
        # On a GPU the result of the step before is read, which is there by now; reading this one's would wait for it.
        self._check_steps(keep=1 if finite.is_cuda else 0)
        return norm

    def _check_steps(self, *, keep: int) -> None:
        self.bad_steps.check(keep=keep)
        if self.bad_steps.too_many:
            self.control.should_save = self.control.should_training_stop = True

    def _finite_but_for_scaling(self, scaler: Any, finite: torch.Tensor) -> torch.Tensor:
        """Do not count an overflow of the gradient scaler, normal in the first steps of fp16, as a bad step.

        The losses are finite then, and the scaler skips the step and halves its scale; at scale 1 nothing is left to
        halve.
        """
        scale = getattr(scaler, "_scale", None)
        overflow = self.bad_steps.losses_finite().to(finite.device)
        if scale is not None:
            overflow = overflow & (scale.to(finite.device) > 1).all()
        if self.args.world_size > 1:
            shared = overflow.float()
            torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MIN)
            overflow = shared > 0
        return finite | overflow

    # ---- evaluation

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
        assert self.eval_set is not None
        evaluation = self._recognise(self.eval_set, until_stopped=hasattr(self.lr_scheduler, "base_lrs"))
        if evaluation is None:
            self.agreement.stop_agreed = True
            self.data_state.evaluation_due = "best" if self.control.should_save else "score"
            self.control.should_save = self.control.should_training_stop = True
            return {}
        self.last_evaluation = evaluation
        self.agreement.add_skipped(evaluation.skipped)
        if evaluation.skipped:
            self.agreement.share_skipped()
        metrics = evaluation.metrics(self.metric_names, prefix=metric_key_prefix)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def recognise(
        self, dataset: SpeechDataset | StreamDataset, *, normalise: Callable[[str], str] | None = None
    ) -> Evaluation:
        """Evaluate a prepared split or a stream; each process does its share, all get the whole.

        Args:
            normalise: applied to hypotheses; by default as in the evaluations while training.
        """
        evaluation = self._recognise(dataset, normalise=normalise)
        assert evaluation is not None
        return evaluation

    def _recognise(
        self,
        dataset: SpeechDataset | StreamDataset,
        *,
        normalise: Callable[[str], str] | None = None,
        until_stopped: bool = False,
    ) -> Evaluation | None:
        args = self.args
        if isinstance(dataset, StreamDataset):
            total_s, num_batches = float("nan"), 0  # the length of a stream is unknown
            loader = stream_loader(dataset, num_workers=args.dataloader_num_workers, pin_memory=False)
        else:
            total_s = dataset.split.hours * 3600 / args.world_size
            num_batches = math.ceil(len(dataset) / args.per_device_eval_batch_size)
            loader = evaluation_loader(
                dataset,
                batch_size=args.per_device_eval_batch_size,
                rank=args.process_index,
                world_size=args.world_size,
                num_workers=args.dataloader_num_workers,
            )
        model = self.model_wrapped if self.is_fsdp_enabled else self.model
        with (
            self.accelerator.autocast(),  # also where no training has wrapped the model
            evaluation_progress(total_s, enabled=args.process_index == 0) as on_batch,
        ):
            return recognise_split(
                self.recogniser,
                model,
                loader,
                device=args.device,
                normalise=normalise or self.normalise,
                read_audio=dataset.make_batch.reader.pcm,
                on_batch=on_batch,
                is_stopped=self.agreement.stop_votes(num_batches) if until_stopped else None,
            )

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            self._check_steps(keep=0)
            now = time.perf_counter()
            seconds = (self.data_state.seconds - self._seconds_logged) * self.args.world_size
            logs["loss"] = self._of_taken_steps(logs["loss"], since=self._logged)
            logs["audio_s_per_s"] = round(seconds / max(now - self._time_logged, 1e-9), 1)
            self._seconds_logged, self._time_logged = self.data_state.seconds, now
            self._logged = (self.state.global_step, self.bad_steps.count)
            if self.bad_steps.count:
                logs["skipped_steps"] = self.bad_steps.count
        if "train_loss" in logs:
            logs["train_loss"] = self._mean_loss_of_all_steps(logs["train_loss"])
        super().log(logs, *args, **kwargs)

    def _mean_loss_of_all_steps(self, mean: float) -> float:
        """Return the mean loss of the whole training, from that of this run of the command."""
        loss_sum = self.data_state.loss_sum + mean * (self.state.global_step - self._began[0])
        num_taken = self.state.global_step - self.bad_steps.count
        return loss_sum / num_taken if num_taken else float("nan")

    def _of_taken_steps(self, mean: float, *, since: tuple[int, int]) -> float:
        """Return the mean over taken steps, from one in which skipped steps count as 0; nan where none was taken."""
        steps, skipped = self.state.global_step - since[0], self.bad_steps.count - since[1]
        return mean * steps / (steps - skipped) if skipped < steps else mean if not steps else float("nan")

    # ---- checkpoints

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._check_steps(keep=0)
        self.agreement.sync_flags()
        super()._save_checkpoint(model, trial)
