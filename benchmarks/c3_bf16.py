"""C3: the precision that speechtune chooses if the CPU has bf16, compared with fp32 and bf16 peers.

Without bf16 products nothing is measured: float32 would be chosen, as in C1, and a peer with --bf16, which emulates
them, had not ended after ten minutes.
"""

from __future__ import annotations

from typing import Any

from common import Result, main
from ctc_step import Ours, Peer, Sides, compare, letters, model_config


def measure(tiny: bool = False) -> list[Result]:
    from speechtune.plan.hardware import choose_precision

    automatic = "bf16" if choose_precision("auto", use_cpu=True).bf16 else "fp32"
    if automatic != "bf16" and not tiny:
        print("C3: this CPU has no bf16 products: not measured")
        return []
    config = model_config(tiny)
    sides: Sides = {
        "ours": (Ours, {"config": config, "precision": automatic}),
        "fp32": (Peer, {"config": config}),
        "bf16": (Peer, {"config": config, "precision": "bf16"}),
    }
    steps, rounds = (2, 1) if tiny else (1, 4)
    measured = compare(sides, "cv", rounds=rounds, steps=steps, scale=0.2 if tiny else 1)
    errors = [gradient_error(config, precision) for precision in (automatic, "fp32")]
    error = f"gradient's relative error {errors[0]:.1e}; float32's own {errors[1]:.1e}"
    return [
        Result(
            "C3",
            "CTC step, automatic precision, against the default peer",
            3.2,
            *measured.ratios("ours", "fp32"),
            worse=error,
        ),
        Result(
            "C3",
            "CTC step, automatic precision, against the peer with --bf16",
            1.6,
            *measured.ratios("ours", "bf16"),
        ),
    ]


def gradient_error(config: dict[str, Any], precision: str) -> float:
    """Return the relative error of one batch's gradient in evaluation mode; float64 is the reference."""
    import numpy as np
    import torch

    side = Ours(config, precision=precision)
    side.model.eval()
    batch = side.batch([0, 1], np.array([1.5, 1.3]))
    torch.set_float32_matmul_precision(side.matmul)
    with torch.autocast("cpu", torch.bfloat16, enabled=side.bf16):
        side.loss(batch).backward()
    found = [p.grad.double() for p in side.model.parameters() if p.grad is not None]
    side.model.zero_grad()
    side.model.double()
    batch.inputs = {k: v.double() if v.is_floating_point() else v for k, v in batch.inputs.items()}
    logits = side.model(**batch.inputs).logits
    losses = torch.nn.functional.ctc_loss(
        torch.log_softmax(logits, -1).transpose(0, 1),
        torch.from_numpy(np.concatenate([letters(1.5, 0), letters(1.3, 1)])),
        torch.from_numpy(side.recogniser._frames(batch.input_lengths)),
        torch.tensor(batch.label_lengths),
        blank=side.recogniser.blank,
        reduction="none",
    )
    (losses / torch.tensor(batch.label_lengths)).sum().div(2).backward()
    exact = [p.grad for p in side.model.parameters() if p.grad is not None]
    difference = sum(float((a - b).square().sum()) for a, b in zip(found, exact, strict=True))
    return (difference / sum(float(g.square().sum()) for g in exact)) ** 0.5


if __name__ == "__main__":
    main(measure)
