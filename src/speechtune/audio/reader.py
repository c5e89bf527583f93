"""An utterance's samples at the model's rate: from the arena where they were decoded before, else from the file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from speechtune.audio.cache import AudioCache
from speechtune.audio.decode import load_audio
from speechtune.audio.pcm import dequantise, quantise
from speechtune.types import Utterance

__all__ = ["AudioReader"]


class AudioReader:
    """Reads utterances; travels to loader workers.

    Samples are rounded to 16 bits whether or not there is an arena, and whether it is full or empty: every
    epoch of every run sees the same numbers.

    Args:
        sampling_rate: Hz, of the samples given back.
        arena: where decoded samples are kept; None reads the file each time.
    """

    def __init__(self, sampling_rate: int, *, arena: AudioCache | None = None) -> None:
        self.sampling_rate = sampling_rate
        self.arena = arena

    def samples(self, utterance: Utterance) -> NDArray[np.float32]:
        """Mono samples (num_samples,) float32 in [-1, 1); else as `pcm`."""
        return dequantise(self.pcm(utterance))

    def pcm(self, utterance: Utterance) -> NDArray[np.int16]:
        """Mono samples (num_samples,) in 16 bits, read-only or not.

        Raises:
            AudioError: the recording can't be used.
        """
        pcm = None if self.arena is None else self.arena.get(utterance.audio_key)
        if pcm is None:
            pcm = quantise(load_audio(utterance.audio, self.sampling_rate, name=utterance.file))
            if self.arena is not None:
                self.arena.put(utterance.audio_key, pcm)
        return pcm
