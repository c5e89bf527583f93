"""transformers' Trainer with checkpoints that are complete or absent, and that resumes from them exactly.

The position within an epoch is in data_state.json (data_state.py), beside the weights, the optimiser and the random
states. A run may resume with another number of processes, loader workers or utterances a step.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainerState, TrainingArguments
from transformers.trainer_utils import SaveStrategy, rotate_checkpoints

from speechtune.data.batching import BatchSettings, EpochPart
from speechtune.data.dataset import SpeechDataset, StepSampler
from speechtune.data.streaming import StreamDataset
from speechtune.errors import OutputError
from speechtune.models.lora import has_lora, load_adapters, save_adapters
from speechtune.models.recogniser import Recogniser
from speechtune.models.weights import load_renamed
from speechtune.plan.checkpoints import (
    begin_checkpoint,
    drop_older_states,
    explain_disk_full,
    finish_checkpoint,
    holds_state,
)
from speechtune.training.agreement import Agreement
from speechtune.training.data_state import DATA_STATE, DataState, rows_fingerprint, vocabulary_fingerprint
from speechtune.training.non_finite import BadSteps
from speechtune.training.schedule import advance_schedule, change_rates

__all__ = ["ResumingTrainer"]

log = logging.getLogger("speechtune")


class ResumingTrainer(Trainer):
    """See the module's docstring. What a step and an evaluation are is in trainer.py.

    Args:
        recogniser: model, tokenizer and input.
        args: TrainingArguments.
        train_set: may be None.
        settings: size of a whole step, over processes and accumulation.
        bad_steps: counts the steps that were skipped.
        agreement: of the processes; knows the utterances that were skipped.
        more: for Trainer.
    """

    _resumed: tuple[int, int, int] | None = None  # epoch, step of the epoch, global step

    def __init__(
        self,
        recogniser: Recogniser,
        args: TrainingArguments,
        *,
        train_set: SpeechDataset | StreamDataset | None,
        settings: BatchSettings | None,
        bad_steps: BadSteps,
        agreement: Agreement,
        **more: Any,
    ) -> None:
        super().__init__(model=recogniser.model, args=args, train_dataset=train_set, **more)
        self.recogniser, self.train_set = recogniser, train_set
        self.bad_steps, self.agreement = bad_steps, agreement
        self.data_state = DataState()
        self._began = (0, 0)  # steps taken and skipped before this run of the command
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

    # ---- resuming

    def prepare_resume(self, checkpoint: Path) -> None:
        """Prepare for `train(resume_from_checkpoint=checkpoint)`.

        Raises:
            OutputError: training can't resume from it.
        """
        self.data_state = DataState.read(checkpoint)
        self.bad_steps.count = self.data_state.bad_steps
        self.agreement.skipped = {row.key: row for row in self.data_state.skipped}
        self._check_fits(checkpoint)
        with _explain_bad_checkpoint(checkpoint):
            step = TrainerState.load_from_json(str(checkpoint / "trainer_state.json")).global_step
        self._began = (step, self.bad_steps.count)
        if self._is_finished:
            log.info(f"already finished: step {step} of {self.args.max_steps}")
        if isinstance(self.train_set, StreamDataset):
            # A stream skips what was trained by itself, without decoding it.
            self.train_set.skip_batches = self.data_state.batches // self.args.world_size
            self.args.ignore_data_skip = True
            return
        assert self.sampler is not None
        offset = self.sampler.resume(self.data_state.epoch, self.data_state.done)
        epoch = self.data_state.epoch
        if offset >= self.sampler.num_steps:
            epoch, offset = epoch + 1, 0
            self.data_state.epoch, self.data_state.done = epoch, []
        self._resumed = (epoch, offset, step)

    @property
    def num_steps_taken(self) -> int:
        """Steps that this run of the command has taken."""
        return int(self.state.global_step - self._began[0])

    @property
    def _is_finished(self) -> bool:
        """Whether the checkpoint that was resumed has all the steps of --max_steps."""
        return 0 < self.args.max_steps <= self._began[0]

    def _check_fits(self, checkpoint: Path) -> None:
        """Check that a checkpoint is of this training: the labels must be the same, the utterances should be."""
        if self.data_state.vocabulary != vocabulary_fingerprint(self.recogniser.tokenizer):
            raise OutputError(
                f"{checkpoint}: has another vocabulary: the training text, or how it is normalised, has changed.\n"
                "--overwrite_output_dir starts from scratch; to start from its weights, give it as "
                "--model_name_or_path."
            )
        if not holds_state(checkpoint):
            log.warning(
                f"{checkpoint}: holds weights only (--save_only_model, or an older checkpoint). Training resumes at "
                "its step and learning rate, but not exactly: the optimiser starts again, with other random numbers."
            )
        elif not any(checkpoint.glob("rng_state*.pth")):
            raise OutputError(
                f"{checkpoint}: its random states (rng_state.pth) are missing, so training can't resume exactly.\n"
                "Delete this folder to resume from the checkpoint before it, or give --overwrite_output_dir."
            )
        if isinstance(self.train_set, StreamDataset):
            if self.data_state.readers != self._num_readers:
                log.warning(
                    f"The stream was read by {self.data_state.readers} processes and loader workers, now by "
                    f"{self._num_readers}: of this pass, some utterances come twice and some not at all."
                )
        elif self.data_state.rows != self._rows:
            log.warning(f"The training utterances have changed since {checkpoint.name}: its epoch starts again.")
            self.data_state.done = []

    @property
    def _num_readers(self) -> int:
        return int(self.args.world_size * max(1, self.args.dataloader_num_workers))

    @cached_property
    def _rows(self) -> str:
        return rows_fingerprint(self.train_set.split) if isinstance(self.train_set, SpeechDataset) else ""

    def _load_from_checkpoint(self, checkpoint: str, model: Any = None) -> None:
        with _explain_bad_checkpoint(Path(checkpoint)):
            if not self._load_own(Path(checkpoint)):
                super()._load_from_checkpoint(checkpoint, model)

    def _load_best_model(self) -> None:
        if not self._load_own(Path(self.state.best_model_checkpoint)):
            super()._load_best_model()

    def _load_own(self, checkpoint: Path) -> bool:
        """Load what transformers' Trainer does not: adapters, and tensors saved under other names; False if neither."""
        if has_lora(self.recogniser.model):
            load_adapters(self.recogniser.model, checkpoint)
            return True
        return not self.is_fsdp_enabled and load_renamed(self.recogniser.model, checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with _explain_bad_checkpoint(Path(checkpoint or "")):
            super()._load_rng_state(checkpoint)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        wanted = [group.get("initial_lr") for group in self.optimizer.param_groups]
        with _explain_bad_checkpoint(Path(checkpoint or "")):
            super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and not holds_state(Path(checkpoint)):
            advance_schedule(self.lr_scheduler, self.optimizer, self._began[0])
        change_rates(self.lr_scheduler, self.optimizer, wanted)

    def evaluate_if_due(self) -> None:
        """Do an evaluation that a signal interrupted, before the first step of the resumed run."""
        due, self.data_state.evaluation_due = self.data_state.evaluation_due, ""
        if not due or self.eval_dataset is None:
            return
        metrics = self.evaluate()
        if metrics and due == "best" and super()._determine_best_metric(metrics, None):
            self.state.best_model_checkpoint = str(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        epoch = kwargs["epoch"]
        self._done_before = list(self.data_state.done) if self._resumed and epoch == self._resumed[0] else []
        self.data_state.epoch, self._epoch_began_at_step = epoch, self.state.global_step
        if self.sampler is not None:
            self.sampler.set_epoch(epoch)
        super()._run_epoch(*args, **kwargs)

    def set_initial_training_values(self, args: Any, dataloader: Any) -> tuple[Any, ...]:
        values = list(super().set_initial_training_values(args, dataloader))
        if self._resumed is not None:
            # What remains, in steps of today's size: it may be larger or smaller than before the interruption.
            epoch, offset, global_step = self._resumed
            per_epoch = values[1]
            if args.max_steps > 0:
                values[0] = epoch + math.ceil((args.max_steps - global_step + offset) / per_epoch)
            else:
                values[-1] = global_step - offset + math.ceil(args.num_train_epochs * per_epoch) - epoch * per_epoch
        if self._is_finished:
            values[0] = 0  # no epoch is begun: Trainer would look at max_steps only after a step
        return tuple(values)

    def _init_training_state(self, max_steps: int, *args: Any, **kwargs: Any) -> tuple[int, int]:
        with _explain_bad_checkpoint(Path(self.args.output_dir)):
            first: tuple[int, int] = super()._init_training_state(max_steps, *args, **kwargs)
        self.state.compute_steps(self.args, max_steps)  # as asked for today, not as kept in the checkpoint
        if self._resumed is None:
            return first
        epoch, offset, _ = self._resumed
        return epoch, offset * self.args.gradient_accumulation_steps

    # ---- saving

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        saved_now = metrics and (self.control.should_save or self.args.save_strategy == SaveStrategy.BEST)
        return bool(super()._determine_best_metric(metrics, trial)) if saved_now else False

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder, step = Path(self.args.output_dir), self.state.global_step
        with explain_disk_full(f"checkpoint {step}", folder):
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
            drop_older_states(folder)

    def _write_checkpoint(self, half: Path, place: Path) -> None:
        if self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(place)  # on every process: all of them load it at the end
        self.save_model(str(half), _internal_call=True)
        if not self.args.save_only_model:
            self._save_optimizer_and_scheduler(str(half))
            self._save_scaler(str(half))
            self._save_rng_state(str(half))
        if not self.args.should_save:
            return
        self.recogniser.save_processor(half)
        self.state.save_to_json(str(half / "trainer_state.json"))
        done: list[EpochPart] = []
        if self.sampler is not None:
            steps = self.state.global_step - self._epoch_began_at_step
            done = [*self._done_before, EpochPart(self.sampler.settings, steps)]
        steps = self.state.global_step - self._began[0]
        replace(
            self.data_state,
            done=done,
            batches=self.data_state.batches + steps * self.args.gradient_accumulation_steps * self.args.world_size,
            readers=self._num_readers,
            parts=self.args.world_size * self.args.gradient_accumulation_steps,
            rows=self._rows,
            vocabulary=vocabulary_fingerprint(self.recogniser.tokenizer),
            bad_steps=self.bad_steps.count,
            loss_sum=self.data_state.loss_sum + self._total_loss_scalar + float(self._tr_loss),
            skipped=list(self.agreement.skipped.values()),
        ).write(half / DATA_STATE)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # Trainer's own also writes training_args.bin: a pickle that nothing needs, and that may hold a token.
        if not self.args.should_save and not self.is_distributed_loading_by_transformers:
            return
        folder = Path(output_dir or self.args.output_dir)
        if has_lora(self.recogniser.model):
            save_adapters(self.recogniser.model, folder)
        else:
            self.accelerator.unwrap_model(self.model, keep_torch_compile=False).save_pretrained(
                folder, state_dict=state_dict, is_main_process=self.args.should_save
            )
        if self.args.should_save:
            for path in folder.glob("*.safetensors"):  # its writer makes them readable for this user only
                path.chmod((folder / "config.json").stat().st_mode)

    def _wait(self) -> None:
        if self.args.world_size > 1:
            torch.distributed.barrier()


@contextmanager
def _explain_bad_checkpoint(checkpoint: Path) -> Iterator[None]:
    """Turn whatever damaged or foreign checkpoint files raise into one message. Torch itself refuses pickles."""
    try:
        yield
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise OutputError(
            f"{checkpoint}: training can't resume from it: {first}\n"
            "Delete this folder to resume from the checkpoint before it, or give --overwrite_output_dir."
        ) from error
