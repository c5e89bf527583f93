"""Count the frames that an encoder makes of an input, and the frames that a transcript needs.

Both are known before training, from durations and labels alone: utterances whose labels don't fit their frames have an
infinite CTC loss, and are found here instead. Computed from the config, without building the model: transformers' own
`_get_feat_extract_output_lengths` is a method of the model (tests hold that both agree).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechtune.errors import ModelError, TextError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = [
    "encoder_config_of", "input_stride", "min_ctc_frames", "min_input_length", "num_encoder_frames", "num_frames",
    "spec_augment_frames",
]  # fmt: skip

Lengths = NDArray[np.int64]

MAX_MASK_FRAMES = 500  # inputs are not padded for longer masks of SpecAugment; those are cut to the batch's frames
MAX_INPUT_LENGTH = 2**26  # 70 minutes at 16 kHz


def min_ctc_frames(labels: Sequence[int]) -> int:
    """Return the fewest encoder frames on which CTC can emit `labels`.

    Equal neighbours need a blank between them, so each repeat costs one frame. With fewer frames the loss is infinite.

    Args:
        labels: token ids, shape (L,), no padding. May be empty.

    Raises:
        TextError: an id is negative, e.g. -100 from collation.

    Source: Graves et al. 2006, section 3.1.
    """
    if len(labels) and min(labels) < 0:
        raise TextError(f"Labels hold {min(labels)}: padding, not a token. Count frames before labels are padded.")
    return len(labels) + sum(left == right for left, right in itertools.pairwise(labels))


def encoder_config_of(config: Any) -> Any:
    """Return the configuration of a model's speech encoder: a part of it, or itself."""
    return getattr(config, "encoder", None) or getattr(config, "encoder_config", None) or config


def num_frames(config: PreTrainedConfig, input_lengths: ArrayLike) -> Lengths:
    """Return the frames of the model's output, i.e. of its logits, for inputs of these lengths.

    Args:
        config: of a CTC model, or of a speech encoder-decoder (then its encoder's frames, adapter included, are
            counted).
        input_lengths: lengths of the model's input, any shape: samples for `input_values` (wav2vec2 and its kin),
            feature frames for `input_features` (wav2vec2-bert).

    Returns:
        int64, shape of `input_lengths`; 0 where the input is shorter than the model's receptive field.
    """
    encoder = encoder_config_of(config)
    lengths = num_encoder_frames(encoder, np.asarray(input_lengths, np.int64))
    if getattr(encoder, "add_adapter", False):
        # In the wav2vec2 family the adapter pads so that only its stride counts, as transformers does.
        kernel_size = encoder.adapter_kernel_size if encoder.model_type == "wav2vec2-bert" else 1
        for _ in range(encoder.num_adapter_layers):
            lengths = _convolved(lengths + 2 * (kernel_size // 2), kernel_size, encoder.adapter_stride)
    return np.maximum(lengths, 0)


def num_encoder_frames(config: PreTrainedConfig, lengths: Lengths) -> Lengths:
    """As `num_frames`, of a speech encoder's own config, before an adapter."""
    if config.model_type == "wav2vec2-bert":  # reads fbank frames as they are
        return lengths
    if hasattr(config, "subsample_layers"):  # Granite: pairs of frames are averaged, a single one is dropped
        return lengths // 2 ** len(config.subsample_layers)
    if (subsampling := _subsampling(config)) is not None:
        kernel_size, stride, padding, num_layers = subsampling
        for _ in range(num_layers):
            lengths = np.maximum(_convolved(lengths + padding, kernel_size, stride), 0)
        return lengths
    if not hasattr(config, "conv_kernel"):
        raise ModelError(
            f"{config.model_type} models are not supported: speechtune can't count their encoder's frames.\n"
            "Use a model of the families in docs/models.md."
        )
    for kernel_size, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        lengths = np.maximum(_convolved(lengths, kernel_size, stride), 0)
    return lengths


def input_stride(config: PreTrainedConfig) -> int:
    """Return the samples (or feature frames) from one frame of a CTC model's output to the next."""
    config = encoder_config_of(config)
    if hasattr(config, "subsample_layers"):
        return int(2 ** len(config.subsample_layers))
    if (subsampling := _subsampling(config)) is not None:
        return subsampling[1] ** subsampling[3]
    stride = 1 if config.model_type == "wav2vec2-bert" else math.prod(config.conv_stride)
    if getattr(config, "add_adapter", False):
        stride *= config.adapter_stride**config.num_adapter_layers
    return int(stride)


def _subsampling(config: Any) -> tuple[int, int, int, int] | None:
    """Return kernel size, stride, padding (both sides) and number of the convolutions before a conformer.

    Parakeet's pad, Nemotron's mostly on the left; Lasr's, always two, do not.
    """
    if not hasattr(config, "subsampling_conv_stride"):
        return None
    kernel_size, stride = int(config.subsampling_conv_kernel_size), int(config.subsampling_conv_stride)
    if not hasattr(config, "subsampling_factor"):
        return kernel_size, stride, 0, 2
    is_causal = hasattr(config, "default_num_lookahead_tokens")
    padding = kernel_size - 1 + stride - 1 if is_causal else 2 * ((kernel_size - 1) // 2)
    return kernel_size, stride, padding, int(math.log2(config.subsampling_factor))


def _convolved(lengths: Lengths, kernel_size: int, stride: int) -> Lengths:
    return (lengths - kernel_size) // stride + 1


def spec_augment_frames(config: PreTrainedConfig) -> int:
    """Return the frames that a batch needs for SpecAugment's masks over time; 0 without them.

    transformers refuses a mask as long as the batch.
    """
    if not getattr(config, "apply_spec_augment", False) or not getattr(config, "mask_time_prob", 0):
        return 0
    return min(int(config.mask_time_length), MAX_MASK_FRAMES) + 1


def min_input_length(config: PreTrainedConfig, frames: int) -> int:
    """Return an input length, a power of two, of which the model makes at least `frames`."""
    length = 1
    while num_frames(config, [length])[0] < frames:
        length *= 2
        if length > MAX_INPUT_LENGTH:
            raise ModelError(f"{config.model_type}: makes no {frames} frames of {length} samples. Check conv_stride.")
    return length
