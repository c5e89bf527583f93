"""Faster attention for models that use SDPA; where nothing below applies it is transformers' own.

On a CPU, training in bf16: plain matrix products and a softmax. The backward pass of torch's fused kernel is slow there
in bf16: forward and backward take 1.3 to 2.8 times as long as plain products, and with dropout, where there is no
fused kernel, about twice (Zen 5, torch 2.13; benchmarks/attention.py). In float32 the fused kernel is faster, and past
a thousand frames its smaller memory counts in bf16 too.

On a GPU in half precision: flash attention also over padded batches. It takes no mask, so padding is described by
lengths (torch's varlen kernel), without packing: an utterance's frames and the padding behind them are two adjacent
sequences, and the output of the padding is never read. The kernel is compared with the masked one at its first use, and
not used where it fails or differs.

And masks are not checked for whether they mask anything: on a GPU that is a wait in every step.

Rejected: transformers' "eager" attention for plain products: under autocast its softmax is computed in float32.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

__all__ = ["OWN_ATTENTION", "use_own_attention"]

OWN_ATTENTION = "speechtune"  # as `config._attn_implementation` names it; never saved
MAX_FRAMES = 1000  # of plain products: above, the memory of the scores counts
MAX_HEAD_SIZE = 256  # of flash attention


def use_own_attention(model: Any) -> bool:
    """Make a model use the attention of this file; checkpoints stay the same.

    Returns:
        Whether it does now: models with attention of their own, and those set to another one, are left unchanged.
    """
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    if model.config._attn_implementation != "sdpa" or not model._can_set_attn_implementation():
        return False

    def attention(module: nn.Module, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> Any:
        if _plain_is_faster(module, query, key, attention_mask, options):
            return _plain_attention(query, key, value, attention_mask, options), None
        if _lengths_suffice(module, query, key, attention_mask, options):
            return _attention_by_lengths(query, key, value, attention_mask, scale=options.get("scaling")), None
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)

    def make_mask(*args: Any, attention_mask: Any = None, **options: Any) -> Any:
        if attention_mask is not None and attention_mask.device.type != "cpu":
            options |= {"allow_is_bidirectional_skip": False, "allow_is_causal_skip": False}
        return sdpa_mask(*args, attention_mask=attention_mask, **options)

    for encoder in model.modules():
        if hasattr(encoder, "_mask_hidden_states"):  # wav2vec2 and its kin
            for module in encoder.encoder.modules():
                module._masks_padding_only = True
    AttentionInterface.register(OWN_ATTENTION, attention)
    AttentionMaskInterface.register(OWN_ATTENTION, make_mask)
    model.set_attn_implementation(OWN_ATTENTION)
    return True


def _is_plain(module: nn.Module, options: dict[str, Any]) -> bool:
    """Return whether attention has nothing but queries, keys, values and a mask."""
    extras = (options.get(name) for name in ("position_bias", "softcap", "cache"))
    return getattr(module, "num_key_value_groups", 1) == 1 and all(extra is None for extra in extras)


# ---- on a CPU


def _plain_is_faster(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, options: dict[str, Any]
) -> bool:
    causal = options.get("is_causal")
    causal = mask is None and (getattr(module, "is_causal", True) if causal is None else causal)
    return (
        torch.is_grad_enabled()
        and query.requires_grad
        and query.dtype == torch.bfloat16
        and query.device.type == "cpu"
        and key.shape[2] <= MAX_FRAMES
        and not causal
        and _is_plain(module, options)
    )


def _plain_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    options: dict[str, Any],
) -> torch.Tensor:
    """Queries, keys, values (B, heads, frames, dim) -> (B, frames, heads, dim)."""
    scale = options.get("scaling") or query.shape[-1] ** -0.5
    with torch.autocast("cpu", enabled=False):
        scores = (query * scale) @ key.transpose(-1, -2)
        if mask is not None:  # True or 0 where a frame takes part
            lowest = torch.finfo(scores.dtype).min
            if mask.dtype == torch.bool:
                scores = scores.masked_fill(~mask, lowest)
            else:
                scores = scores + mask.to(scores).clamp_min(lowest)
        weights = nn.functional.dropout(scores.softmax(-1), options.get("dropout", 0.0))
        return (weights @ value).transpose(1, 2).contiguous()


# ---- on a GPU


def _lengths_suffice(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, options: dict[str, Any]
) -> bool:
    """Return whether a mask only marks padding at the end, and the kernel supports everything else.

    That is certain for the transformers of speech encoders alone: elsewhere a mask may be causal or local, or that of a
    decoder's attention to an encoder, where queries and keys have different lengths.
    """
    return (
        getattr(module, "_masks_padding_only", False)
        and query.device.type == "cuda"
        and query.dtype in (torch.bfloat16, torch.float16)
        and mask is not None
        and mask.dtype == torch.bool
        and query.shape[2] == key.shape[2]
        and query.shape[3] <= MAX_HEAD_SIZE
        and query.shape[3] % 8 == 0
        and not options.get("dropout")
        and _is_plain(module, options)
        and _kernel_is_right(query.device)
    )


def _attention_by_lengths(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    *,
    scale: float | None,
) -> torch.Tensor:
    """Queries, keys, values (B, heads, T, dim), mask (B, 1, T, T), True where a key is real -> (B, T, heads, dim).

    Rows of padded frames are finite and meaningless.
    """
    from torch.nn.attention.varlen import varlen_attn

    batch_size, num_heads, num_frames, head_size = query.shape
    lengths = mask[:, 0, 0].sum(-1)
    starts = num_frames * torch.arange(batch_size + 1, device=query.device)
    ends = torch.stack([starts[:-1] + lengths, starts[1:]], dim=1).flatten()  # of each utterance, then of its padding
    bounds = torch.cat([starts[:1], ends]).to(torch.int32)
    queries, keys, values = (part.transpose(1, 2).reshape(-1, num_heads, head_size) for part in (query, key, value))
    made: Any = varlen_attn(queries, keys, values, bounds, bounds, num_frames, num_frames, scale=scale)
    return made.view(batch_size, num_frames, num_heads, head_size)


@functools.cache
def _kernel_is_right(device: torch.device) -> bool:
    """Return whether this torch and GPU have the kernel, and it agrees with the masked one up to bf16's rounding."""
    lengths = torch.tensor([48, 40, 1, 17], device=device)
    real = torch.arange(48, device=device) < lengths[:, None]
    mask = real[:, None, None].expand(4, 1, 48, 48)
    generator = torch.Generator(device).manual_seed(0)  # not the training's random numbers
    parts = [
        torch.randn(4, 48, 2, 64, device=device, generator=generator).bfloat16().requires_grad_() for _ in range(3)
    ]
    found = []
    try:
        for by_lengths in (True, False):
            with torch.enable_grad():
                query, key, value = (part.transpose(1, 2) for part in parts)
                made = (
                    _attention_by_lengths(query, key, value, mask, scale=None)
                    if by_lengths
                    else nn.functional.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2)
                )
                made = made.float() * real[:, :, None, None]
                found.append((made, *torch.autograd.grad(made.square().sum(), parts)))
    except Exception:  # a torch or GPU without it: any error means that it can't be used here
        return False
    return all(
        bool((one.float() - other.float()).norm() < 2e-2 * other.float().norm())
        for one, other in zip(*found, strict=True)
    )
