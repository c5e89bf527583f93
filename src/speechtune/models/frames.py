"""How many frames a CTC model's encoder makes of an input, and how many a transcript needs.

Both are known before training, from durations and labels alone: utterances whose labels don't fit their frames have an
infinite loss, and are found here instead. Computed from the config, without building the model: transformers' own
`_get_feat_extract_output_lengths` is a method of the model (tests hold that both agree).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechtune.errors import TextError

__all__ = ["min_ctc_frames", "num_encoder_frames", "num_fbank_frames", "num_frames"]

Lengths = NDArray[np.int64]


def min_ctc_frames(labels: Sequence[int]) -> int:
    """Fewest encoder frames on which CTC can emit `labels`.

    Equal neighbours need a blank between them, so each repeat costs one frame. With fewer frames the loss is infinite.

    Args:
        labels: token ids, shape (L,), no padding. May be empty.

    Returns:
        Number of encoder frames (not samples), at least L.

    Raises:
        TextError: an id is negative, e.g. -100 from collation.

    Source: Graves et al. 2006, section 3.1.
    """
    if len(labels) and min(labels) < 0:
        raise TextError(f"Labels hold {min(labels)}: padding, not a token. Count frames before labels are padded.")
    return len(labels) + sum(left == right for left, right in itertools.pairwise(labels))


def num_frames(config: Any, input_lengths: ArrayLike) -> Lengths:
    """Frames of the model's output, i.e. of its logits, for inputs of these lengths.

    Args:
        config: a transformers config: of a CTC model, or of a speech encoder-decoder (then its encoder's frames,
            adapter included, are counted).
        input_lengths: lengths of the model's input, any shape: samples for `input_values` (wav2vec2 and its kin),
            feature frames for `input_features` (wav2vec2-bert: `num_fbank_frames`; Parakeet, LASR, Granite).

    Returns:
        int64, shape of `input_lengths`; 0 where the input is shorter than the model's receptive field.
    """
    lengths = np.asarray(input_lengths, np.int64)
    encoder = getattr(config, "encoder", None) or getattr(config, "encoder_config", None) or config
    lengths = num_encoder_frames(encoder, lengths)
    if getattr(encoder, "add_adapter", False):
        # Of the wav2vec2 family the adapter pads so that only its stride counts, as transformers does.
        kernel_size = encoder.adapter_kernel_size if encoder.model_type == "wav2vec2-bert" else 1
        for _ in range(encoder.num_adapter_layers):
            lengths = _convolved(lengths, kernel_size, encoder.adapter_stride, padding=kernel_size // 2)
    return np.maximum(lengths, 0)


def num_encoder_frames(config: Any, lengths: Lengths) -> Lengths:
    """As `num_frames`, of a speech encoder's own config, before an adapter; negative where the input is too short."""
    model_type = str(config.model_type)
    if model_type.startswith("parakeet"):
        padding = (config.subsampling_conv_kernel_size - 1) // 2
        for _ in range(int(config.subsampling_factor).bit_length() - 1):
            lengths = _convolved(
                lengths, config.subsampling_conv_kernel_size, config.subsampling_conv_stride, padding=padding
            )
        return lengths
    if model_type.startswith("lasr"):
        for _ in range(2):
            lengths = _convolved(lengths, config.subsampling_conv_kernel_size, config.subsampling_conv_stride)
        return lengths
    if model_type.startswith("granite_speech5"):
        return lengths // 2 ** len(config.subsample_layers)
    if model_type != "wav2vec2-bert":
        for kernel_size, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            lengths = np.maximum(_convolved(lengths, kernel_size, stride), 0)
    return lengths


def _convolved(lengths: Lengths, kernel_size: int, stride: int, *, padding: int = 0) -> Lengths:
    return (lengths + 2 * padding - kernel_size) // stride + 1


def num_fbank_frames(
    num_samples: ArrayLike, *, frame_length: int = 400, hop_length: int = 160, stride: int = 2
) -> Lengths:
    """Feature frames that `SeamlessM4TFeatureExtractor` (wav2vec2-bert) makes of recordings at 16 kHz.

    Args:
        num_samples: lengths of the recordings, any shape.
        frame_length: samples of one filter-bank frame (25 ms).
        hop_length: samples from one frame to the next (10 ms).
        stride: filter-bank frames stacked into one feature frame; a rest is padding.

    Returns:
        int64, shape of `num_samples`: the number of ones in the extractor's attention mask.
    """
    samples = np.asarray(num_samples, np.int64)
    return np.maximum((samples - frame_length) // hop_length + 1, 0) // stride
