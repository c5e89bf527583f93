"""Samples in 16 bits, as they are kept, and as floating-point numbers, as they are computed with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["FULL_SCALE", "Samples", "dequantise", "full_scale", "quantise"]

FULL_SCALE = 32768
Samples = npt.NDArray[np.float32] | npt.NDArray[np.int16]


def quantise(samples: Samples) -> npt.NDArray[np.int16]:
    """Round samples to 16 bits: 32768 x to the nearest integer (ties to even), then limited to [-32768, 32767].

    16-bit recordings that need no resampling come back bit by bit. Others change by at most 1/65536 of full scale
    (-96 dB); what lies beyond full scale is clipped.

    Args:
        samples: float32 (num_samples,), finite; int16 is given back as it is.
    """
    if samples.dtype == np.int16:
        return samples.astype(np.int16, copy=False)
    scaled = samples * np.float32(FULL_SCALE)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1, out=scaled)
    return scaled.astype(np.int16)


def dequantise(samples: Samples) -> npt.NDArray[np.float32]:
    """Samples as float32 in [-1, 1), (num_samples,); float32 is given back as it is.

    Exact: quantise(dequantise(pcm)) equals pcm.
    """
    if samples.dtype == np.float32:
        return samples.astype(np.float32, copy=False)
    values = samples.astype(np.float32)
    values *= np.float32(1 / FULL_SCALE)
    return values


def full_scale(samples: Samples) -> float:
    """What stands for 1 among these samples."""
    return float(FULL_SCALE) if samples.dtype == np.int16 else 1.0
