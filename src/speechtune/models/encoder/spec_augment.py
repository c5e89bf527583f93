"""SpecAugment without a wait for the GPU: masks are drawn from lengths that the host knows, and applied without a sync.

transformers reads the length of each utterance from the attention mask on the GPU (`.tolist()`), so the host waits for
all earlier work in every step; and it applies masks by boolean index, which waits once more to count them. Here the
lengths come with the batch, the same function of transformers draws the same masks from the same random numbers, and
they are applied by `torch.where`. A mask longer than the batch, which transformers refuses, is cut to the batch.

Source: Park et al. 2019, "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition".
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn

from speechtune.models.encoder.masked_norms import Lengths, is_real
from speechtune.models.frames import num_encoder_frames

__all__ = ["draw_masks_on_host"]


def draw_masks_on_host(model: nn.Module) -> Lengths:
    """Make a model's SpecAugment use the lengths that are returned: set them (`set_to`) around a forward pass.

    They are (B,) int64 on the CPU: samples or frames of each utterance, before the model's own subsampling. While they
    are not set, or for another number of utterances, transformers' own masks apply.
    """
    lengths = Lengths()
    for module in model.modules():
        for name, masks in (("_mask_hidden_states", _FrameMasks), ("_mask_input_features", _FeatureMasks)):
            if hasattr(module, name):
                setattr(module, name, masks(module, lengths))
    return lengths


class _Masks:
    """Replaces a method of an encoder of transformers."""

    def __init__(self, encoder: Any, lengths: Lengths) -> None:
        self.encoder, self.lengths = encoder, lengths

    def _are_drawn_here(self, values: torch.Tensor) -> bool:
        known = self.lengths.now
        augments = self.encoder.training and getattr(self.encoder.config, "apply_spec_augment", True)
        return augments and known is not None and len(known) == len(values)

    def _over_time(self, values: torch.Tensor, num_frames: int, lengths: torch.Tensor | None) -> torch.Tensor | None:
        if self.encoder.config.mask_time_prob <= 0:
            return None
        real = None if lengths is None else is_real(lengths, num_frames)
        return self._draw(values, num_frames, "time", attention_mask=real)

    def _over_channels(self, values: torch.Tensor, num_channels: int) -> torch.Tensor | None:
        return self._draw(values, num_channels, "feature") if self.encoder.config.mask_feature_prob > 0 else None

    def _draw(self, values: torch.Tensor, size: int, kind: str, **more: Any) -> torch.Tensor:
        """Return a mask (B, size) on the device of `values`, True where something is masked."""
        config = self.encoder.config
        if hasattr(config, f"mask_{kind}_min_masks"):  # WavLM has none over features
            more["min_masks"] = getattr(config, f"mask_{kind}_min_masks")
        drawn = sys.modules[type(self.encoder).__module__]._compute_mask_indices(
            (len(values), size),
            mask_prob=getattr(config, f"mask_{kind}_prob"),
            mask_length=min(getattr(config, f"mask_{kind}_length"), size),
            **more,
        )
        mask = torch.from_numpy(drawn)
        if values.device.type == "cuda":
            mask = mask.pin_memory()  # else the copy would wait for the GPU
        return mask.to(values.device, non_blocking=True)


class _FrameMasks(_Masks):
    """`_mask_hidden_states` of wav2vec2 and its kin."""

    def __call__(self, hidden_states: torch.Tensor, mask_time_indices: Any = None, attention_mask: Any = None) -> Any:
        """(B, T, D) -> (B, T, D)."""
        if mask_time_indices is not None or not self._are_drawn_here(hidden_states):
            original = type(self.encoder)._mask_hidden_states
            return original(self.encoder, hidden_states, mask_time_indices, attention_mask)
        _, num_frames, num_channels = hidden_states.shape
        lengths = None
        if attention_mask is not None:
            assert self.lengths.now is not None
            lengths = torch.from_numpy(num_encoder_frames(self.encoder.config, self.lengths.now.numpy()))
        mask = self._over_time(hidden_states, num_frames, lengths)
        if mask is not None:
            embedding = self.encoder.masked_spec_embed.to(hidden_states.dtype)
            hidden_states = torch.where(mask[:, :, None], embedding, hidden_states)
        mask = self._over_channels(hidden_states, num_channels)
        return hidden_states if mask is None else hidden_states.masked_fill(mask[:, None], 0)


class _FeatureMasks(_Masks):
    """`_mask_input_features` of Whisper."""

    def __call__(self, input_features: torch.Tensor, attention_mask: Any = None) -> Any:
        """(B, F, T) -> (B, F, T)."""
        if not self._are_drawn_here(input_features):
            return type(self.encoder)._mask_input_features(self.encoder, input_features, attention_mask)
        _, num_channels, num_frames = input_features.shape
        mask = self._over_time(input_features, num_frames, None if attention_mask is None else self.lengths.now)
        if mask is not None:
            input_features = input_features.masked_fill(mask[:, None], 0)
        mask = self._over_channels(input_features, num_channels)
        return input_features if mask is None else input_features.masked_fill(mask[:, :, None], 0)
