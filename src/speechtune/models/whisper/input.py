"""Whisper's log-mel spectrogram, computed on the real frames only.

`WhisperFeatureExtractor` pads every clip to 30 s with zeros and transforms all of it: 83 % of the work on clips of
5 s. All frames of the padding are equal, so here one is computed for each clip. Equal to the extractor within 2e-7 (a
test holds it).

Legend: T frames of 10 ms, F mel bins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from speechtune.audio.samples import Samples, dequantise
from speechtune.errors import AudioError
from speechtune.models.inputs import Array, ModelInput

if TYPE_CHECKING:
    from transformers import WhisperFeatureExtractor

__all__ = ["WhisperInput"]

MEL_FLOOR = 1e-10  # power below which log10 is not taken
MIN_FRAMES = 32  # a matrix product with fewer columns is rounded differently
DYNAMIC_RANGE = 8.0  # frames are clamped to this many decades below the clip's loudest bin


class WhisperInput(ModelInput):
    """Log-mel frames of one clip, and batches of them as (B, F, T).

    A clip's features end with one frame of the silence that follows it (unless the clip is 30 s long). `pad` repeats
    it: the value of silence depends on the clip's loudest bin.

    Args:
        frames: frames of a clip -> frames that the encoder is given; None means the whole 30 s.
        mask: `pad` also returns which frames are real, for SpecAugment.
        no_longer: a clip over 30 s is an AudioError, for training.
    """

    name = "input_features"

    def __init__(
        self,
        feature_extractor: WhisperFeatureExtractor,
        *,
        frames: Callable[[int], int] | None = None,
        mask: bool = False,
        no_longer: bool = False,
    ) -> None:
        self.feature_extractor = feature_extractor
        self.sampling_rate = int(feature_extractor.sampling_rate)
        self.max_frames = int(feature_extractor.nb_max_frames)
        self.max_duration_s = float(feature_extractor.n_samples) / self.sampling_rate
        self.frames = frames
        self.mask = mask
        self.no_longer = no_longer

    def features(self, samples: Samples) -> Array:
        """(num_samples,) -> (T, F) float32.

        Raises:
            AudioError: over 30 s, where `no_longer` is set.
        """
        extractor, samples = self.feature_extractor, dequantise(samples)
        num_samples = len(samples)
        if num_samples > extractor.n_samples and self.no_longer:
            raise AudioError(
                f"{num_samples / self.sampling_rate:.1f} s: Whisper takes {self.max_duration_s:g} s", reason="too_long"
            )
        if extractor.dither:  # noise everywhere: no two frames are equal
            return self._whole(samples)
        # A frame is centred on its hop and reads half a window to each side: later ones see zeros alone.
        num_real = (num_samples + extractor.n_fft // 2 - 1) // extractor.hop_length + 1
        needed = max(num_real, MIN_FRAMES) * extractor.hop_length + extractor.n_fft
        padded = np.zeros(max(num_samples, min(needed, extractor.n_samples)), np.float32)
        padded[:num_samples] = samples
        return self._log_mel(padded)[: num_real + 1]

    def _log_mel(self, samples: Array) -> Array:
        """Do what the extractor's _torch_extract_fbank_features does."""
        import torch

        extractor = self.feature_extractor
        window = torch.hann_window(extractor.n_fft)
        stft = torch.stft(
            torch.from_numpy(samples), extractor.n_fft, extractor.hop_length, window=window, return_complex=True
        )
        power = (stft[:, :-1].abs() ** 2).contiguous()
        mel = torch.from_numpy(extractor.mel_filters).to(torch.float32).T @ power
        log_mel = torch.clamp(mel, min=MEL_FLOOR).log10()
        log_mel = torch.maximum(log_mel, log_mel.max() - DYNAMIC_RANGE)
        frames: Array = ((log_mel + 4.0) / 4.0).T.contiguous().numpy()
        return frames

    def _whole(self, samples: Array) -> Array:
        made = self.feature_extractor(
            samples,
            sampling_rate=self.sampling_rate,
            truncation=False,
            padding="max_length" if len(samples) < self.feature_extractor.n_samples else "longest",
            return_tensors="np",
        )
        frames: Array = np.ascontiguousarray(made["input_features"][0].T)
        return frames

    def pad(self, features: Sequence[Array], *, min_length: int = 0) -> dict[str, NDArray[Any]]:
        """Stack features to (B, F, T), each clip followed by its own silence.

        T is what the clip with most of it needs: 30 s, or by `frames`; more only where a clip is longer.
        """
        lengths = [len(f) for f in features]
        longest = max(max(self.num_frames(length), length) for length in lengths)
        batch = np.empty((len(features), features[0].shape[1], longest), np.float32)
        for row, values in zip(batch, features, strict=True):
            row[:, : len(values)] = values.T
            row[:, len(values) :] = values[-1][:, None]
        padded: dict[str, NDArray[Any]] = {self.name: batch}
        if self.mask:
            padded["attention_mask"] = (np.arange(longest)[None, :] < np.array(lengths)[:, None]).astype(np.int32)
        return padded

    def num_frames(self, clip_frames: int) -> int:
        """Return the frames that the encoder is given for a clip of so many."""
        if self.frames is None:
            return self.max_frames
        return min(self.frames(clip_frames), self.max_frames)
