"""The loss over the vocabulary: equal to plain cross-entropy, whatever the chunks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from speechtune.models.seq2seq import token_loss
from speechtune.models.seq2seq.token_loss import decoder_inputs, token_losses, utterance_sums

LABELS = torch.tensor([[4, 5, 6], [7, -100, -100], [-100, -100, -100]])
LENGTHS = [3, 1, 0]


class Decoder(nn.Module):
    """Stands for a model of transformers: hidden states, then an output layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(11, 8)
        self.head = nn.Linear(8, 11, bias=False)
        self.logit_rows: list[int] = []

    def forward(self, decoder_input_ids: torch.Tensor, use_cache: bool) -> object:
        assert not use_cache
        logits = self.head(torch.tanh(self.embed(decoder_input_ids)))
        self.logit_rows.append(logits.shape[0] * logits.shape[1])
        return type("Output", (), {"logits": logits})


def plain(model: Decoder) -> torch.Tensor:
    tokens = decoder_inputs(LABELS, start=1, pad=0)
    logits = model(tokens, use_cache=False).logits
    return nn.functional.cross_entropy(logits.transpose(1, 2), LABELS, reduction="none").sum(1)


def test_decoder_inputs_are_the_labels_behind_the_start():
    assert decoder_inputs(LABELS, start=1, pad=0).tolist() == [[1, 4, 5], [1, 7, 0], [1, 0, 0]]


@pytest.mark.parametrize("max_logits", [2**25, 22, 11, 1])
@pytest.mark.parametrize("through_head", [True, False])
def test_losses_and_gradients_are_those_of_plain_cross_entropy(
    max_logits: int, through_head: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(token_loss, "MAX_LOGITS", max_logits)
    model, other = Decoder(), Decoder()
    inputs = {"decoder_input_ids": decoder_inputs(LABELS, start=1, pad=0)}
    losses = token_losses(model, inputs, LABELS, LENGTHS, head=model.head if through_head else None)
    expected = plain(other)
    torch.testing.assert_close(losses, expected)
    assert losses[2] == 0
    losses.sum().backward()
    expected.sum().backward()
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_models_own_forward_makes_no_logits_and_keeps_no_hook():
    model = Decoder()
    inputs = {"decoder_input_ids": decoder_inputs(LABELS, start=1, pad=0)}
    token_losses(model, inputs, LABELS, LENGTHS, head=model.head)
    assert model.logit_rows == [0]
    assert model(inputs["decoder_input_ids"], use_cache=False).logits.shape == (3, 3, 11)


def test_losses_are_float32_under_autocast():
    model = Decoder()
    inputs = {"decoder_input_ids": decoder_inputs(LABELS, start=1, pad=0)}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = token_losses(model, inputs, LABELS, LENGTHS, head=model.head)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, plain(model), rtol=2e-2, atol=2e-2)


def test_a_batch_without_labels_has_a_loss_of_0_with_a_gradient():
    hidden = torch.randn(1, 1, 8, requires_grad=True)
    losses = utterance_sums(hidden, torch.tensor([[-100]]), [0], head=nn.Linear(8, 11), vocabulary=11)
    assert losses.tolist() == [0.0]
    losses.sum().backward()
    assert hidden.grad is not None and hidden.grad.abs().sum() == 0
