"""The same answer however an utterance is batched."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_families import (
    FAMILIES,
    INVARIANT_BUT_FOR_TRAINING,
    INVARIANT_BY_THEMSELVES,
    alone,
    batch,
    difference,
    input_name,
    tiny_model,
    utterances,
)

from speechtune.models.encoder.padding import make_padding_invariant
from speechtune.models.frames import num_frames

pytestmark = pytest.mark.filterwarnings(
    "ignore:Support for mismatched key_padding_mask",  # WavLM's own, in any batch with a mask
    "ignore:.gradient_checkpointing_enable. is deprecated",
)

TOLERANCE = 1e-5  # relative, float32; the promise is 1e-4
SAMPLES = [3001, 517, 1333, 260, 2222, 777]
FRAMES = [101, 17, 55, 31, 64, 90]


def lengths_for(model: Any) -> list[int]:
    return SAMPLES if input_name(model) == "input_values" else FRAMES


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_logits_do_not_depend_on_the_batch(name: str):
    model = tiny_model(name)
    inputs = utterances(model, lengths_for(model))
    plain = [alone(model, values) for values in inputs]
    original = model(**batch(model, inputs, extra=7)).logits
    worst_originally = max(difference(row, expected) for row, expected in zip(original, plain, strict=True))
    assert (worst_originally < TOLERANCE) == (name in INVARIANT_BY_THEMSELVES), worst_originally

    keys = list(model.state_dict())
    done = make_padding_invariant(model)
    assert done == (name not in INVARIANT_BY_THEMSELVES or name in INVARIANT_BUT_FOR_TRAINING)
    assert list(model.state_dict()) == keys
    assert not make_padding_invariant(model)

    for values, expected in zip(inputs, plain, strict=True):
        assert torch.equal(alone(model, values), expected)  # plain transformers, to the bit
    for extra, order in [(0, [0, 1, 2, 3, 4, 5]), (1, [3, 0]), (333, [5, 4, 3, 2, 1, 0]), (0, [1]), (64, [2])]:
        logits = model(**batch(model, [inputs[i] for i in order], extra=extra)).logits
        for row, i in zip(logits, order, strict=True):
            assert difference(row, plain[i]) < TOLERANCE


@pytest.mark.parametrize("name", sorted(INVARIANT_BUT_FOR_TRAINING))
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.filterwarnings("ignore:.*use_reentrant")
def test_batch_norms_of_conformers_learn_from_the_real_frames(name: str, checkpointing: bool):
    model = tiny_model(name).train()
    make_padding_invariant(model)
    if checkpointing:
        model.gradient_checkpointing_enable()
    inputs = utterances(model, [101, 17, 55])
    found = []
    for extra in (0, 33):
        twin = copy.deepcopy(model)
        logits = twin(**batch(twin, inputs, extra=extra)).logits
        frames = num_frames(twin.config, [101, 17, 55])
        sum(row[:length].square().sum() for row, length in zip(logits, frames, strict=True)).backward()
        gradient = [p.grad.flatten() for p in twin.parameters() if p.grad is not None]
        statistics = [b.flatten() for name, b in twin.named_buffers() if "running" in name]
        found.append(torch.cat([*gradient, *statistics]))
    assert difference(found[1], found[0]) < TOLERANCE


@pytest.fixture(scope="module")
def wav2vec2() -> Any:
    model = tiny_model("wav2vec2 group norm")
    make_padding_invariant(model)
    return model


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(50, 2500), min_size=1, max_size=9),
    batch_size=st.integers(1, 9),
    extra=st.integers(0, 500),
    seed=st.integers(0, 1000),
)
@torch.no_grad()
def test_any_lengths_orders_and_batch_sizes_give_the_same_logits(
    wav2vec2: Any, lengths: list[int], batch_size: int, extra: int, seed: int
):
    inputs = utterances(wav2vec2, lengths)
    plain = [alone(wav2vec2, values) for values in inputs]
    order = list(range(len(inputs)))
    random.Random(seed).shuffle(order)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        logits = wav2vec2(**batch(wav2vec2, [inputs[i] for i in rows], extra=extra)).logits
        assert max(difference(row, plain[i]) for row, i in zip(logits, rows, strict=True)) < TOLERANCE


@pytest.mark.parametrize("name", ["wav2vec2 with adapter", "sew", "sew-d", "conformer relative"])
def test_short_utterances_are_right_and_too_short_ones_harm_nobody(name: str):
    model = tiny_model(name)
    lengths = [30, 1000, 55, 47, 12, 90]  # 1, 49, 2, 1, 0 and 4 frames before the adapter
    inputs = utterances(model, lengths)
    frames = num_frames(model.config, lengths)
    least = 2 if name.startswith("sew") else 1  # SEW alone can't pool a single frame
    plain = {i: alone(model, inputs[i]) for i in range(len(inputs)) if frames[i] >= least}
    make_padding_invariant(model)
    logits = model(**batch(model, inputs)).logits
    assert max(difference(logits[i], expected) for i, expected in plain.items()) < TOLERANCE
    sum(logits[i, : frames[i]].square().sum() for i in plain).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def gradients(model: Any, inputs: list[torch.Tensor], *, at_once: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """All gradients in one vector, of a loss over the real frames; and the loss."""
    model.zero_grad()
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.eval()
    if at_once:
        frames = num_frames(model.config, [len(values) for values in inputs])
        logits = model(**batch(model, inputs, extra=11)).logits
        loss = sum(row[:length].square().sum() for row, length in zip(logits, frames, strict=True))
    else:
        loss = sum(alone(model, values).square().sum() for values in inputs)
    loss.backward()
    model.eval()
    vector = torch.cat([p.grad.flatten() if p.grad is not None else p.new_zeros(p.numel()) for p in model.parameters()])
    return vector, loss.detach()


TRAINED = ["wav2vec2 with adapter", "hubert with batch norm", "conformer rotary, adapter", "sew", "data2vec-audio"]


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_of_a_batch_are_the_sum_of_the_utterances_own(name: str):
    model = tiny_model(name)
    inputs = utterances(model, [1000, 333, 641])
    expected, loss_alone = gradients(model, inputs, at_once=False)
    make_padding_invariant(model)
    found, loss = gradients(model, inputs, at_once=True)
    assert difference(loss[None], loss_alone[None]) < TOLERANCE
    assert difference(found, expected) < 1e-4


@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.filterwarnings("ignore:.*use_reentrant")
def test_gradient_checkpointing_recomputes_with_the_same_lengths(name: str, use_reentrant: bool):
    model = tiny_model(name)
    inputs = utterances(model, [1000, 333, 641])
    make_padding_invariant(model)
    expected, _ = gradients(model, inputs, at_once=True)
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    found, _ = gradients(model, inputs, at_once=True)
    assert difference(found, expected) < 1e-6


def test_two_forward_passes_before_the_backward_pass_keep_their_own_lengths(wav2vec2: Any):
    model = copy.deepcopy(wav2vec2)
    first, second = utterances(model, [900, 300]), utterances(model, [700, 650])
    expected = gradients(model, first, at_once=True)[0] + gradients(model, second, at_once=True)[0]
    model.zero_grad()
    model.train()
    model.gradient_checkpointing_enable()
    loss = torch.zeros(())
    for inputs in (first, second):
        frames = num_frames(model.config, [len(values) for values in inputs])
        logits = model(**batch(model, inputs, extra=11)).logits
        loss = loss + sum(row[:length].square().sum() for row, length in zip(logits, frames, strict=True))
    loss.backward()
    found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert difference(found, expected[: len(found)]) < TOLERANCE


@torch.no_grad()
def test_autocast_and_half_precision_keep_the_types_of_plain_transformers(wav2vec2: Any):
    inputs = utterances(wav2vec2, [1000, 333])
    with torch.autocast("cpu", torch.bfloat16):
        expected = alone(wav2vec2, inputs[1])
        found = wav2vec2(**batch(wav2vec2, inputs)).logits
    assert found.dtype == expected.dtype == torch.bfloat16
    assert difference(found[1].float(), expected.float()) < 1e-2
    model = copy.deepcopy(wav2vec2).bfloat16()
    found = model(**{key: v.bfloat16() if v.is_floating_point() else v for key, v in batch(model, inputs).items()})
    assert found.logits.dtype == torch.bfloat16
    assert difference(found.logits[1].float(), alone(model, inputs[1].bfloat16()).float()) < 1e-2


@torch.no_grad()
def test_the_checkpoint_loads_in_plain_transformers(wav2vec2: Any, tmp_path: Path):
    from transformers import Wav2Vec2ForCTC

    wav2vec2.save_pretrained(tmp_path)
    plain = Wav2Vec2ForCTC.from_pretrained(tmp_path).eval()
    values = utterances(plain, [640])[0]
    assert torch.equal(alone(plain, values), alone(wav2vec2, values))
    assert plain.config.to_diff_dict() == wav2vec2.config.to_diff_dict()
    torch.save(wav2vec2.state_dict(), tmp_path / "weights.pt")
    assert list(torch.load(tmp_path / "weights.pt", weights_only=True)) == list(plain.state_dict())


@torch.no_grad()
def test_a_copy_has_its_own_lengths():
    model = tiny_model("hubert with batch norm")
    make_padding_invariant(model)
    twin = copy.deepcopy(model)
    inputs = utterances(model, [1000, 333])
    expected = model(**batch(model, inputs)).logits
    assert torch.equal(twin(**batch(model, inputs)).logits, expected)
    assert twin.hubert._padding_lengths is not model.hubert._padding_lengths
    layer = twin.hubert.feature_extractor.conv_layers[0]
    assert layer._lengths is layer.layer_norm._lengths is twin.hubert._padding_lengths


@torch.no_grad()
def test_a_failed_call_leaves_no_lengths_behind(wav2vec2: Any):
    values = utterances(wav2vec2, [640])[0]
    expected = alone(wav2vec2, values)
    with pytest.raises(RuntimeError):
        wav2vec2(torch.zeros(2, 5), attention_mask=torch.ones(2, 5))
    assert wav2vec2.wav2vec2._padding_lengths.now is None
    assert torch.equal(alone(wav2vec2, values), expected)


def test_hidden_states_are_still_recorded():
    model = tiny_model("conformer relative")
    make_padding_invariant(model)
    outputs = model(**batch(model, utterances(model, [640, 300])), output_hidden_states=True)
    assert len(outputs.hidden_states) == 3


@torch.no_grad()
def test_wrapped_for_several_processes_it_is_the_same(wav2vec2: Any, tmp_path: Path):
    import torch.distributed as dist

    inputs = utterances(wav2vec2, [1000, 333])
    expected = wav2vec2(**batch(wav2vec2, inputs)).logits
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(wav2vec2)
        assert torch.equal(wrapped(**batch(wav2vec2, inputs)).logits, expected)
    finally:
        dist.destroy_process_group()


@torch.no_grad()
def test_encoder_decoder_with_adapter_says_the_same_in_any_batch():
    import transformers
    from tiny_families import GROUP

    encoder = transformers.Wav2Vec2Config(**GROUP, add_adapter=True, num_adapter_layers=3)
    sizes = {"d_model": 24, "vocab_size": 20, "max_position_embeddings": 40, "dropout": 0.0}
    layers = {"decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "encoder_layers": 2}
    decoder = transformers.BartConfig(**sizes, **layers, is_decoder=True, add_cross_attention=True)
    torch.manual_seed(0)
    model = transformers.SpeechEncoderDecoderModel(
        transformers.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    ).eval()
    model.config.decoder_start_token_id, model.config.pad_token_id = 2, 1
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    inputs = utterances(model.encoder, [3001, 517, 1333])
    labels = torch.randint(3, 20, (3, 6))
    plain = [model(input_values=v[None], labels=labels[i : i + 1]).logits[0] for i, v in enumerate(inputs)]
    assert make_padding_invariant(model)
    padded = batch(model.encoder, inputs, extra=100)
    logits = model(**padded, labels=labels).logits
    assert max(difference(row, expected) for row, expected in zip(logits, plain, strict=True)) < TOLERANCE
    assert num_frames(model.config, [3101])[0] == model.encoder(**padded).last_hidden_state.shape[1]
