"""The loss of transducers, RNN-T and TDT, without the joint network's output for all frames and labels at once.

For T frames, U labels and V tokens that output is (B, T, U + 1, V): 250 MB in float32 for one clip of 10 s with 60
labels and 8,193 tokens, and a library that keeps it with its log-softmax and gradients needs several times that. The
sum over all alignments needs two numbers of each (t, u) only: the log probabilities of the blank and of the next label
(with TDT, those of the durations too). So

1. the joint network runs over chunks of frames, from which these numbers are kept; the backward pass runs it again;
2. alpha is computed along the anti-diagonals t + u = n, all utterances and labels at once. The arcs' weights are laid
   out by diagonal beforehand, so that a diagonal is one sum and one logsumexp, and autograd's backward pass is as lean.

Where no path is, scores are a finite floor instead of -inf, whose differences would be NaN in gradients.

Rejected: torchaudio's kernel (no TDT, keeps the whole output, not in every build of torch); pruning (Kuang et al. 2022:
its bounds assume RNN-T's arcs).

Sources: Graves 2012, "Sequence Transduction with Recurrent Neural Networks", section 2.4; Xu et al. 2023, "Efficient
Sequence Transduction by Jointly Predicting Tokens and Durations", section 3.

Legend: B utterances, T frames, U labels, V tokens, N = T + U diagonals, K arcs into a node, D width of the joint
network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

__all__ = ["path_losses", "transducer_losses"]

MAX_LOGITS = 2**22  # of one chunk; 16 MB in float32
FLOOR = -1e30

Joint = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def transducer_losses(
    encoded: torch.Tensor,
    decoded: torch.Tensor,
    labels: torch.Tensor,
    frame_lengths: Sequence[int],
    label_lengths: Sequence[int],
    *,
    joint: Joint,
    num_tokens: int,
    blank: int,
    durations: Sequence[int] | None = None,
    sigma: float = 0.0,
) -> torch.Tensor:
    """Return -log P(labels) of each utterance, (B,) float32; inf where no alignment exists.

    Args:
        encoded: (B, T, D), of the encoder.
        decoded: (B, U + 1, D), of the network over the blank and the labels.
        labels: (B, U), padded with any number after `label_lengths`.
        joint: (B, t, 1, D), (B, 1, U + 1, D) -> logits (B, t, U + 1, V), with one more for each duration.
        num_tokens: V, the blank among them.
        durations: frames that a token may last (TDT); None is RNN-T.
        sigma: subtracted from the tokens' log probabilities (TDT's undernormalisation).
    """
    targets = labels.clamp(0, num_tokens - 1)

    def scores(encoded: torch.Tensor, decoded: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = joint(encoded[:, :, None], decoded[:, None]).float()
        blanks, nexts = _TokenScores.apply(logits[..., :num_tokens], targets, blank)
        return blanks - sigma, nexts - sigma, logits[..., num_tokens:].log_softmax(-1)

    batch_size, num_frames, _ = encoded.shape
    step = max(1, MAX_LOGITS // max(1, batch_size * decoded.shape[1] * num_tokens))
    recomputed = partial(checkpoint, scores, use_reentrant=False, preserve_rng_state=False)
    run = recomputed if torch.is_grad_enabled() and step < num_frames else scores
    parts = [run(chunk, decoded) for chunk in encoded.split(step, dim=1)]
    blanks, nexts, lasting = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return path_losses(
        blanks, nexts, lasting if durations else None, frame_lengths, label_lengths, durations=durations or ()
    )


class _TokenScores(torch.autograd.Function):
    """Log probabilities of blank and next label from logits, whose gradient is written over a copy of the logits."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, logits: torch.Tensor, labels: torch.Tensor, blank: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, t, U + 1, V), (B, U) -> (B, t, U + 1), (B, t, U)."""
        total = logits.logsumexp(-1)
        index = labels[:, None, :, None].expand(-1, logits.shape[1], -1, 1)
        nexts = logits[:, :, :-1].gather(-1, index).squeeze(-1) - total[:, :, :-1]
        ctx.save_for_backward(logits, total, index)
        ctx.blank = blank  # type: ignore[attr-defined]
        return logits[..., blank] - total, nexts

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: torch.autograd.function.FunctionCtx, of_blank: torch.Tensor, of_next: torch.Tensor
    ) -> tuple[torch.Tensor, None, None]:
        logits, total, index = ctx.saved_tensors  # type: ignore[attr-defined]
        either = of_blank + nn.functional.pad(of_next, (0, 1))
        gradient = (logits - total[..., None]).exp_().mul_(-either[..., None])
        gradient[..., ctx.blank] += of_blank  # type: ignore[attr-defined]
        gradient[:, :, :-1].scatter_add_(-1, index, of_next[..., None])
        return gradient, None, None


