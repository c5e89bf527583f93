"""Read an utterance's samples at the model's rate: from the decoded-audio cache, else decoded from its file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from speechtune.audio.cache import AudioCache
from speechtune.audio.decode import MAX_DURATION_S, load_audio
from speechtune.audio.samples import dequantise, quantise
from speechtune.types import Utterance

__all__ = ["AudioReader"]


class AudioReader:
    """Reads utterances; can be pickled to loader workers.

    Samples are rounded to 16 bits with and without a cache, so that every epoch of every run sees the same numbers.

    Args:
        sampling_rate: Hz, of the samples returned.
        cache: keeps decoded samples; None decodes the file each time.
    """

    def __init__(self, sampling_rate: int, *, cache: AudioCache | None = None) -> None:
        self.sampling_rate = sampling_rate
        self.cache = cache

    def samples(self, utterance: Utterance) -> NDArray[np.float32]:
        """Return mono samples (num_samples,) float32 in [-1, 1); else as `pcm`."""
        return dequantise(self.pcm(utterance))

    def pcm(self, utterance: Utterance, *, max_duration_s: float = MAX_DURATION_S) -> NDArray[np.int16]:
        """Return mono samples (num_samples,) in 16 bits, read-only or not.

        Args:
            max_duration_s: decoding stops with an error at this limit; what the cache has is returned whole.

        Raises:
            AudioError: the recording can't be used.
        """
        pcm = None if self.cache is None else self.cache.get(utterance.audio_key)
        if pcm is None:
            name = utterance.file
            pcm = quantise(load_audio(utterance.audio, self.sampling_rate, name=name, max_duration_s=max_duration_s))
            if self.cache is not None:
                self.cache.put(utterance.audio_key, pcm)
        return pcm
