"""Decoded samples: 16 bits in the cache, float32 in computations, and whether they may hold speech at all."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["FULL_SCALE", "Samples", "dequantise", "quantise", "signal_problem"]

FULL_SCALE = 32768
MIN_SPEECH_S = 0.025  # one frame of a wav2vec2 feature encoder
SILENCE_PEAK = 1e-4  # -80 dB of full scale, around the mean
CLIPPED_LEVEL, CLIPPED_SHARE = 0.985, 0.01  # more than 1 % of the samples at full scale: clipped while recording

Samples = npt.NDArray[np.float32] | npt.NDArray[np.int16]


def quantise(samples: Samples) -> npt.NDArray[np.int16]:
    """Round samples to 16 bits: 32768 x to the nearest integer (ties to even), then clipped to [-32768, 32767].

    16-bit recordings that need no resampling are kept exactly. Others change by at most 1/65536 of full scale (-96 dB).

    Args:
        samples: float32 (num_samples,), finite; int16 is returned unchanged.
    """
    if samples.dtype == np.int16:
        return samples.astype(np.int16, copy=False)
    scaled = samples * np.float32(FULL_SCALE)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1, out=scaled)
    return scaled.astype(np.int16)


def dequantise(samples: Samples) -> npt.NDArray[np.float32]:
    """Convert samples to float32 in [-1, 1), (num_samples,); float32 is returned unchanged.

    Exact: quantise(dequantise(pcm)) equals pcm.
    """
    if samples.dtype == np.float32:
        return samples.astype(np.float32, copy=False)
    values = samples.astype(np.float32)
    values *= np.float32(1 / FULL_SCALE)
    return values


def signal_problem(samples: Samples, sampling_rate: int) -> str | None:
    """Return why samples are useless for speech recognition: "non_finite", "too_short", "silent", "clipped" or None.

    Args:
        samples: float32 or int16 (num_samples,).
        sampling_rate: in Hz.
    """
    if len(samples) < MIN_SPEECH_S * sampling_rate:
        return "non_finite" if not np.isfinite(samples).all() else "too_short"
    scale = FULL_SCALE if samples.dtype == np.int16 else 1.0
    low, high = float(samples.min()) / scale, float(samples.max()) / scale
    if not math.isfinite(high - low):
        return "non_finite"
    if high - low < 2 * SILENCE_PEAK:
        return "silent"
    if max(high, -low) >= CLIPPED_LEVEL:
        level = CLIPPED_LEVEL * scale
        num_clipped = int(np.count_nonzero(samples >= level) + np.count_nonzero(samples <= -level))
        if num_clipped > CLIPPED_SHARE * len(samples):
            return "clipped"
    return None
