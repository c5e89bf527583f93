"""Peak memory and time of a transducer's loss, forward and backward: ours and transformers'.

    python benchmarks/transducer_loss.py

One clip of T = 250 frames (20 s) with U = 60 labels, a joint network of 640, float32, one thread, CPU seconds; each
case in a process of its own. Memory is the peak of the process above what it had before the loss. RNN-T of transformers
is torchaudio's, so it needs torchaudio.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

FRAMES, LABELS, WIDTH = 250, 60, 640
NO_LEFTOVERS = {
    "MALLOC_MMAP_THRESHOLD_": "1000000"
}  # freed memory goes back at once, so that the peak is what is in use
VOCABULARIES = (1025, 8193)
DURATIONS = [0, 1, 2, 3, 4]


def main() -> None:
    print("| loss | tokens | side | peak memory | CPU, one step |\n|---|---:|---|---:|---:|")
    for loss in ("tdt", "rnnt"):
        for vocabulary in VOCABULARIES:
            for side in ("ours", "transformers"):
                words = [sys.executable, __file__, loss, str(vocabulary), side]
                done = subprocess.run(words, capture_output=True, text=True, env=os.environ | NO_LEFTOVERS)
                row = f"| {loss.upper()} | {vocabulary:,} | {side} |"
                if done.returncode:
                    print(f"{row} {done.stderr.strip().splitlines()[-1]} | |", flush=True)
                    continue
                found = json.loads(done.stdout)
                print(f"{row} {found['mb']:,.0f} MB | {found['seconds']:.2f} s |", flush=True)


def case(loss: str, vocabulary: int, side: str) -> dict[str, float]:
    """Return the peak memory and the seconds of a step."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    durations = DURATIONS if loss == "tdt" else None
    head = torch.nn.Linear(WIDTH, vocabulary + len(durations or ()))
    encoded = torch.randn(1, FRAMES, WIDTH).requires_grad_()
    decoded = torch.randn(1, LABELS + 1, WIDTH).requires_grad_()
    labels = torch.randint(0, vocabulary - 1, (1, LABELS))

    def joint(encoded: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
        return head(torch.relu(encoded + decoded))

    def step(frames: int = FRAMES) -> None:
        sides[side](joint, encoded[:, :frames], decoded, labels, vocabulary, durations).sum().backward()

    step(frames=1)  # what is loaded at the first use
    before, start = _peak_mb(), time.process_time()
    step()
    return {"mb": _peak_mb() - before, "seconds": time.process_time() - start}


def ours(joint: Any, encoded: Any, decoded: Any, labels: Any, vocabulary: int, durations: list[int] | None) -> Any:
    from speechtune.models.transducer.loss import transducer_losses

    return transducer_losses(
        encoded, decoded, labels, [encoded.shape[1]], [LABELS],
        joint=joint, num_tokens=vocabulary, blank=vocabulary - 1, durations=durations,
    )  # fmt: skip


def theirs(joint: Any, encoded: Any, decoded: Any, labels: Any, vocabulary: int, durations: list[int] | None) -> Any:
    import torch

    logits = joint(encoded[:, :, None], decoded[:, None])
    lengths = torch.tensor([encoded.shape[1]]), torch.tensor([LABELS])
    if durations is None:
        from transformers.loss.loss_rnnt import rnnt_loss

        return rnnt_loss(logits, labels, *lengths, vocabulary - 1, reduction="none")
    from transformers.loss.loss_tdt import tdt_loss

    tokens, lasting = logits[..., :vocabulary], logits[..., vocabulary:]
    return tdt_loss(tokens, lasting, labels, *lengths, vocabulary - 1, durations, reduction="none")


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


sides = {"ours": ours, "transformers": theirs}

if __name__ == "__main__":
    if len(sys.argv) == 4:
        # The libraries are loaded before memory is measured.
        import transformers.loss.loss_rnnt
        import transformers.loss.loss_tdt  # noqa: F401

        import speechtune.models.transducer.loss  # noqa: F401

        print(json.dumps(case(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
    else:
        main()
