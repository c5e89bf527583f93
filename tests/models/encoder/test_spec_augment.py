"""SpecAugment with lengths known on the host: transformers' masks from the same random numbers."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import tiny_families
import tiny_seq2seq
import torch

from speechtune.models.encoder.spec_augment import draw_masks_on_host

AUGMENTED = [name for name, (model_type, _, _) in tiny_families.FAMILIES.items() if "_ctc" not in model_type]


def trained_on(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits and gradients of a pass, SpecAugment drawn from a given seed."""
    np.random.seed(3)
    torch.manual_seed(3)
    model.zero_grad()
    logits = model(**inputs).logits
    logits.square().sum().backward()
    return logits, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("is_padded", [True, False])
@pytest.mark.parametrize("name", AUGMENTED)
def test_masks_are_those_of_transformers(name: str, is_padded: bool):
    model = tiny_families.augmented_model(name)
    real = tiny_families.lengths_for(model) if is_padded else tiny_families.lengths_for(model)[:1]
    inputs = tiny_families.batch(model, tiny_families.utterances(model, real))
    if not is_padded:
        del inputs["attention_mask"]
    wanted, wanted_gradients = trained_on(model, inputs)
    lengths = draw_masks_on_host(model)
    assert torch.equal(trained_on(model, inputs)[0], wanted), "not told any lengths"
    with lengths.set_to(torch.tensor(real)):
        found, gradients = trained_on(model, inputs)
    torch.testing.assert_close(found, wanted)
    assert gradients.keys() == wanted_gradients.keys()
    for parameter, gradient in gradients.items():
        torch.testing.assert_close(gradient, wanted_gradients[parameter], msg=parameter)
    with torch.no_grad(), lengths.set_to(torch.tensor(real)):
        assert not torch.equal(model.eval()(**inputs).logits, wanted), "nothing was masked"


def test_whispers_masks_are_those_of_transformers():
    recogniser = tiny_seq2seq.for_training(apply_spec_augment=True, mask_time_prob=0.4)
    whisper = recogniser.model.model.train()
    features = torch.randn(2, whisper.config.num_mel_bins, 300)
    mask = (torch.arange(300) < torch.tensor([300, 180])[:, None]).int()
    found = []
    for lengths in (None, torch.tensor([300, 180])):
        np.random.seed(3)
        with recogniser._input_lengths.set_to(lengths):
            found.append(whisper._mask_input_features(features.clone(), attention_mask=mask))
    assert torch.equal(*found)
    assert not torch.equal(found[0], features)


def test_a_copied_model_has_masks_of_its_own():
    model = tiny_families.augmented_model("wav2vec2 layer norm")
    draw_masks_on_host(model)
    twin = copy.deepcopy(model)
    assert twin.wav2vec2._mask_hidden_states.encoder is twin.wav2vec2
