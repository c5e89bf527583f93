"""Measure a few training steps to estimate the time and memory of an epoch."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from speechtune.data.batching import split_step
from speechtune.data.dataset import SpeechDataset
from speechtune.models.batch import Batch
from speechtune.training.trainer import SpeechTrainer

__all__ = ["Measurement", "largest_batch", "measure_steps"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured.

    Args:
        epoch_s: wall time of one epoch of steps, without reading audio, which happens beside them.
        peak_bytes: memory at the step with the most audio: of the GPU, or of the process on a CPU.
        num_steps: steps that the time is estimated from.
    """

    epoch_s: float
    peak_bytes: int
    num_steps: int


def measure_steps(trainer: SpeechTrainer, *, num_timed: int = 3) -> Measurement:
    """Train the step with the most padded audio, for memory, then some typical ones, for time.

    The model is changed by it: use it only where nothing is trained afterwards.
    """
    dataset, steps, padded_s = _steps(trainer)
    order = np.argsort(padded_s)
    middle = len(order) // 2
    typical = order[max(0, middle - num_timed // 2) :][:num_timed]
    trainer.recogniser.model.to(trainer.args.device).train()
    optimizer = trainer.create_optimizer()
    if trainer.args.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    _step(trainer, dataset, steps[int(order[-1])], optimizer)
    seconds = sum(_step(trainer, dataset, steps[int(number)], optimizer) for number in typical)
    epoch_s = float(padded_s.sum()) * seconds / max(float(padded_s[typical].sum()), 1e-9)
    return Measurement(epoch_s, _peak_bytes(trainer.args.device), len(typical))


def largest_batch(trainer: SpeechTrainer) -> Batch:
    """Return a batch of this process in the step with the most padded audio."""
    dataset, steps, padded_s = _steps(trainer)
    return _batches(trainer, dataset, steps[int(np.argmax(padded_s))])[0]


def _steps(trainer: SpeechTrainer) -> tuple[SpeechDataset, Sequence[Any], NDArray[np.float64]]:
    """Return the training set, the rows of each step of the first epoch, and the seconds of each with padding."""
    dataset, sampler = trainer.train_set, trainer.sampler
    assert isinstance(dataset, SpeechDataset) and sampler is not None
    durations_s = np.nan_to_num(dataset.split.table.durations_s.astype(np.float64))
    steps = sampler.steps(0)
    return dataset, steps, np.array([len(rows) * durations_s[rows].max() for rows in steps])


def _batches(trainer: SpeechTrainer, dataset: SpeechDataset, rows: Any) -> list[Batch]:
    args = trainer.args
    num_parts = args.world_size * args.gradient_accumulation_steps
    parts = split_step(rows, dataset.split.table.durations_s, num_parts=num_parts)
    return [dataset.__getitems__(part.tolist()) for part in parts[args.process_index :: args.world_size]]


def _step(trainer: SpeechTrainer, dataset: SpeechDataset, rows: Any, optimizer: torch.optim.Optimizer) -> float:
    """Train one step of this process; return its wall time without reading audio."""
    args = trainer.args
    batches = _batches(trainer, dataset, rows)
    _wait(args.device)
    start = time.perf_counter()
    for batch in batches:
        with trainer.accelerator.autocast():
            losses = trainer.recogniser.losses(trainer.recogniser.model, batch.to(args.device))
        (losses.sum() / max(len(rows), 1)).backward()
    optimizer.step()
    optimizer.zero_grad()
    _wait(args.device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
