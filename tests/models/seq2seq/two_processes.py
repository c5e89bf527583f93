"""Run in two processes by a test: gradients of two DDP processes against one process with the same utterances."""

from __future__ import annotations

import sys

import torch
import torch.distributed as distributed
from tiny_seq2seq import batch_of, for_training

CLIPS = [(1.0, "bir iki"), (3.2, "üç dört beş"), (2.1, "altı"), (1.3, "yedi sekiz dokuz"), (2.2, "on")]


def gradients(model: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def compare_sharded(folder: str, rank: int) -> None:
    """FSDP: losses, gradients and texts through the model's own forward, as without it."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    plain, sharded = for_training(folder), for_training(folder)
    for recogniser in (plain, sharded):
        recogniser.model.eval()
    for layer in (*sharded.model.model.encoder.layers, *sharded.model.model.decoder.layers):
        fully_shard(layer)
    fully_shard(sharded.model)
    register_fsdp_forward_method(sharded.model, "generate")
    share = [CLIPS[:3], CLIPS[3:]][rank]
    batch = batch_of(plain, share)
    expected = plain.losses(plain.model, batch)
    losses = sharded.losses(sharded.model, batch)
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)
    losses.sum().backward()
    plain.losses(plain.model, batch_of(plain, CLIPS)).sum().backward()
    ours = sharded.model.model.decoder.layers[0].fc1.weight.grad.full_tensor()
    torch.testing.assert_close(ours * 2, plain.model.model.decoder.layers[0].fc1.weight.grad, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        said = sharded.recognise(sharded.model, batch, with_loss=True)
        alone = plain.recognise(plain.model, batch, with_loss=True)
    assert [row.text for row in said] == [row.text for row in alone]
    assert all(abs(a.loss - b.loss) < 1e-4 for a, b in zip(said, alone, strict=True))


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
    compare_sharded(folder, rank)
    if rank == 0:
        print("gradients agree")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
