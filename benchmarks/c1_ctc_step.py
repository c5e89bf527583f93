"""C1: a CTC training step in float32 compared with the original's default: random batches of 8, stock kernels."""

from __future__ import annotations

from common import Result, main
from ctc_step import Ours, Peer, compare, memory_worse, model_config, padding_share


def measure(tiny: bool = False) -> list[Result]:
    results = []
    config = {"config": model_config(tiny)}
    for corpus, name, target in (("cv", "clips like Common Voice", 2.0), ("ls", "clips like LibriSpeech", 1.2)):
        steps, rounds = (2, 1) if tiny else (2, 3) if corpus == "cv" else (1, 3)
        sides = {"ours": (Ours, config), "peer": (Peer, config)}
        measured = compare(sides, corpus, rounds=rounds, steps=steps, scale=0.2 if tiny else 1)
        padding = f"padding {padding_share(Ours, corpus):.1%} against {padding_share(Peer, corpus):.1%}"
        worse = memory_worse(measured, "ours", "peer")
        ratios = measured.ratios("ours", "peer")
        results.append(Result("C1", f"CTC step, fp32, {name}", target, *ratios, worse=worse, note=padding))
    return results


if __name__ == "__main__":
    main(measure)
