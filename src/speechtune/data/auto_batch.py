"""`--batch_seconds auto`: the audio of one forward and backward pass, found by trying on a GPU.

On a GPU the largest batch is tried first, at the length of the longest clips, where attention costs most, and made
smaller while memory runs out (or would, with the optimiser's state); 85 % of what fits is used. On a CPU nothing is
tried: batches over 40 s are hardly faster there. Either way a batch is small enough to leave an epoch `MIN_STEPS`
steps, unless that would be fewer than `USUAL_CLIPS` clips.

Trying changes nothing: weights, buffers, gradients and random numbers are as before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from speechtune.models.batch import Batch
from speechtune.models.recogniser import Recogniser
from speechtune.types import Utterance

__all__ = ["FoundBatch", "find_batch_seconds", "largest_that_fits"]

HEADROOM = 0.85  # of the seconds that fit
LARGEST_S = 3600.0  # a step of an hour
CPU_S = 40.0
MIN_STEPS = 50  # of an epoch
USUAL_CLIPS = 8  # of a batch, the Trainer's own default: fewer make gradients noisy
OPTIMISER_BYTES = 8  # AdamW's two moments, per trained parameter


@dataclass(frozen=True, slots=True)
class FoundBatch:
    """Seconds of audio in a batch, and one line on how they were found."""

    seconds: float
    line: str


def find_batch_seconds(
    recogniser: Recogniser,
    durations_s: NDArray[np.floating[Any]],
    *,
    labels_per_s: float,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    num_parts: int = 1,
) -> FoundBatch:
    """Find the batch size for a training run.

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
    of_epoch_s = total_s / MIN_STEPS / num_parts
    least_s = max(longest_s, USUAL_CLIPS * middle_s)
    if device.type != "cuda":
        seconds = max(least_s, min(CPU_S, of_epoch_s))
        return FoundBatch(seconds, f"batch: {seconds:.0f} s of audio; larger ones are hardly faster on a CPU")
    trained = sum(p.numel() for p in recogniser.model.parameters() if p.requires_grad)
    memory = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    with _unchanged(recogniser.model, device):
        return largest_that_fits(
            lambda clips: _peak_bytes(recogniser, _noise(recogniser, clips, longest_s, labels_per_s), device, autocast),
            clip_s=longest_s,
            most_s=max(least_s, min(LARGEST_S, of_epoch_s)),
            limit_bytes=memory - OPTIMISER_BYTES * trained,
        )


def largest_that_fits(
    peak_bytes: Callable[[int], float], *, clip_s: float, most_s: float, limit_bytes: float
) -> FoundBatch:
    """Find the largest number of clips whose training step fits into memory.

    Args:
        peak_bytes: number of clips -> memory of a step; raises torch.OutOfMemoryError.
        clip_s: seconds of a clip, the longest.
        most_s: never more than this.
        limit_bytes: memory that a step may take.
    """
    from accelerate.utils import find_executable_batch_size

    most_clips = math.ceil(most_s / clip_s)

    @find_executable_batch_size(starting_batch_size=most_clips)
    def num_clips(clips: int) -> int:
        if peak_bytes(clips) > limit_bytes:
            raise torch.OutOfMemoryError("CUDA out of memory. The optimiser's state would not fit.")
        return clips

    try:
        clips = num_clips()
    except RuntimeError as error:
        if "No executable batch size" not in str(error):
            raise
        return FoundBatch(clip_s, f"batch: {clip_s:.0f} s; even one clip of {clip_s:.1f} s hardly fits into memory")
    if clips == most_clips:
        return FoundBatch(most_s, f"batch: {most_s:.0f} s of audio, found by trying; limited by the corpus' size")
    seconds = max(HEADROOM * clips * clip_s, clip_s)
    return FoundBatch(seconds, f"batch: {seconds:.0f} s of audio, found by trying; limited by memory")


def _peak_bytes(
    recogniser: Recogniser, batch: Batch, device: torch.device, autocast: Callable[[], AbstractContextManager[Any]]
) -> float:
    """Return the most memory in use during one forward and backward pass."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    try:
        with autocast():
            losses = recogniser.losses(recogniser.model, batch.to(device))
        losses.sum().backward()
        torch.cuda.synchronize(device)
        return float(torch.cuda.max_memory_reserved(device))
    finally:
        recogniser.model.zero_grad(set_to_none=True)


def _noise(recogniser: Recogniser, num_clips: int, clip_s: float, labels_per_s: float) -> Batch:
    """Make a batch of clips of noise, with as many labels as clips of that length have: 1 and 2 in turn."""
    generator = np.random.default_rng(0)
    samples = (0.1 * generator.standard_normal(max(1, int(clip_s * recogniser.sampling_rate)))).astype(np.float32)
    features = [recogniser.training_input.features(samples)] * num_clips
    num_labels = max(1, int(clip_s * labels_per_s))
    if recogniser.max_labels is not None:
        num_labels = min(num_labels, recogniser.max_labels)
    inputs = recogniser.training_input.pad(features, min_length=recogniser.min_input_length)
    return Batch(
        utterances=[Utterance(f"noise {i}", "", f"noise {i}", "", clip_s, "") for i in range(num_clips)],
        texts=[""] * num_clips,
        rows=list(range(num_clips)),
        inputs={name: torch.from_numpy(value) for name, value in inputs.items()},
        labels=1 + torch.arange(num_labels).remainder(2).repeat(num_clips, 1),
        label_lengths=[num_labels] * num_clips,
        input_lengths=[len(f) for f in features],
        seconds=num_clips * clip_s,
    )


@contextmanager
def _unchanged(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Restore random numbers, buffers (running statistics) and the model's mode afterwards; free the memory."""
    numpy_numbers = np.random.get_state()  # of SpecAugment
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    was_training = model.training
    on_gpu = device.type == "cuda"
    try:
        with torch.random.fork_rng(devices=[device] if on_gpu else []):
            model.train()
            yield
    finally:
        model.train(was_training)
        with torch.no_grad():
            for name, value in model.named_buffers():
                value.copy_(buffers[name])
        np.random.set_state(numpy_numbers)
        if on_gpu:
            torch.cuda.empty_cache()
