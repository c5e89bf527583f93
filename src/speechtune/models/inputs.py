"""Turn samples into the padded inputs of a model.

Equal to transformers' own feature extractors to the bit (tests hold it), but for one recording at a time, so that
loader workers do it and no statistic depends on padding.

Legend: B utterances, T samples or frames of the longest, F mel bins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from speechtune.audio.samples import FULL_SCALE, Samples, dequantise
from speechtune.errors import ModelError

if TYPE_CHECKING:
    from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor

__all__ = ["MAX_WHOLE_S", "FbankInput", "MelInput", "ModelInput", "WaveformInput", "input_for"]

Array = NDArray[np.float32]

MAX_WHOLE_S = 60.0  # longest recording that goes through a CTC encoder in one piece: attention's memory is quadratic


class ModelInput:
    """Turns one recording's samples into features, and a list of features into padded arrays.

    Samples are (num_samples,): float32 in [-1, 1], or 16 bits as they are kept (see pcm.py).
    """

    name: str  # keyword of the model's forward
    processor_class: str  # of transformers, in which a CTC model's tokenizer and feature extractor are saved
    sampling_rate: int
    feature_extractor: SequenceFeatureExtractor
    padding_value = 0.0
    needs_mask = True
    max_duration_s: float | None = None  # longest recording that the encoder takes at all
    usual_whole_s = MAX_WHOLE_S

    @property
    def max_whole_s(self) -> float:
        """Longest recording that is recognised in one piece; longer ones window by window."""
        return self.max_duration_s or self.usual_whole_s

    def num_features(self, num_samples: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return the lengths of the features of so many samples; None where they don't follow from them."""
        return None

    def features(self, samples: Samples) -> Any:
        """Return the features of this recording alone, time first; or what `pad` computes them from."""
        raise NotImplementedError

    def pad(self, features: Sequence[Any], *, min_length: int = 0) -> dict[str, NDArray[Any]]:
        """Stack features to (B, T, ...), padded at the end to the longest (and to `min_length`).

        `attention_mask` (B, T) int32 is there only where something was padded: attention without a mask is faster.
        """
        lengths = np.array([len(f) for f in features])
        longest = max(int(lengths.max()), min_length)
        batch = np.empty((len(features), longest, *features[0].shape[1:]), np.float32)
        for row, values in zip(batch, features, strict=True):
            self._write(values, row[: len(values)])
            row[len(values) :] = self.padding_value
        padded: dict[str, NDArray[Any]] = {self.name: batch}
        if (lengths < longest).any() and self.needs_mask:
            padded["attention_mask"] = mask = np.ones((len(features), longest), np.int32)
            for row, length in zip(mask, lengths, strict=True):
                row[length:] = 0
        return padded

    def _write(self, values: Any, row: Array) -> None:
        """Write a recording's features into its row of the batch."""
        row[:] = values


class WaveformInput(ModelInput):
    """wav2vec2 and its kin: samples, normalised to zero mean and unit variance where the checkpoint asks for it."""

    name = "input_values"
    processor_class = "Wav2Vec2Processor"

    def __init__(self, feature_extractor: SequenceFeatureExtractor, *, padding: str = "invariant") -> None:
        self.feature_extractor = feature_extractor
        self.sampling_rate = int(feature_extractor.sampling_rate)
        self.do_normalize = bool(feature_extractor.do_normalize)
        self.padding_value = float(getattr(feature_extractor, "padding_value", 0.0))
        self.needs_mask = padding != "original" or bool(feature_extractor.return_attention_mask)

    def num_features(self, num_samples: NDArray[np.int64]) -> NDArray[np.int64]:
        return num_samples

    def features(self, samples: Samples) -> Samples:
        return samples

    def _write(self, values: Samples, row: Array) -> None:
        """Normalise the samples in place in the batch, while they are in the CPU's cache."""
        row[:] = values
        if values.dtype == np.int16:
            row *= np.float32(1 / FULL_SCALE)
        if self.do_normalize and len(row):
            # (samples - mean) / sqrt(var + 1e-7), in numpy's own order of sums: transformers' to the bit.
            num_samples = np.float32(len(row))
            row -= np.add.reduce(row) / num_samples
            row /= np.sqrt(np.add.reduce(row * row) / num_samples + 1e-7)


