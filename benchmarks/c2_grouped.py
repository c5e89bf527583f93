"""C2: the same step compared with the peer's best settings in float32: transformers' own length-grouped sampler."""

from __future__ import annotations

from common import Result, main
from ctc_step import Ours, Peer, Sides, compare, memory_worse, model_config, padding_share


def measure(tiny: bool = False) -> list[Result]:
    config = model_config(tiny)
    sides: Sides = {"ours": (Ours, {"config": config}), "peer": (Peer, {"config": config, "grouped": True})}
    steps, rounds = (2, 1) if tiny else (1, 4)
    measured = compare(sides, "cv", rounds=rounds, steps=steps, scale=0.2 if tiny else 1)
    padding = f"padding {padding_share(Ours, 'cv'):.1%} against {padding_share(Peer, 'cv', grouped=True):.1%}"
    worse = memory_worse(measured, "ours", "peer")
    what = "CTC step, fp32, against group_by_length, like Common Voice"
    return [Result("C2", what, 1.2, *measured.ratios("ours", "peer"), worse=worse, note=padding)]


if __name__ == "__main__":
    main(measure)
