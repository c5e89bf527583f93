"""A frozen encoder's output is computed once a clip, and only where nothing else can change it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_seq2seq import CLIPS, batch_of, for_training

from speechtune.audio.cache import AudioCache
from speechtune.errors import OptionError
from speechtune.models.whisper.encoder_cache import EncoderCache, weights_hash


class Dictionary(dict):
    """A store in memory."""

    def put(self, key: str, samples: np.ndarray) -> bool:
        assert samples.dtype == np.int16 and samples.ndim == 1
        self[key] = samples
        return True


class Full(Dictionary):
    def put(self, key: str, samples: np.ndarray) -> bool:
        return False


def counted(recogniser) -> list[int]:
    """Utterances that go through the encoder, a number a call."""
    calls: list[int] = []
    recogniser.model.model.encoder.conv1.register_forward_hook(lambda _, args, __: calls.append(len(args[0])))
    return calls


@pytest.mark.parametrize("context", ["full", 1.0])
@pytest.mark.parametrize("on_disk", [False, True])
def test_the_second_epoch_computes_nothing_and_has_the_same_loss(context: object, on_disk: bool, tmp_path: Path):
    recogniser = for_training(freeze_encoder=True, encoder_cache=True, encoder_context=context)
    plain = recogniser.losses(recogniser.model, batch_of(recogniser, training=True))
    recogniser.keep_encoded(AudioCache(tmp_path / "encoder", 0) if on_disk else Dictionary())
    calls = counted(recogniser)
    first = recogniser.losses(recogniser.model, batch_of(recogniser, training=True))
    assert sum(calls) == 3
    again = recogniser.losses(recogniser.model, batch_of(recogniser, list(reversed(CLIPS)), training=True))
    assert sum(calls) == 3
    torch.testing.assert_close(again.flip(0), first, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(first, plain, rtol=1e-3, atol=1e-2)  # float16


def test_gradients_reach_the_decoder():
    recogniser = for_training(freeze_encoder=True, encoder_cache=True)
    recogniser.keep_encoded(Dictionary())
    recogniser.losses(recogniser.model, batch_of(recogniser, training=True)).sum().backward()
    assert recogniser.model.model.decoder.layers[0].encoder_attn.k_proj.weight.grad.abs().sum() > 0


def test_a_store_that_takes_no_more_costs_time_alone():
    recogniser = for_training(freeze_encoder=True, encoder_cache=True)
    recogniser.keep_encoded(Full())
    calls = counted(recogniser)
    one, two = (recogniser.losses(recogniser.model, batch_of(recogniser, training=True)) for _ in range(2))
    assert torch.equal(one, two)
    assert sum(calls) == 6


def test_another_context_or_other_weights_are_other_keys():
    store = Dictionary()
    for frames, weights in ((4, "a"), (6, "a"), (4, "b")):
        cache = EncoderCache(store, weights=weights)
        made = cache.states(
            ["clip"], frames, lambda places, n=frames: torch.ones(1, n // 2, 8), device=torch.device("cpu")
        )
        assert made.shape == (1, frames // 2, 8)
    assert len(store) == 3


def test_states_beyond_half_precision_stay_finite():
    cache = EncoderCache(Dictionary(), weights="a")
    made = cache.states(["clip"], 2, lambda places: torch.full((1, 1, 2), 1e6), device=torch.device("cpu"))
    assert made.tolist() == [[[65504.0, 65504.0]]]


def test_the_hash_follows_the_weights():
    encoder = for_training().model.model.encoder
    before = weights_hash(encoder)
    assert before == weights_hash(for_training().model.model.encoder)
    with torch.no_grad():
        encoder.layer_norm.bias[0] += 1e-3
    assert weights_hash(encoder) != before


def test_a_silent_stand_in_is_not_stored():
    recogniser = for_training(freeze_encoder=True, encoder_cache=True)
    store = Dictionary()
    recogniser.keep_encoded(store)
    assert recogniser.losses(recogniser.model, batch_of(recogniser, [], training=True)).tolist() == [0.0]
    assert not store


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Give --freeze_encoder too"),
        ({"freeze_encoder": True, "apply_spec_augment": True}, "differs each time"),
    ],
)
def test_what_changes_the_encoders_output_rules_it_out(options: dict[str, bool], message: str):
    with pytest.raises(OptionError, match=message):
        for_training(encoder_cache=True, **options)


def test_other_encoders_are_not_kept():
    with pytest.raises(OptionError, match="--encoder_cache is for Whisper"):
        for_training("facebook/wav2vec2-base+facebook/bart-base", encoder_cache=True, freeze_encoder=True)
