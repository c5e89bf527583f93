"""From samples to what a model's first layer takes, and back to how many frames that makes.

Equal to transformers' own feature extractors to the bit (tests hold it), but for one recording at a time, so that
loader workers do it and padding never takes part in a statistic.

Legend: B utterances, T samples or frames of the longest, F mel bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechtune.audio.samples import FULL_SCALE, Samples, dequantise
from speechtune.errors import ModelError

__all__ = ["FbankInput", "ModelInput", "WaveformInput", "input_for"]

Array = NDArray[np.float32]


class ModelInput:
    """One recording's samples -> features; a list of features -> padded arrays with a mask where there is padding.

    Samples are (num_samples,): float32 in [-1, 1], or 16 bits as they are kept (see pcm.py).
    """

    name: str  # keyword of the model's forward
    sampling_rate: int
    feature_extractor: Any

    def features(self, samples: Samples) -> Any:
        """Features of this recording alone, time first: float32, or what `pad` makes them of as it lays them out."""
        raise NotImplementedError

    def pad(self, features: Sequence[Any], *, min_length: int = 0) -> dict[str, NDArray[Any]]:
        """Stack features to (B, T, ...), padded at the end to the longest (and to `min_length`).

        `attention_mask` (B, T) int32 is there only where something was padded: attention without a mask is faster.
        """
        lengths = np.array([len(f) for f in features])
        longest = max(int(lengths.max()), min_length)
        batch = np.empty((len(features), longest, *features[0].shape[1:]), np.float32)
        for row, values in zip(batch, features, strict=True):
            self._lay(values, row[: len(values)])
            row[len(values) :] = self._padding_value()
        padded: dict[str, NDArray[Any]] = {self.name: batch}
        if (lengths < longest).any() and self._wants_mask():
            padded["attention_mask"] = mask = np.ones((len(features), longest), np.int32)
            for row, length in zip(mask, lengths, strict=True):
                row[length:] = 0
        return padded

    def _lay(self, values: Any, row: Array) -> None:
        """Put a recording's features into its part of the batch."""
        row[:] = values

    def _padding_value(self) -> float:
        return float(getattr(self.feature_extractor, "padding_value", 0.0))

    def _wants_mask(self) -> bool:
        return True


class WaveformInput(ModelInput):
    """wav2vec2 and its kin: samples, normalised to zero mean and unit variance where the checkpoint asks for it."""

    name = "input_values"

    def __init__(self, feature_extractor: Any, *, padding: str = "invariant") -> None:
        self.feature_extractor = feature_extractor
        self.sampling_rate = int(feature_extractor.sampling_rate)
        self.do_normalize = bool(feature_extractor.do_normalize)
        self.mask = padding != "original" or bool(feature_extractor.return_attention_mask)

    def features(self, samples: Samples) -> Samples:
        return samples

    def _lay(self, values: Samples, row: Array) -> None:
        """Normalised in their place in the batch, while they are in the processor's cache."""
        row[:] = values
        if values.dtype == np.int16:
            row *= np.float32(1 / FULL_SCALE)
        if self.do_normalize and len(row):
            # (samples - mean) / sqrt(var + 1e-7), in numpy's own order of sums: transformers' to the bit.
            num_samples = np.float32(len(row))
            row -= np.add.reduce(row) / num_samples
            row /= np.sqrt(np.add.reduce(row * row) / num_samples + 1e-7)

    def _wants_mask(self) -> bool:
        return self.mask


class FbankInput(ModelInput):
    """wav2vec2-bert: 80 mel bins a 10 ms frame, two frames stacked, each bin normalised over the recording."""

    name = "input_features"
    _min_samples = 400 + 160  # two windows of 25 ms, 10 ms apart: one frame of the model

    def __init__(self, feature_extractor: Any) -> None:
        self.feature_extractor = feature_extractor
        self.sampling_rate = int(feature_extractor.sampling_rate)

    def features(self, samples: Samples) -> Array:
        samples = dequantise(samples)
        if len(samples) < self._min_samples:  # else it fails, or says that nothing is there
            samples = np.pad(samples, (0, self._min_samples - len(samples)))
        made = self.feature_extractor(samples, sampling_rate=self.sampling_rate, return_attention_mask=True)
        # One recording pads only to the stride; the frames that are real by the mask are kept.
        num_frames = int(np.asarray(made["attention_mask"][0]).sum())
        return np.asarray(made["input_features"][0], np.float32)[:num_frames]

    def _padding_value(self) -> float:
        return 0.0


def input_for(feature_extractor: Any, *, padding: str = "invariant") -> ModelInput:
    """The input of a CTC model by its feature extractor's class.

    Raises:
        ModelError: the feature extractor is of a kind that no row here makes.
    """
    kind = type(feature_extractor).__name__
    if kind == "Wav2Vec2FeatureExtractor":
        return WaveformInput(feature_extractor, padding=padding)
    if kind == "SeamlessM4TFeatureExtractor":
        return FbankInput(feature_extractor)
    raise ModelError(
        f"Feature extractor {kind}: speechtune prepares audio for Wav2Vec2FeatureExtractor, "
        "SeamlessM4TFeatureExtractor and WhisperFeatureExtractor.\nUse a model of the families in docs/models.md."
    )
