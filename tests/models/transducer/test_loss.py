"""The transducer losses against a sum over every single path, published values, and transformers' own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from speechtune.models.transducer import loss as module
from speechtune.models.transducer.loss import path_losses, transducer_losses

TDT = (0, 1, 2, 4)


def all_paths(logits: torch.Tensor, labels: Sequence[int], blank: int, durations: Any, sigma: float = 0.0) -> float:
    """-log of the sum over all paths, each followed by itself. `logits`: (T, U + 1, V [+ durations])."""
    num_frames, num_tokens = len(logits), logits.shape[-1] - len(durations or ())
    tokens = logits[..., :num_tokens].double().log_softmax(-1) - sigma
    lasting = logits[..., num_tokens:].double().log_softmax(-1)

    def follow(t: int, u: int, log_p: float) -> float:
        """Probability of all ways from (t, u) to the end."""
        total = 0.0
        for is_label in (False, True):
            if is_label and u == len(labels):
                continue
            token = labels[u] if is_label else blank
            for i, d in enumerate(durations) if durations else [(0, 0 if is_label else 1)]:
                p = log_p + float(tokens[t, u, token]) + (float(lasting[t, u, i]) if durations else 0.0)
                if not is_label and d == 0:
                    continue
                if t + d == num_frames and not is_label and u == len(labels):
                    total += math.exp(p)
                elif t + d < num_frames:
                    total += follow(t + d, u + is_label, p)
        return total

    total = follow(0, 0, 0.0)
    return -math.log(total) if total else math.inf


def add_joint(encoded: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
    return encoded + decoded


def tensors(*, batch_size: int = 3, frames: int = 4, labels: int = 3, width: int = 9) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    encoded = torch.randn(batch_size, frames, width, generator=generator)
    decoded = torch.randn(batch_size, labels + 1, width, generator=generator)
    return encoded, decoded, torch.randint(1, 5, (batch_size, labels), generator=generator)


@pytest.mark.parametrize(("durations", "sigma"), [(None, 0.0), (TDT, 0.0), (TDT, 0.05), ((1, 2), 0.0)])
@pytest.mark.parametrize("max_logits", [2**24, 1])
def test_the_loss_is_the_sum_over_all_paths(
    durations: Any, sigma: float, max_logits: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "MAX_LOGITS", max_logits)  # 1: a chunk for each frame
    encoded, decoded, labels = tensors(width=5 + len(durations or ()))
    frame_lengths, label_lengths = [4, 3, 1], [2, 3, 0]
    labels[0, 2:], labels[2] = -100, -100
    found = transducer_losses(
        encoded, decoded, labels, frame_lengths, label_lengths,
        joint=add_joint, num_tokens=5, blank=0, durations=durations, sigma=sigma,
    )  # fmt: skip
    logits = encoded[:, :, None] + decoded[:, None]
    expected = [
        all_paths(logits[i, :t], labels[i, :u].tolist(), 0, durations, sigma)
        for i, (t, u) in enumerate(zip(frame_lengths, label_lengths, strict=True))
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_padding_changes_nothing():
    encoded, decoded, labels = tensors(batch_size=1, width=9)
    options: dict[str, Any] = {"joint": add_joint, "num_tokens": 5, "blank": 4, "durations": TDT}
    expected = transducer_losses(encoded, decoded, labels, [4], [3], **options)
    longer = [torch.nn.functional.pad(values, (0, 0, 0, 5), value=7.0) for values in (encoded, decoded)]
    padded = torch.nn.functional.pad(labels, (0, 5), value=-100)
    torch.testing.assert_close(transducer_losses(*longer, padded, [4], [3], **options), expected)


def test_values_of_nemo():
    (found,) = transducer_losses(
        torch.zeros(1, 3, 7), torch.zeros(1, 2, 7), torch.tensor([[1]]), [3], [1],  # 3 tokens and the blank
        joint=add_joint, num_tokens=4, blank=3, durations=(0, 1, 2), sigma=0.05,
    )  # fmt: skip
    assert float(found) == pytest.approx(4.155739, abs=1e-6)
    acts = torch.tensor([0.1, 0.6, 0.1, 0.1, 0.1, 0.1, 0.1, 0.6, 0.1, 0.1, 0.1, 0.1, 0.2, 0.8, 0.1,
                         0.1, 0.6, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.1, 0.1, 0.7, 0.1, 0.2, 0.1, 0.1])  # fmt: skip
    acts = acts.view(1, 2, 3, 5)
    (found,) = transducer_losses(
        acts[:, :, 0] * 0, torch.zeros(1, 3, 5), torch.tensor([[1, 2]]), [2], [2],
        joint=lambda encoded, decoded: acts, num_tokens=5, blank=0,
    )  # fmt: skip
    assert float(found) == pytest.approx(4.495666, abs=1e-6)


@pytest.mark.parametrize("durations", [None, TDT])
def test_gradients_are_those_of_the_loss(durations: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)  # stay in float64
    encoded, decoded, labels = tensors(batch_size=2, width=5 + len(durations or ()))
    for max_logits in (1, 2**24):
        monkeypatch.setattr(module, "MAX_LOGITS", max_logits)

        def losses(encoded: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
            return transducer_losses(
                encoded, decoded, labels, [4, 2], [3, 1],
                joint=add_joint, num_tokens=5, blank=0, durations=durations,
            )  # fmt: skip

        inputs = [values.double().requires_grad_() for values in (encoded, decoded)]
        assert torch.autograd.gradcheck(losses, inputs, fast_mode=True)


def test_loss_and_gradient_are_those_of_transformers():
    from transformers.loss.loss_tdt import tdt_loss

    encoded, decoded, labels = tensors(batch_size=3, frames=9, labels=4, width=9)
    logits = (encoded[:, :, None] + decoded[:, None]).requires_grad_()
    frames, lengths = torch.tensor([9, 7, 5]), torch.tensor([4, 2, 3])
    theirs = tdt_loss(logits[..., :5], logits[..., 5:], labels, frames, lengths, 0, list(TDT), 0.02, reduction="none")
    ours = transducer_losses(
        encoded, decoded, labels, frames.tolist(), lengths.tolist(),
        joint=lambda encoded, decoded: logits, num_tokens=5, blank=0, durations=TDT, sigma=0.02,
    )  # fmt: skip
    torch.testing.assert_close(ours, theirs)
    (gradient,) = torch.autograd.grad(ours.sum(), logits, retain_graph=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(theirs.sum(), logits)[0])


def test_what_has_no_path_is_infinite_and_harms_nobody():
    blanks = torch.zeros(2, 2, 4).requires_grad_()
    losses = path_losses(blanks, torch.zeros(2, 2, 3), torch.zeros(2, 2, 4, 1), [2, 2], [3, 0], durations=(1,))
    assert losses.tolist() == [math.inf, 0.0]  # each label lasts a frame; the blank after them has none left
    losses[1].backward()
    assert blanks.grad is not None and blanks.grad.isfinite().all()
