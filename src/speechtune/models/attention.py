"""Attention for training in bf16 on a processor: plain products and a softmax, instead of torch's fused kernel.

The backward pass of torch's fused kernel is slow there in bf16: forward and backward take 1.3 to 2.8 times as long as
plain products, and with dropout, where there is no fused kernel, about twice (Zen 5, torch 2.13;
benchmarks/attention.py). In float32 the fused kernel is the faster one, and past a thousand frames its smaller memory
counts in bf16 too; there, and wherever no gradient is asked for, this is transformers' own SDPA.

transformers' "eager" attention is no way to have it: under autocast its softmax is computed in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["PROCESSOR_ATTENTION", "use_processor_attention"]

PROCESSOR_ATTENTION = "speechtune_processor"  # as `config._attn_implementation` names it; never saved
MAX_FRAMES = 1000  # above, what the scores take of memory counts


def use_processor_attention(model: Any) -> bool:
    """Let a model that attends by SDPA train with plain products; checkpoints and evaluation are the same.

    Returns:
        Whether it does now: models with attention of their own, and those set to another one, are left alone.
    """
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    if model.config._attn_implementation != "sdpa" or not model._can_set_attn_implementation():
        return False

    def attention(module: nn.Module, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
        if _plain_is_faster(module, query, key, mask, options):
            return _plain_attention(query, key, value, mask, options), None
        return sdpa_attention_forward(module, query, key, value, mask, **options)

    AttentionInterface.register(PROCESSOR_ATTENTION, attention)
    AttentionMaskInterface.register(PROCESSOR_ATTENTION, sdpa_mask)
    model.set_attn_implementation(PROCESSOR_ATTENTION)
    return True


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
        and getattr(module, "num_key_value_groups", 1) == 1
        and not causal
        and options.get("position_bias") is None
        and options.get("softcap") is None
        and options.get("cache") is None
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
