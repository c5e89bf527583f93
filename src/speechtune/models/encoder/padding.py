"""The same answer however an utterance is batched: padding stops taking part in what a speech encoder computes.

transformers' encoders mask padding in attention, but most let it in elsewhere: group norm takes its statistics over the
padded samples, convolutions inside the encoder and the adapter see what earlier layers made of the padding, SEW attends
to a frame that is half padding. `make_padding_invariant` mends a built model in place. What it knows is the number of
real frames of each utterance in the tensor that flows through the model at that moment (`_Hooks`): hooks set it where
the resolution changes, and zero the padded frames where a convolution is about to read them, which is what the
convolution's own zero padding does for an utterance alone. Weights, their names and the config stay as they are, and
without an attention mask nothing changes.

Lengths stay tensors on the model's device: no `.item()`, no boolean index, hence no wait for a GPU. They go through a
recomputed layer (gradient checkpointing) as its argument, since by then the forward pass that knew them is over.

Rejected: copies of the model code (a family each, for every release of transformers); one utterance a call (no
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
    """The lengths of one encoder, and the hooks that keep and use them."""

    def __init__(self) -> None:
        super().__init__()
        self.unpooled: torch.Tensor | None = None  # SEW: frames before pooling, for its positional convolution

    # Hooks are methods, not closures, so that a copied or pickled model has hooks on its own lengths.

    def begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before an encoder with its feature extractor: lengths of the input."""
        mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        self.now = None if mask is None else mask.sum(-1).long()

    def end(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """After it, also when it failed: nothing is known any more."""
        self.now = self.unpooled = None

    def at_encoder(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the transformer: lengths in frames."""
        self.begin(module, args, kwargs)

    def at_pooling_encoder(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Before SEW's transformer, which pools `squeeze_factor` frames into one and drops a rest at the end.

        It is given the mask of the whole groups, so that no pooled frame is part padding; the positional convolution
        alone reads the frames of the rest too, as it does without padding.
        """
        self.at_encoder(module, args, kwargs)
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
        """After SEW's transformer: the rest is zero, as it is without padding."""
        if self.now is not None:
            output.last_hidden_state = zero_after(output.last_hidden_state, self.now, time_dim=1)
        return output

    def zero_padding(self, module: nn.Module, args: tuple[Any, ...]) -> Any:
        """Before a convolution over (B, C, T): zeros after the last real frame."""
        return None if self.now is None else (zero_after(args[0], self.now, time_dim=2), *args[1:])

    def after_adapter_layer(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """After a layer of the adapter: lengths that its strided convolution leaves."""
        if self.now is not None:
            conv = next(child for child in module.children() if isinstance(child, nn.Conv1d))
            self.now = convolved(self.now, conv)


class _CarriesLengths:
    """Mixin of a layer that gradient checkpointing may run again in the backward pass, when the lengths are forgotten.

    They travel as an argument of the layer's `forward`, which checkpointing repeats as it was.
    """

    _lengths: _Hooks

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, real_lengths=self._lengths.now, **kwargs)  # type: ignore[misc]

    def forward(self, *args: Any, real_lengths: torch.Tensor | None = None, **kwargs: Any) -> Any:
        with self._lengths.set_to(real_lengths):
            return super().forward(*args, **kwargs)  # type: ignore[misc]

    def __reduce_ex__(self, protocol: Any) -> Any:
        original = type(self).__mro__[2]
        return _new_carrying, (original,), self.__dict__


@functools.cache
def _carrying(layer_class: Any) -> Any:
    """`layer_class` with `_CarriesLengths`, under its own name: FSDP's wrapping goes by class names."""
    return type(layer_class.__name__, (_CarriesLengths, layer_class), {"__module__": layer_class.__module__})


def _new_carrying(layer_class: Any) -> Any:
    carrying = _carrying(layer_class)
    return carrying.__new__(carrying)


def make_padding_invariant(model: nn.Module) -> list[str]:
    """Change `model` in place so that, called with `attention_mask`, padding has no part in any utterance's output.

    Logits of an utterance alone and in any batch are then equal but for rounding. Without a mask the model computes
    what it did before. Doing it twice changes nothing more. Padding must be at the end of each utterance.

    Args:
        model: a CTC model, a speech encoder, or a speech encoder-decoder of transformers, on any device, before or
            after its weights are loaded; before it is wrapped (DDP, FSDP) or compiled.

    Returns:
        What was done, one line each; empty where the model is invariant as it is.
    """
    done: list[str] = []
    for name, encoder in list(model.named_modules()):
        transformer = getattr(encoder, "encoder", None)
        has_features = hasattr(encoder, "feature_extractor") or hasattr(encoder, "feature_projection")
        if isinstance(transformer, nn.Module) and has_features and not hasattr(encoder, "_padding_lengths"):
            done += [f"{name or type(encoder).__name__}: {line}" for line in _mend(encoder, transformer)]
    return done


def _mend(encoder: nn.Module, transformer: nn.Module) -> list[str]:
    """One speech encoder (Wav2Vec2Model, SEWModel, ...) and its transformer; what was done, a line each."""
    lengths = _Hooks()
    done = _mend_feature_extractor(encoder, lengths)
    done += _mend_positions(transformer, lengths)
    done += _mend_conformer(transformer, lengths)
    done += _mend_adapter(encoder, lengths)
    if hasattr(transformer, "pool") and hasattr(transformer, "upsample"):
        transformer.register_forward_pre_hook(lengths.at_pooling_encoder, with_kwargs=True)
        transformer.pos_conv_embed.register_forward_pre_hook(lengths.unpooled_into_positions)  # type: ignore[union-attr]
        transformer.register_forward_hook(lengths.after_pooling_encoder)
        done.append("pooling takes no group of frames that is part padding")
    elif done:
        transformer.register_forward_pre_hook(lengths.at_encoder, with_kwargs=True)
    if done:
        encoder._padding_lengths = lengths  # type: ignore[assignment]
        encoder.register_forward_pre_hook(lengths.begin, with_kwargs=True)
        encoder.register_forward_hook(lengths.end, always_call=True)
    return done


def _mend_feature_extractor(encoder: nn.Module, lengths: _Hooks) -> list[str]:
    done = []
    for layer in getattr(getattr(encoder, "feature_extractor", None), "conv_layers", []):
        norm = getattr(layer, "layer_norm", None)
        if isinstance(norm, nn.GroupNorm):
            norm.__class__ = MaskedGroupNorm
            norm._lengths, norm._conv = lengths, (layer.conv,)  # type: ignore[assignment]
            _carry(layer, lengths)
            done.append("group norm over the real frames only")
    return done


def _mend_positions(transformer: nn.Module, lengths: _Hooks) -> list[str]:
    """Positional convolutions that read more than the zeros transformers puts into padded frames."""
    positions = getattr(transformer, "pos_conv_embed", None)
    if getattr(positions, "batch_norm", None) is not None:  # Hubert with conv_pos_batch_norm
        _mask_batch_norm(positions.batch_norm, lengths)  # type: ignore[union-attr]
        positions.conv.register_forward_pre_hook(lengths.zero_padding)  # type: ignore[union-attr]
        return ["padding zeroed between batch norm and positional convolution"]
    stacked = getattr(positions, "layers", [])  # data2vec
    for layer in list(stacked)[1:]:
        layer.conv.register_forward_pre_hook(lengths.zero_padding)
    return ["padding zeroed between the positional convolutions"] if len(stacked) > 1 else []


def _mend_conformer(transformer: nn.Module, lengths: _Hooks) -> list[str]:
    done = []
    for layer in getattr(transformer, "layers", []):
        module = getattr(layer, "conv_module", None)
        norm = getattr(module, "batch_norm", None)
        if norm is not None:  # wav2vec2-bert masks by itself, and is causal
            _mask_batch_norm(norm, lengths)
            module.depthwise_conv.register_forward_pre_hook(lengths.zero_padding)  # type: ignore[union-attr]
            _carry(layer, lengths)
            done = ["padding zeroed before the depthwise convolutions, batch norm over the real frames"]
    return done


def _mend_adapter(encoder: nn.Module, lengths: _Hooks) -> list[str]:
    layers = list(getattr(getattr(encoder, "adapter", None), "layers", []))
    for layer in layers:
        for conv in layer.children():
            if isinstance(conv, nn.Conv1d):
                conv.register_forward_pre_hook(lengths.zero_padding)
        layer.register_forward_hook(lengths.after_adapter_layer)
    return ["padding zeroed before the adapter's convolutions"] if layers else []


def _mask_batch_norm(norm: nn.Module, lengths: _Hooks) -> None:
    if isinstance(norm, nn.BatchNorm1d):
        norm.__class__ = MaskedBatchNorm1d
        norm._lengths = lengths  # type: ignore[assignment]


def _carry(layer: nn.Module, lengths: _Hooks) -> None:
    layer_class: Any = type(layer)
    layer.__class__ = _carrying(layer_class)
    layer._lengths = lengths  # type: ignore[assignment]
