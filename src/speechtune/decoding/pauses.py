"""Find pauses, and cut a recording into pieces that end in them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from speechtune.audio.samples import Samples
from speechtune.decoding.speech import FRAME_S, QUIETEST_DB, levels_db

__all__ = ["WINDOW_S", "cut_at_pauses", "loud_part", "quietest_place"]

WINDOW_S = 30.0  # longest piece of a recording that a model is given
SEARCH_S = 5.0  # a cut is at the quietest place in the last this many seconds of a window
ENERGY_FRAME_S = 0.05
PAUSE_S = 0.2  # over which a place is judged: stops and breaths within words are shorter
SPEECH_PERCENTILE = 80  # of the levels: that of speech
QUIET_DB = 40.0  # under the level of speech is no part of a word
MARGIN_S = 0.02  # that stays on each side of the loud part: silence is no help, and changes the normalisation


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


def quietest_place(samples: Samples, sampling_rate: int, first: int, last: int) -> tuple[int, float]:
    """Return the first of the quietest places between two samples, and by how many dB speech around is louder."""
    levels = np.maximum(levels_db(samples, sampling_rate), QUIETEST_DB)
    width = round(PAUSE_S / FRAME_S)
    powers = np.pad(10 ** (levels.astype(np.float64) / 10), (width // 2, width - 1 - width // 2), mode="edge")
    smooth = np.round(10 * np.log10(np.convolve(powers, np.full(width, 1 / width), mode="valid")), 2)
    frame = int(FRAME_S * sampling_rate)
    low, high = first // frame, max(first // frame + 1, last // frame)
    place = low + int(smooth[low:high].argmin())
    return place * frame, float(np.percentile(levels, SPEECH_PERCENTILE) - smooth[place])


def loud_part(samples: Samples, sampling_rate: int) -> tuple[int, int]:
    """Return where speech starts and ends in samples: all of them, where they are equally loud or silent."""
    levels = np.maximum(levels_db(samples, sampling_rate), QUIETEST_DB)
    loud = np.flatnonzero(levels >= np.percentile(levels, SPEECH_PERCENTILE) - QUIET_DB)
    frame, margin = int(FRAME_S * sampling_rate), int(MARGIN_S * sampling_rate)
    return max(0, int(loud[0]) * frame - margin), min(len(samples), int(loud[-1] + 1) * frame + margin)