class FbankInput(ModelInput):
    """wav2vec2-bert: 80 mel bins a 10 ms frame, two frames stacked, each bin normalised over the recording."""

    name = "input_features"
    processor_class = "Wav2Vec2BertProcessor"
    _min_samples = 400 + 160  # two windows of 25 ms, 10 ms apart: one frame of the model

    def __init__(self, feature_extractor: SequenceFeatureExtractor, *, padding: str = "invariant") -> None:
        self.feature_extractor = feature_extractor
        self.sampling_rate = int(feature_extractor.sampling_rate)

    def features(self, samples: Samples) -> Array:
        samples = dequantise(samples)
        if len(samples) < self._min_samples:  # else the extractor fails, or finds no frame
            samples = np.pad(samples, (0, self._min_samples - len(samples)))
        made = self.feature_extractor(samples, sampling_rate=self.sampling_rate, return_attention_mask=True)
        # One recording pads only to the stride; the frames that are real by the mask are kept.
        num_frames = int(np.asarray(made["attention_mask"][0]).sum())
        return np.asarray(made["input_features"][0], np.float32)[:num_frames]


class MelInput(ModelInput):
    """Conformers over mel frames 10 ms apart (Parakeet, Lasr, Granite): computed by their own feature extractors.

    Granite's stacks two frames with their differences; Parakeet's are normalised over the recording. The frame that
    Parakeet's computes beyond the last whole hop is masked by transformers, so it is left out here.
    """

    name = "input_features"

    def __init__(self, feature_extractor: SequenceFeatureExtractor, *, padding: str = "invariant") -> None:
        self.feature_extractor = feature_extractor
        self.sampling_rate = int(feature_extractor.sampling_rate)
        self.processor_class = type(feature_extractor).__name__.replace("FeatureExtractor", "Processor")
        if hasattr(feature_extractor, "max_audio_clip_s"):  # Cohere's cuts longer recordings itself
            self.max_duration_s = feature_extractor.max_audio_clip_s - feature_extractor.overlap_chunk_second
        # One frame has no variance over time to be normalised by.
        self._min_samples = feature_extractor.win_length + 2 * feature_extractor.hop_length

    def num_features(self, num_samples: NDArray[np.int64]) -> NDArray[np.int64]:
        extractor: Any = self.feature_extractor
        num_samples = np.maximum(num_samples, self._min_samples)
        if self.processor_class == "LasrProcessor":  # whole windows only
            return (num_samples - extractor.win_length) // extractor.hop_length + 1
        return -(-(num_samples // extractor.hop_length) // getattr(extractor, "frame_stacking", 1))

    def features(self, samples: Samples) -> Array:
        samples = dequantise(samples)
        if len(samples) < self._min_samples:
            samples = np.pad(samples, (0, self._min_samples - len(samples)))
        made = self.feature_extractor(
            samples, sampling_rate=self.sampling_rate, return_attention_mask=True, return_tensors="np"
        )
        num_frames = int(made["attention_mask"][0].sum())
        return np.asarray(made["input_features"][0], np.float32)[:num_frames]


# Class of a feature extractor -> input: a CTC family that transformers adds may need a row.
_INPUTS: dict[str, Callable[..., ModelInput]] = {
    "CohereAsrFeatureExtractor": MelInput,
    "GraniteSpeech5FeatureExtractor": MelInput,
    "LasrFeatureExtractor": MelInput,
    "NemotronAsrStreamingFeatureExtractor": MelInput,
    "ParakeetFeatureExtractor": MelInput,
    "Wav2Vec2FeatureExtractor": WaveformInput,
    "SpeechT5FeatureExtractor": WaveformInput,
    "SeamlessM4TFeatureExtractor": FbankInput,
    "Speech2TextFeatureExtractor": FbankInput,
}


def input_for(feature_extractor: SequenceFeatureExtractor, *, padding: str = "invariant") -> ModelInput:
    """Return the input of a model by its feature extractor's class.

    Raises:
        ModelError: the feature extractor is of an unsupported class.
    """
    kind = type(feature_extractor).__name__
    if kind not in _INPUTS:
        raise ModelError(
            f"Feature extractor {kind}: speechtune prepares audio for {', '.join(_INPUTS)} and "
            "WhisperFeatureExtractor.\nUse a model of the families in docs/models.md."
        )
    return _INPUTS[kind](feature_extractor, padding=padding)
