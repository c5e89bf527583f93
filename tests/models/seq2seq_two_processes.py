"""Run by torchrun in a test: gradients of two DDP processes against one process with the same utterances."""

from __future__ import annotations

import sys

import torch
import torch.distributed as distributed
from tiny_seq2seq import batch_of, for_training

CLIPS = [(1.0, "bir iki"), (3.2, "üç dört beş"), (2.1, "altı"), (1.3, "yedi sekiz dokuz"), (2.2, "on")]


def gradients(model: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def main(folder: str) -> None:
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    recogniser = for_training(folder, encoder_context=0.0)
    recogniser.model.eval()  # no dropout: both ways must draw the same
    whole = batch_of(recogniser, CLIPS, training=True)
    recogniser.losses(recogniser.model, whole).sum().backward()
    alone = gradients(recogniser.model)
    for find_unused in (False, True):
        recogniser.model.zero_grad(set_to_none=True)
        wrapped = torch.nn.parallel.DistributedDataParallel(
            recogniser.model, find_unused_parameters=find_unused, broadcast_buffers=False
        )
        # Three groups and one group on the first process, one and none on the second: steps of unlike shape.
        shares = [[CLIPS[:3], CLIPS[4:]], [CLIPS[3:4], []]][rank]
        for i, share in enumerate(shares):
            batch = batch_of(recogniser, share, training=True)
            if i + 1 < len(shares):
                with wrapped.no_sync():
                    recogniser.losses(wrapped, batch).sum().backward()
            else:
                recogniser.losses(wrapped, batch).sum().backward()
        for ours, theirs in zip(gradients(recogniser.model), alone, strict=True):
            torch.testing.assert_close(ours * 2, theirs, rtol=1e-4, atol=1e-6)
    if rank == 0:
        print("gradients agree")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
