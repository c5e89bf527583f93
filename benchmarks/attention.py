"""Attention in bf16 training on a CPU: plain products compared with torch's fused kernel, alone and in a CTC step.

    python benchmarks/attention.py

Forward and backward, alternating, one thread, CPU seconds: fused divided by plain, median (min to max).
"""

from __future__ import annotations

import statistics
from typing import Any

from common import base_shaped, lengths_like, one_thread, spread
from ctc_step import Ours, cost_of

SIZES = ((16, 4, 25, 32), (8, 12, 100, 64), (4, 12, 250, 64), (2, 12, 500, 64), (1, 16, 1000, 64))
ROUNDS = 9


def main() -> None:
    one_thread()
    for size in SIZES:
        for dropout in (0.0, 0.1):
            ratios = alone(*size, dropout=dropout)
            clips, heads, frames, _ = size
            print(f"{clips} clips x {heads} heads x {frames} frames, dropout {dropout}: {spread(ratios)}", flush=True)
    print(f"CTC step of 8 clips like Common Voice's, two layers of wav2vec2-base: {spread(in_a_step())}")


def alone(clips: int, heads: int, frames: int, dim: int, *, dropout: float) -> list[float]:
    """Return fused divided by plain, one value per round."""
    import torch

    from speechtune.models.encoder.attention import _plain_attention

    query, key, value = (
        torch.randn(clips, frames, heads, dim, dtype=torch.bfloat16).transpose(1, 2).requires_grad_() for _ in range(3)
    )
    gradient = torch.randn(clips, frames, heads, dim, dtype=torch.bfloat16)

    def fused() -> None:
        made = torch.nn.functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        made.transpose(1, 2).contiguous().backward(gradient)

    def plain() -> None:
        _plain_attention(query, key, value, None, {"dropout": dropout}).backward(gradient)

    return _ratios(fused, plain, rounds=ROUNDS)


def in_a_step() -> list[float]:
    """Return the same ratio for a whole training step."""
    durations_s = lengths_like("cv", 2000)
    sides = [Ours(base_shaped(), precision="bf16") for _ in range(2)]
    sides[0].model.set_attn_implementation("sdpa")
    plan = sides[0].plan(durations_s)
    rows = plan[len(plan) // 2]
    batch = sides[0].batch(rows, durations_s)
    return _ratios(lambda: sides[0].step(batch), lambda: sides[1].step(batch), rounds=5)


def _ratios(one: Any, other: Any, *, rounds: int) -> list[float]:
    for work in (one, other):
        work()
    costs = [(cost_of(one).cpu_s, cost_of(other).cpu_s) for _ in range(rounds)]
    assert statistics.median(cost for _, cost in costs) > 0
    return [first / second for first, second in costs]


if __name__ == "__main__":
    main()
