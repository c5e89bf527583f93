"""Cut a recording into pieces that end in pauses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from speechtune.audio.samples import Samples

__all__ = ["WINDOW_S", "cut_at_pauses"]

WINDOW_S = 30.0  # longest piece of a recording that a model is given
SEARCH_S = 5.0  # a cut is at the quietest place in the last this many seconds of a window
ENERGY_FRAME_S = 0.05


def cut_at_pauses(samples: Samples, sampling_rate: int) -> Iterator[Samples]:
    """Yield pieces of at most WINDOW_S seconds, cut where it is quietest: all samples, in order, each once."""
    window, search = int(WINDOW_S * sampling_rate), int(SEARCH_S * sampling_rate)
    frame = int(ENERGY_FRAME_S * sampling_rate)
    start = 0
    while len(samples) - start > window:
        tail = samples[start + window - search : start + window].astype(np.float32)
        energies = (tail[: len(tail) // frame * frame].reshape(-1, frame) ** 2).mean(axis=1)
        cut = start + window - search + int(energies.argmin()) * frame + frame // 2
        yield samples[start:cut]
        start = cut
    yield samples[start:]


# ---- Whisper
