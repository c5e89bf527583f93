"""Make a speech encoder's output independent of padding, so that an utterance gets the same answer in any batch.

transformers' encoders mask padding in attention, but most let it in elsewhere: group norm takes its statistics over the
padded samples, convolutions inside the encoder and the adapter see what earlier layers made of the padding, SEW attends
to a frame that is half padding. `make_padding_invariant` changes a built model in place. It tracks the number of real
frames of each utterance in the tensor that flows through the model (`_Hooks`): hooks set it where the resolution
changes, and zero the padded frames where a convolution is about to read them, which is what the convolution's own zero
padding does for an utterance alone. Weights, their names and the config stay as they are, and without an attention mask
nothing changes.

Lengths stay tensors on the model's device: no `.item()`, no boolean index, hence no wait for a GPU. They go through a
recomputed layer (gradient checkpointing) as its argument, since by then the forward pass that knew them is over.

Rejected: copies of the model code (one for each family and release of transformers); one utterance a call (no
batching); running the norm in a loop over rows (a host-device sync each).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

from speechtune.models.encoder.masked_norms import (
    Lengths,
    MaskedBatchNorm1d,
    MaskedGroupNorm,
    convolved,
    is_real,
    zero_after,
)

__all__ = ["make_padding_invariant"]


class _Hooks(Lengths):
    """The lengths of one encoder, and the hooks that track and use them."""

    def __init__(self) -> None:
        super().__init__()
        self.unpooled: torch.Tensor | None = None  # SEW: frames before pooling, for its positional convolution

    # Hooks are methods, not closures, so that a copied model has hooks on its own lengths.

    def begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a feature extractor (lengths of the input) and before a transformer (lengths in frames)."""
        mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        self.now = None if mask is None else mask.sum(-1).long()

    def end(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """After it, also when it failed: forget the lengths."""
        self.now = self.unpooled = None

    def at_pooling_encoder(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Before SEW's transformer, which pools `squeeze_factor` frames into one and drops the remainder.

        It gets the mask of the whole groups, so that no pooled frame is part padding; only the positional convolution
        reads the remaining frames too, as it does without padding.
        """
        self.begin(module, args, kwargs)
        if self.now is None:
            return None
        self.unpooled = zero_after(args[0], self.now, time_dim=1)
        factor = int(module.config.squeeze_factor)  # type: ignore[union-attr, arg-type]
        self.now = self.now // factor * factor
        return args[:1], {**kwargs, "attention_mask": is_real(self.now, args[0].shape[1])}

    def unpooled_into_positions(self, module: nn.Module, args: tuple[Any, ...]) -> Any:
        """Before SEW's positional convolution."""
        frames, self.unpooled = self.unpooled, None
        return None if frames is None else (frames.transpose(1, 2),)

    def after_pooling_encoder(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """After SEW's transformer: frames after the last group are zero, as they are without padding."""
        if self.now is not None:
            output.last_hidden_state = zero_after(output.last_hidden_state, self.now, time_dim=1)
        return output

    def zero_padding(self, module: nn.Module, args: tuple[Any, ...]) -> Any:
        """Before a convolution over (B, C, T): zeros after the last real frame."""
        return None if self.now is None else (zero_after(args[0], self.now, time_dim=2), *args[1:])

    def after_adapter_layer(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """After a layer of the adapter: lengths after its strided convolution."""
        if self.now is not None:
            conv = next(child for child in module.children() if isinstance(child, nn.Conv1d))
            self.now = convolved(self.now, conv)

    # Conformers over mel frames (Parakeet, Lasr, Granite): they zero padding themselves, so only the norms are left.

    def begin_mel(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the encoder: lengths after the convolutions that come first, but for Granite's, which are inside."""
        self.begin(module, args, kwargs)
        if self.now is not None and not hasattr(module, "input_linear"):
            self.now = module._get_subsampling_output_length(self.now).long()  # type: ignore[operator]

    def halve(self, module: nn.Module, *args: Any) -> None:
        """Where one frame is made of two; a single one at the end is no real frame."""
        if self.now is not None:
            self.now = self.now // 2


class _CarriesLengths:
    """Mixin of a layer that gradient checkpointing may run again in the backward pass, when the lengths are forgotten.

    They are an argument of the layer's `forward`, which checkpointing repeats with the same arguments.
    """

    _lengths: _Hooks

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, real_lengths=self._lengths.now, **kwargs)  # type: ignore[misc]

    def forward(self, *args: Any, real_lengths: torch.Tensor | None = None, **kwargs: Any) -> Any:
        with self._lengths.set_to(real_lengths):
            return super().forward(*args, **kwargs)  # type: ignore[misc]


@functools.cache
def _carrying(layer_class: Any) -> Any:
    """Return `layer_class` with `_CarriesLengths`, under the same name: FSDP wraps by class name."""
    return type(layer_class.__name__, (_CarriesLengths, layer_class), {"__module__": layer_class.__module__})


def make_padding_invariant(model: nn.Module) -> bool:
    """Change `model` in place so that, called with `attention_mask`, no utterance's output depends on padding.

    Logits of an utterance alone and in any batch are then equal but for rounding. Without a mask the model computes
    what it did before. A second call changes nothing. Padding must be at the end of each utterance.

    Args:
        model: a CTC model, a speech encoder, or a speech encoder-decoder of transformers, on any device, before or
            after its weights are loaded; before it is wrapped (DDP, FSDP) or compiled.

    Returns:
        Whether anything was changed; some models are invariant as they are.
    """
    changed = False
    for encoder in list(model.modules()):
        transformer = getattr(encoder, "encoder", None)
        has_features = hasattr(encoder, "feature_extractor") or hasattr(encoder, "feature_projection")
        if isinstance(transformer, nn.Module) and has_features and not hasattr(encoder, "_padding_lengths"):
            changed |= _patch(encoder, transformer)
        layers = getattr(encoder, "layers", None)
        if hasattr(encoder, "_get_subsampling_output_length") and layers and hasattr(layers[0], "conv"):
            changed |= _patch_mel_encoder(encoder)
    return changed


def _patch_mel_encoder(encoder: Any) -> bool:
    """Batch norms of a conformer over mel frames take their statistics over the real frames only."""
    if hasattr(encoder, "_padding_lengths"):
        return False
    encoder._padding_lengths = lengths = _Hooks()
    for layer in encoder.layers:
        _mask_batch_norm(layer.conv.norm, lengths)
        _carry(layer, lengths)
        if layer.conv.depthwise_conv.stride[0] == 2:
            layer.conv.register_forward_pre_hook(lengths.halve)  # for its own norm; forgotten after the layer
            layer.register_forward_hook(lengths.halve)
    encoder.register_forward_pre_hook(lengths.begin_mel, with_kwargs=True)
    encoder.register_forward_hook(lengths.end, always_call=True)
    return True


def _patch(encoder: Any, transformer: Any) -> bool:
    """Patch one speech encoder (Wav2Vec2Model, SEWModel, ...) and its transformer; return whether anything changed."""
    lengths = _Hooks()
    parts = [
        _patch_feature_extractor(encoder, lengths),
        _patch_positions(transformer, lengths),
        _patch_conformer(transformer, lengths),
        _patch_adapter(encoder, lengths),
    ]
    pools = hasattr(transformer, "pool") and hasattr(transformer, "upsample")  # SEW
    if not pools and not any(parts):
        return False
    if pools:
        transformer.register_forward_pre_hook(lengths.at_pooling_encoder, with_kwargs=True)
        transformer.pos_conv_embed.register_forward_pre_hook(lengths.unpooled_into_positions)
        transformer.register_forward_hook(lengths.after_pooling_encoder)
    else:
        transformer.register_forward_pre_hook(lengths.begin, with_kwargs=True)
    encoder._padding_lengths = lengths
    encoder.register_forward_pre_hook(lengths.begin, with_kwargs=True)
    encoder.register_forward_hook(lengths.end, always_call=True)
    return True


def _patch_feature_extractor(encoder: Any, lengths: _Hooks) -> bool:
    """Group norms take their statistics over the real frames only."""
    patched = False
    for layer in getattr(getattr(encoder, "feature_extractor", None), "conv_layers", []):
        norm = getattr(layer, "layer_norm", None)
        if isinstance(norm, nn.GroupNorm):
            norm.__class__ = MaskedGroupNorm
            norm._lengths, norm._conv = lengths, (layer.conv,)  # type: ignore[assignment]
            _carry(layer, lengths)
            patched = True
    return patched


def _patch_positions(transformer: Any, lengths: _Hooks) -> bool:
    """Zero what positional convolutions read beyond the zeros that transformers puts into padded frames."""
    positions = getattr(transformer, "pos_conv_embed", None)
    if getattr(positions, "batch_norm", None) is not None:  # Hubert with conv_pos_batch_norm
        _mask_batch_norm(positions.batch_norm, lengths)  # type: ignore[union-attr]
        positions.conv.register_forward_pre_hook(lengths.zero_padding)  # type: ignore[union-attr]
        return True
    stacked = list(getattr(positions, "layers", []))[1:]  # data2vec
    for layer in stacked:
        layer.conv.register_forward_pre_hook(lengths.zero_padding)
    return bool(stacked)


def _patch_conformer(transformer: Any, lengths: _Hooks) -> bool:
    """Zero padding before the depthwise convolutions; batch norm over the real frames."""
    patched = False
    for layer in getattr(transformer, "layers", []):
        module = getattr(layer, "conv_module", None)
        norm = getattr(module, "batch_norm", None)
        if norm is not None:  # wav2vec2-bert masks by itself, and is causal
            _mask_batch_norm(norm, lengths)
            module.depthwise_conv.register_forward_pre_hook(lengths.zero_padding)  # type: ignore[union-attr]
            _carry(layer, lengths)
            patched = True
    return patched


def _patch_adapter(encoder: Any, lengths: _Hooks) -> bool:
    """Zero padding before the adapter's convolutions."""
    layers = list(getattr(getattr(encoder, "adapter", None), "layers", []))
    for layer in layers:
        for conv in layer.children():
            if isinstance(conv, nn.Conv1d):
                conv.register_forward_pre_hook(lengths.zero_padding)
        layer.register_forward_hook(lengths.after_adapter_layer)
    return bool(layers)


def _mask_batch_norm(norm: nn.Module, lengths: _Hooks) -> None:
    if isinstance(norm, nn.BatchNorm1d):
        norm.__class__ = MaskedBatchNorm1d
        norm._lengths = lengths  # type: ignore[assignment]


def _carry(layer: Any, lengths: _Hooks) -> None:
    layer_class: Any = type(layer)
    layer.__class__ = _carrying(layer_class)
    layer._lengths = lengths
