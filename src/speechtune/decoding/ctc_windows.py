"""Windows of a recording for a CTC model, and its logits in them.

A model recognises best what is as long as the clips that it was trained with, so windows end at pauses, and each is
normalised by itself as a clip is. Where there is no pause, windows overlap: frames are taken from the window that has
context around them.

Rejected: windows of 30 s that always overlap, normalised over the whole recording. A model that was trained on clips
of 2 s has twice the errors in them, and half of the computation is for context.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from speechtune.audio.samples import Samples
from speechtune.decoding.pauses import loud_part, quietest_place
from speechtune.decoding.speech import Region
from speechtune.models.ctc.recogniser import CtcRecogniser
from speechtune.models.frames import num_frames
from speechtune.models.recogniser import seconds_per_frame

__all__ = ["Window", "logits_of", "windows_of"]

PAUSE_DB = 20.0  # by which a pause is quieter than the speech around it
CONTEXT_S = 5.0  # heard on each side of a cut that is no pause, but at most a quarter of a window
BATCH_S = {"cpu": 30.0, "cuda": 480.0}  # of a batch of windows, padding included
GROUP = 4  # batches whose windows are sorted by length


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a recording, in frames, and what of the recording is heard for it.

    Args:
        first, end: its first frame, and the one after its last.
        from_frame, to_frame: what is heard: more where a cut is no pause, less where it is one.
        ends_in_pause: another word starts behind it.
    """

    first: int
    end: int
    from_frame: int
    to_frame: int
    ends_in_pause: bool = False

    @property
    def num_heard(self) -> int:
        return self.to_frame - self.from_frame

    def heard(self, samples: Samples, samples_per_frame: int) -> Samples:
        """Return the samples that are heard."""
        return samples[self.from_frame * samples_per_frame : self.to_frame * samples_per_frame]

    def rows(self, logits: torch.Tensor) -> tuple[int, torch.Tensor]:
        """Return which frame of the window is the first with logits, and those of the window's own frames."""
        first, end = max(self.first, self.from_frame), min(self.end, self.from_frame + len(logits))
        return first - self.first, logits[first - self.from_frame : max(first, end) - self.from_frame]


def windows_of(recogniser: CtcRecogniser, samples: Samples, speech: Sequence[Region] | None) -> Iterator[Window]:
    """Yield the windows of a recording, in order: of its speech, or of all of it; one if it is short enough.

    Each frame of the speech is in one window.
    """
    rate, frame_s = recogniser.sampling_rate, seconds_per_frame(recogniser)
    unit = round(frame_s * rate)
    total = -(-len(samples) // unit)
    if len(samples) <= recogniser.model_input.max_whole_s * rate:
        if total and (speech is None or speech):
            yield Window(0, total, 0, total)
        return
    longest = int(recogniser.window_s / frame_s)
    # SEW computes frames in groups, and a frame's place in its group changes its label
    grid = int(getattr(recogniser.model.config, "squeeze_factor", 1))
    shortest, context = longest // 4, min(int(CONTEXT_S / frame_s), longest // 4) // grid * grid
    for start, stop in speech or [(0, len(samples))]:
        first, end, heard_from = start // unit // grid * grid, min(total, -(-stop // unit)), None
        while first < end:
            cut, is_pause = end, True
            if end - first > longest:
                bounds = shortest * unit, min(longest, end - first - shortest) * unit
                part = samples[first * unit : (first + longest) * unit]
                place, depth_db = quietest_place(part, rate, *bounds)
                cut, is_pause = first + max(1, place // unit // grid) * grid, depth_db >= PAUSE_DB
            left, right = loud_part(samples[first * unit : cut * unit], rate)
            from_frame = first + round(left / unit) // grid * grid if heard_from is None else heard_from
            to_frame = first + round(right / unit) if is_pause else min(end, cut + context)
            yield Window(first, cut, from_frame, min(to_frame, total), is_pause and cut < total)
            first, heard_from = cut, None if is_pause else max(first, cut - context)


def logits_of(
    recogniser: CtcRecogniser,
    model: torch.nn.Module,
    recordings: Sequence[Samples],
    windows: Iterable[tuple[int, Window]],
) -> Iterator[tuple[int, Window, torch.Tensor]]:
    """Yield each window with the logits of the frames that are heard for it, (T, num_labels), in order.

    Windows of several recordings, named by their place, are computed together. Memory holds the logits of a group.
    """
    device = next(recogniser.model.parameters()).device
    unit = round(seconds_per_frame(recogniser) * recogniser.sampling_rate)
    most = int(BATCH_S.get(device.type, BATCH_S["cpu"]) * recogniser.sampling_rate)

    def length(pair: tuple[int, Window]) -> int:
        return pair[1].num_heard * unit

    for group in _groups(windows, GROUP * most, length):
        found: dict[int, torch.Tensor] = {}
        order = sorted(range(len(group)), key=lambda place: -length(group[place]))
        while order:
            size = max(1, most // max(1, length(group[order[0]])))
            batch, order = order[:size], order[size:]
            heard = [group[place][1].heard(recordings[group[place][0]], unit) for place in batch]
            found |= zip(batch, _logits(recogniser, model, heard), strict=True)
        yield from ((*pair, found[place]) for place, pair in enumerate(group))


def _groups(windows: Iterable[Any], most: int, length: Any) -> Iterator[list[Any]]:
    """Yield groups of windows that are about `most` samples long together."""
    group: list[Any] = []
    total = 0
    for window in windows:
        group.append(window)
        total += length(window)
        if total >= most:
            yield group
            group, total = [], 0
    if group:
        yield group


def _logits(recogniser: CtcRecogniser, model: torch.nn.Module, heard: Sequence[Samples]) -> list[torch.Tensor]:
    device = next(recogniser.model.parameters()).device
    features = [recogniser.model_input.features(samples) for samples in heard]
    inputs = recogniser.model_input.pad(features, min_length=recogniser.min_input_length)
    logits = model(**{name: torch.from_numpy(value).to(device) for name, value in inputs.items()}).logits
    lengths = num_frames(recogniser.model.config, np.array([len(f) for f in features])).tolist()
    return [row[:length] for row, length in zip(logits, lengths, strict=True)]