def path_losses(
    blanks: torch.Tensor,
    nexts: torch.Tensor,
    lasting: torch.Tensor | None,
    frame_lengths: Sequence[int],
    label_lengths: Sequence[int],
    *,
    durations: Sequence[int] = (),
) -> torch.Tensor:
    """Return minus the log of the sum over all alignments, (B,).

    An arc goes from (t, u) to (t + d, u) with a blank, or to (t + d, u + 1) with a label; in RNN-T the blank lasts one
    frame and a label none. A path ends with a blank that reaches the end, t = T.

    Args:
        blanks: log probability of the blank, (B, T, U + 1).
        nexts: of the next label, (B, T, U).
        lasting: of each duration, (B, T, U + 1, number of durations); None is RNN-T.
    """
    arcs = [(False, 1, None), (True, 0, None)] if lasting is None else [
        (is_label, duration, i) for is_label in (False, True) for i, duration in enumerate(durations)
        if is_label or duration  # a blank that lasts no frame would change nothing
    ]  # fmt: skip
    num_frames, num_nodes = blanks.shape[1:]
    num_diagonals = num_frames + num_nodes - 1
    steps = [duration + is_label for is_label, duration, _ in arcs]  # diagonals that each arc goes ahead
    weights = []
    for (is_label, _, i), step in zip(arcs, steps, strict=True):
        weight = nexts if is_label else blanks
        if lasting is not None:
            weight = weight + lasting[:, :, : weight.shape[2], i]
        if is_label:  # of the node that it leads to
            weight = nn.functional.pad(weight, (1, 0), value=FLOOR)
        # By the diagonal of the node that it leaves; a label's node is one further left.
        weights.append(nn.functional.pad(_by_diagonal(weight, shift=int(is_label)), (0, 0, 0, 0, step, 0), value=FLOOR))
    into = torch.stack([weight[:num_diagonals] for weight in weights], dim=1)  # (N, K, B, U + 1)
    nothing = torch.full_like(blanks[:, 0], FLOOR)
    start = nothing.clone()
    start[:, 0] = 0.0
    alphas, shifted = [start], [_shifted(start)]
    for n in range(1, num_diagonals):
        before = [
            (shifted if is_label else alphas)[n - step] if step <= n else nothing
            for (is_label, _, _), step in zip(arcs, steps, strict=True)
        ]
        alphas.append((torch.stack(before) + into[n]).logsumexp(0))
        shifted.append(_shifted(alphas[-1]))
    return _ended(torch.stack(alphas), blanks, lasting, arcs, frame_lengths, label_lengths)


def _ended(
    alphas: torch.Tensor,
    blanks: torch.Tensor,
    lasting: torch.Tensor | None,
    arcs: Sequence[tuple[bool, int, int | None]],
    frame_lengths: Sequence[int],
    label_lengths: Sequence[int],
) -> torch.Tensor:
    """Return minus the log of the sum over the last blanks, (B,). The lengths are known on the host: no wait."""
    rows = torch.arange(len(frame_lengths))
    ends, lasts = torch.tensor(list(frame_lengths)), torch.tensor(list(label_lengths))
    terms = []
    for is_label, duration, i in arcs:
        if is_label:
            continue
        frames = (ends - duration).clamp(min=0)
        at = [index.to(blanks.device, non_blocking=True) for index in (rows, frames, lasts, frames + lasts)]
        term = alphas[at[3], at[0], at[2]] + blanks[at[0], at[1], at[2]]
        if lasting is not None:
            term = term + lasting[at[0], at[1], at[2], i]
        terms.append(term.masked_fill((ends < duration).to(blanks.device, non_blocking=True), FLOOR))
    losses = -torch.stack(terms).logsumexp(0)
    return losses.masked_fill(losses > -FLOOR / 10, float("inf"))


def _by_diagonal(values: torch.Tensor, *, shift: int) -> torch.Tensor:
    """Lay out (B, T, U + 1) as (T + U, B, U + 1): row n holds t = n - u + shift; the floor where there is no such t."""
    _, num_frames, num_nodes = values.shape
    width = num_frames + num_nodes
    # Rows of u, each longer by U + 1 than T, read with a width less by one: each begins one later than the one before.
    padded = nn.functional.pad(values.transpose(1, 2), (0, num_nodes), value=FLOOR)
    rows = padded.flatten(1)[:, : num_nodes * (width - 1)].unflatten(1, (num_nodes, width - 1))
    laid = rows.permute(2, 0, 1)
    return torch.cat([laid[shift:], laid.new_full((shift, *laid.shape[1:]), FLOOR)]) if shift else laid


def _shifted(values: torch.Tensor) -> torch.Tensor:
    """Move (B, U + 1) one label on."""
    return nn.functional.pad(values[:, :-1], (1, 0), value=FLOOR)
