"""`--batch_seconds auto`: how much audio one forward and backward pass takes on this device, found by trying.

On a GPU the batch is doubled until memory runs out (or would, with the optimiser's own), at the length of the longest
clips, where attention costs most; 85 % of what fits is used. On a processor memory is seldom the limit: there the batch
grows while that makes it faster, which ends early, and no further than `CPU_CAP_S`. Either way it holds no more than
leaves an epoch `MIN_STEPS` steps, or `USUAL_CLIPS` clips.

Nothing is left behind: weights, buffers, gradients and random numbers are as before.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from speechtune.models.batch import Batch
from speechtune.types import Utterance

__all__ = ["FoundBatch", "Trial", "find_batch_seconds", "largest_on_cpu", "largest_on_gpu"]

HEADROOM = 0.85  # of the seconds that fit
LARGEST_S = 3600.0  # a step of an hour
CPU_CAP_S = 80.0  # 16 clips of 5 s: more gains nothing there
PLATEAU = 1.05  # a doubled batch that is less than this much faster is no gain
BUDGET_S = 8.0  # of wall time for all trials
MIN_STEPS = 50  # of an epoch
USUAL_CLIPS = 8  # of a batch, the Trainer's own default: fewer make gradients noisy
OPTIMISER_BYTES = 8  # AdamW's two moments, a trained parameter


@dataclass(frozen=True, slots=True)
class FoundBatch:
    """What was found, and one line on how."""

    seconds: float
    line: str


@dataclass(frozen=True, slots=True)
class Trial:
    """One forward and backward pass.

    Args:
        took_s: wall time.
        peak_bytes: most memory in use meanwhile, all that the process holds on the device.
    """

    took_s: float
    peak_bytes: float


def find_batch_seconds(
    recogniser: Any,
    durations_s: NDArray[np.floating[Any]],
    *,
    labels_per_s: float,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    num_parts: int = 1,
) -> FoundBatch:
    """Try steps of the model on noise.

    Args:
        recogniser: its model on `device` already.
        durations_s: of the training clips, (N,), seconds; nan where unknown.
        labels_per_s: of the training text.
        autocast: the run's precision.
        num_parts: processes times accumulation rounds: that many batches make a step.
    """
    known = np.asarray(durations_s, np.float64)
    known = known[np.isfinite(known)]
    longest_s, middle_s, total_s = (
        (float(known.max()), float(np.median(known)), float(known.sum())) if len(known) else (20.0, 5.0, 3600.0)
    )
    most_s = max(longest_s, USUAL_CLIPS * middle_s, min(LARGEST_S, total_s / MIN_STEPS / num_parts))

    def try_step(num_clips: int, clip_s: float) -> Trial:
        return _try_step(recogniser, num_clips, clip_s, labels_per_s=labels_per_s, device=device, autocast=autocast)

    with _as_before(recogniser.model, device):
        if device.type == "cuda":
            trained = sum(p.numel() for p in recogniser.model.parameters() if p.requires_grad)
            limit = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
            return largest_on_gpu(
                try_step, clip_s=longest_s, most_s=most_s, limit_bytes=limit - OPTIMISER_BYTES * trained
            )
        return largest_on_cpu(
            try_step,
            clip_s=middle_s,
            most_s=max(min(most_s, CPU_CAP_S), longest_s),
            # Other processes of this run try at the same time.
            available_bytes=_available_bytes() / max(num_parts, 1),
        )


def largest_on_gpu(
    try_step: Callable[[int, float], Trial], *, clip_s: float, most_s: float, limit_bytes: float
) -> FoundBatch:
    """Double until it doesn't fit; the rest by the memory that a second takes.

    Args:
        try_step: (number of clips, seconds of each) -> what it took; raises torch.OutOfMemoryError.
        clip_s: seconds of the longest clip.
        most_s: never more than this.
        limit_bytes: memory that a step may take.
    """
    began_s = time.perf_counter()
    fits: list[tuple[float, float]] = []
    num_clips = 1
    stopped = "memory"
    while True:
        try:
            trial = try_step(num_clips, clip_s)
        except torch.OutOfMemoryError:
            break
        if trial.peak_bytes > limit_bytes:
            break
        fits.append((num_clips * clip_s, trial.peak_bytes))
        if num_clips * clip_s >= most_s or time.perf_counter() - began_s > BUDGET_S:
            stopped = "the corpus' size" if num_clips * clip_s >= most_s else "time to try"
            break
        num_clips *= 2
    if not fits:
        return FoundBatch(clip_s, f"batch: {clip_s:.0f} s; even one clip of {clip_s:.1f} s hardly fits into memory")
    seconds = fits[-1][0]
    if stopped == "memory" and len(fits) > 1:
        (before_s, before), (last_s, last) = fits[-2:]
        a_second = (last - before) / (last_s - before_s)
        if a_second > 0:
            seconds = min(last_s + (limit_bytes - last) / a_second, 2 * last_s)
    seconds = max(min(HEADROOM * seconds if stopped == "memory" else seconds, most_s), clip_s)
    return FoundBatch(seconds, f"batch: {seconds:.0f} s of audio, found by trying; limited by {stopped}")


def largest_on_cpu(
    try_step: Callable[[int, float], Trial], *, clip_s: float, most_s: float, available_bytes: float
) -> FoundBatch:
    """Double while that is faster, within half of the memory that is free and a few seconds of trying.

    Args:
        try_step, most_s: as `largest_on_gpu`.
        clip_s: seconds of a usual clip.
        available_bytes: memory that is free.
    """
    began_s = time.perf_counter()
    best_s, best_speed, first_bytes = clip_s, 0.0, 0.0
    num_clips, stopped = 1, "speed"
    while True:
        trial = try_step(num_clips, clip_s)
        first_bytes = first_bytes or trial.peak_bytes
        if trial.peak_bytes - first_bytes > available_bytes / 2:
            stopped = "memory"
            break
        speed = num_clips * clip_s / max(trial.took_s, 1e-9)
        if speed < best_speed * PLATEAU:
            break
        best_s, best_speed = num_clips * clip_s, speed
        if 2 * best_s > most_s:
            stopped = "the most that helps here"
            break
        if time.perf_counter() - began_s + 2 * trial.took_s > BUDGET_S:
            stopped = "time to try"
            break
        num_clips *= 2
    seconds = max(best_s, min(most_s, USUAL_CLIPS * clip_s)) if stopped != "memory" else best_s
    return FoundBatch(seconds, f"batch: {seconds:.0f} s of audio, found by trying; limited by {stopped}")


def _try_step(
    recogniser: Any,
    num_clips: int,
    clip_s: float,
    *,
    labels_per_s: float,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> Trial:
    batch = _noise(recogniser, num_clips, clip_s, labels_per_s).to(device)
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    began_s = time.perf_counter()
    with autocast():
        losses = recogniser.losses(recogniser.model, batch)
    losses.sum().div(num_clips).backward()
    if on_gpu:
        torch.cuda.synchronize(device)
        peak_bytes = float(torch.cuda.max_memory_reserved(device))
    else:
        peak_bytes = _peak_rss_bytes()
    took_s = time.perf_counter() - began_s
    recogniser.model.zero_grad(set_to_none=True)
    return Trial(took_s, peak_bytes)


def _noise(recogniser: Any, num_clips: int, clip_s: float, labels_per_s: float) -> Batch:
    """A batch of clips of noise, with as many labels as clips of that length have; labels 1 and 2 in turn."""
    sampling_rate = recogniser.sampling_rate
    generator = np.random.default_rng(0)
    samples = (0.1 * generator.standard_normal(max(1, int(clip_s * sampling_rate)))).astype(np.float32)
    features = [recogniser.training_input.features(samples)] * num_clips
    num_labels = max(1, int(clip_s * labels_per_s))
    if recogniser.max_labels is not None:
        num_labels = min(num_labels, recogniser.max_labels)
    inputs = recogniser.training_input.pad(features, min_length=recogniser.min_input_length)
    labels = 1 + torch.arange(num_labels).remainder(2).repeat(num_clips, 1)
    return Batch(
        utterances=[Utterance(f"noise {i}", "", f"noise {i}", "", clip_s, "") for i in range(num_clips)],
        texts=[""] * num_clips,
        rows=list(range(num_clips)),
        inputs={name: torch.from_numpy(value) for name, value in inputs.items()},
        labels=labels,
        label_lengths=[num_labels] * num_clips,
        input_lengths=[len(f) for f in features],
        seconds=num_clips * clip_s,
    )


@contextmanager
def _as_before(model: Any, device: torch.device) -> Iterator[None]:
    """Random numbers, buffers (running statistics) and the model's mode are put back; memory is given back."""
    numbers, numpy_numbers = random.getstate(), np.random.get_state()
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    was_training = model.training
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            model.train()
            yield
    finally:
        model.train(was_training)
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, value in model.named_buffers():
                value.copy_(buffers[name])
        random.setstate(numbers)
        np.random.set_state(numpy_numbers)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _available_bytes() -> float:
    """Memory that can be had without swapping; 4 GB where the system doesn't say."""
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return 4e9


def _peak_rss_bytes() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
