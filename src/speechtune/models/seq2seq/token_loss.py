"""Cross-entropy of each utterance's tokens without the logits of all of them at once.

Whisper's vocabulary has 51,865 entries: the logits of 16 transcripts of 100 tokens take 330 MB in float32, and the
loss and its gradient as much again, each. Here padding gets no logits, and where the rest is still large it is
computed in chunks of rows, and recomputed in the backward pass (checkpointing).

A hook on the model's output layer, registered for one forward pass, takes the hidden states and passes none on to the
layer. So the loss is computed inside the model's own forward, under its autocast and DDP wrapper.

Rejected: calling the decoder without its output layer (goes around DDP's forward, which then syncs no gradients);
gradients computed in the forward pass (as Liger does: each utterance's weight must be known by then).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from speechtune.models.batch import IGNORED_LABEL

__all__ = ["decoder_inputs", "index_of", "token_losses", "utterance_sums"]

MAX_LOGITS = 2**25  # of one chunk; 128 MB in float32


def decoder_inputs(labels: torch.Tensor, *, start: int, pad: int) -> torch.Tensor:
    """Return labels shifted by one after the start token, (B, L); padding, which is never read, becomes `pad`."""
    shifted = torch.full_like(labels, start)
    shifted[:, 1:] = labels[:, :-1]
    return shifted.masked_fill(shifted == IGNORED_LABEL, pad)


def token_losses(
    model: Any,
    inputs: dict[str, Any],
    labels: torch.Tensor,
    label_lengths: list[int],
    *,
    head: nn.Module | None,
    smoothing: float = 0.0,
    skip: int = 0,
) -> torch.Tensor:
    """Return each utterance's cross-entropy, summed over its tokens.

    Args:
        model: of transformers, wrapped or not.
        inputs: of its forward, `decoder_input_ids` among them.
        labels: (B, L) int64, padded at the end.
        label_lengths: real labels of each utterance, known on the CPU: no wait for the device.
        head: the model's output layer; None takes the logits from the model's output (FSDP shards the layer's weight).
        smoothing: share of each target that is spread over the vocabulary (Szegedy et al. 2016).
        skip: positions of the decoder before that of the first label: those of a prompt.

    Returns:
        (B,) float32, 0 for an utterance without labels.
    """
    sums = partial(utterance_sums, labels=labels, label_lengths=label_lengths, smoothing=smoothing)
    if head is None:
        logits = model(**inputs, use_cache=False).logits[:, skip:]
        return sums(logits, head=nn.Identity(), vocabulary=logits.shape[-1])
    found: list[torch.Tensor] = []

    def at_head(layer: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = args[0][:, skip:]
        found.append(sums(hidden, head=layer, vocabulary=_num_outputs(layer)))
        return (hidden[:, :0], *args[1:])

    hook = head.register_forward_pre_hook(at_head)
    try:
        model(**inputs, use_cache=False)
    finally:
        hook.remove()
    (losses,) = found
    return losses


def utterance_sums(
    hidden: torch.Tensor,
    labels: torch.Tensor,
    label_lengths: list[int],
    *,
    head: Any,
    vocabulary: int,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Apply the output layer and cross-entropy to the real tokens only; return the sum for each utterance.

    Args:
        hidden: (B, L, D).
        head: (rows, D) -> logits (rows, vocabulary).
    """
    num_rows, length = labels.shape
    places = [row * length + i for row, n in enumerate(label_lengths) for i in range(n)]
    index = index_of(places, hidden.device)
    states = hidden.reshape(num_rows * length, -1).index_select(0, index)
    targets = labels.reshape(-1).index_select(0, index)
    losses = _cross_entropy(head, states, targets, max_rows=max(1, MAX_LOGITS // vocabulary), smoothing=smoothing)
    # Each place is written once: no sums in an order that varies, as index_add would on a GPU.
    spread = losses.new_zeros(num_rows * length).index_copy(0, index, losses)
    return spread.view(num_rows, length).sum(1)


def index_of(places: Sequence[int], device: torch.device) -> torch.Tensor:
    """Return places as an index on `device`, copied without waiting."""
    return torch.tensor(places, dtype=torch.int64).to(device, non_blocking=True)


def _cross_entropy(
    head: Any, states: torch.Tensor, targets: torch.Tensor, *, max_rows: int, smoothing: float
) -> torch.Tensor:
    def chunk_losses(states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        # The layer's forward, not a call: calling it would run our own hook again.
        logits = head.forward(states).float()
        return nn.functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)

    if len(states) <= max_rows:
        return chunk_losses(states, targets)
    chunks = zip(states.split(max_rows), targets.split(max_rows), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([chunk_losses(*chunk) for chunk in chunks])
    recomputed = partial(checkpoint, chunk_losses, use_reentrant=False, preserve_rng_state=False)
    return torch.cat([recomputed(*chunk) for chunk in chunks])


def _num_outputs(layer: Any) -> int:
    return int(getattr(layer, "out_features", 0) or layer.weight.shape[0])
