"""Attention of our own gives what torch's fused one gives, and is taken only where it does."""

import itertools
from types import SimpleNamespace

import pytest
import tiny_seq2seq
import torch
from transformers import AutoModelForCTC, Wav2Vec2Config, WavLMConfig

from speechtune.models.encoder import attention
from speechtune.models.encoder.attention import OWN_ATTENTION, use_own_attention
from speechtune.models.encoder.padding import make_padding_invariant

SIZES = {
    "vocab_size": 12, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "conv_dim": [16, 16],
    "conv_kernel": [10, 8], "conv_stride": [10, 8], "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4, "feat_extract_norm": "layer", "do_stable_layer_norm": True,
}  # fmt: skip
STILL = {
    "hidden_dropout": 0.0, "attention_dropout": 0.0, "feat_proj_dropout": 0.0, "final_dropout": 0.0, "layerdrop": 0.0,
    "mask_time_prob": 0.0,
}  # fmt: skip


def gradients(model, *, masked):
    """Gradients of a bf16 step by parameter, over two clips of which one is padded."""
    torch.manual_seed(1)
    samples = torch.randn(2, 4000)
    mask = torch.ones(2, 4000, dtype=torch.long)
    if masked:
        mask[1, 2600:] = 0
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(samples, attention_mask=mask).logits
    logits.float()[:, :30].pow(2).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return AutoModelForCTC.from_config(Wav2Vec2Config(**SIZES, **STILL)).train()


@pytest.mark.parametrize("masked", [True, False])
def test_gradients_are_those_of_the_fused_kernel_up_to_bf16(model, masked, monkeypatch):
    fused = gradients(model, masked=masked)
    calls = []
    plain = attention._plain_attention
    monkeypatch.setattr(attention, "_plain_attention", lambda *a: calls.append(1) or plain(*a))
    assert use_own_attention(model)
    found = gradients(model, masked=masked)
    assert len(calls) == 2  # a layer each
    assert (found - fused).norm() < 2e-2 * fused.norm()


@pytest.mark.parametrize("kind", ["none", "boolean", "additive"])
def test_it_is_the_fused_kernels_function(kind):
    query, key, value = torch.randn(3, 2, 4, 30, 8)
    taking_part = (torch.arange(30) < torch.tensor([30, 17])[:, None])[:, None, None].expand(2, 1, 30, 30)
    mask = {
        "none": None,
        "boolean": taking_part,
        "additive": torch.zeros(2, 1, 30, 30).masked_fill(~taking_part, torch.finfo(torch.float32).min),
    }[kind]
    wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3)
    found = attention._plain_attention(query, key, value, mask, {"scaling": 0.3})
    torch.testing.assert_close(found, wanted.transpose(1, 2))


def test_evaluation_and_float32_go_on_with_the_fused_kernel(model, monkeypatch):
    monkeypatch.setattr(attention, "_plain_attention", lambda *a: pytest.fail("not here"))
    use_own_attention(model)
    model(torch.randn(1, 4000)).logits.sum().backward()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(1, 4000))


def test_the_saved_config_does_not_name_it(model, tmp_path):
    use_own_attention(model)
    model.save_pretrained(tmp_path)
    assert OWN_ATTENTION not in (tmp_path / "config.json").read_text()
    assert AutoModelForCTC.from_pretrained(tmp_path).config._attn_implementation == "sdpa"


def test_models_that_attend_their_own_way_are_left_alone():
    wavlm = AutoModelForCTC.from_config(WavLMConfig(**SIZES, **STILL)).train()
    before = wavlm.config._attn_implementation
    wanted = gradients(wavlm, masked=True)
    assert not use_own_attention(wavlm)
    assert wavlm.config._attn_implementation == before
    assert torch.equal(gradients(wavlm, masked=True), wanted)


def test_a_model_set_to_eager_stays_so():
    model = AutoModelForCTC.from_config(Wav2Vec2Config(**SIZES), attn_implementation="eager")
    assert not use_own_attention(model)
    assert model.config._attn_implementation == "eager"


# ---- by lengths, as on a GPU; the kernel is written out here, since there is none for a processor


def by_lengths(query, key, value, bounds, key_bounds, longest, longest_key, *, scale):
    """torch.nn.attention.varlen.varlen_attn: rows (N, heads, dim), a sequence from each bound to the next."""
    assert torch.equal(bounds, key_bounds) and bounds.dtype == torch.int32 and int(bounds[-1]) == len(query)
    assert int(bounds.diff().max()) <= longest == longest_key
    made = []
    for start, end in itertools.pairwise(bounds.tolist()):
        parts = (rows[start:end].transpose(0, 1) for rows in (query, key, value))
        made.append(torch.nn.functional.scaled_dot_product_attention(*parts, scale=scale).transpose(0, 1))
    return torch.cat(made)


def test_lengths_stand_for_the_mask(monkeypatch):
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", by_lengths)
    parts = [torch.randn(3, 30, 4, 8, requires_grad=True) for _ in range(3)]
    lengths = torch.tensor([30, 17, 1])
    real = torch.arange(30) < lengths[:, None]
    mask = real[:, None, None].expand(3, 1, 30, 30)
    query, key, value = (part.transpose(1, 2) for part in parts)
    wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask, scale=0.3).transpose(1, 2)
    found = attention._attention_by_lengths(query, key, value, mask, scale=0.3)
    torch.testing.assert_close(found[real], wanted[real])
    assert found.isfinite().all()
    for one, other in zip(
        *(torch.autograd.grad(made[real].square().sum(), parts) for made in (found, wanted)), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_a_model_that_attends_by_lengths_gives_the_same(model, monkeypatch):
    torch.manual_seed(0)
    samples, mask = torch.randn(3, 4000), torch.ones(3, 4000, dtype=torch.long)
    mask[1, 2600:] = mask[2, 900:] = 0
    make_padding_invariant(model.eval())
    wanted = model(samples, attention_mask=mask).logits
    calls = []
    monkeypatch.setattr(attention, "_lengths_suffice", lambda module, q, k, mask, options: mask is not None)
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", lambda *a, **o: calls.append(1) or by_lengths(*a, **o))
    assert use_own_attention(model)
    found = model(samples, attention_mask=mask).logits
    assert len(calls) == 2  # a layer each
    frames = [50, 32, 11]
    for one, other, length in zip(found, wanted, frames, strict=True):
        torch.testing.assert_close(one[:length], other[:length])


def test_torchs_kernel_takes_what_it_is_given():
    """Without values: torch's own shapes and types."""
    query, key, value = (torch.randn(3, 4, 30, 64, dtype=torch.bfloat16, device="meta") for _ in range(3))
    mask = torch.ones(3, 1, 30, 30, dtype=torch.bool, device="meta")
    made = attention._attention_by_lengths(query, key, value, mask, scale=0.3)
    assert made.shape == (3, 30, 4, 64) and made.dtype == torch.bfloat16


def test_a_kernel_that_fails_or_differs_is_left_alone(monkeypatch):
    device = torch.device("cpu")
    for kernel, serves in (
        (by_lengths, True),
        (lambda *parts, **options: 2 * by_lengths(*parts, **options), False),
        (lambda *parts, **options: 1 / 0, False),
    ):
        monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel)
        attention._kernel_is_right.cache_clear()
        assert attention._kernel_is_right(device) is serves
    attention._kernel_is_right.cache_clear()


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"dtype": torch.float32}, False),
        ({"dropout": 0.1}, False),
        ({"is_speech_encoder": False}, False),
        ({"device": "cpu"}, False),
        ({"keys": 7}, False),
        ({"position_bias": 1}, False),
    ],
)
def test_lengths_are_enough_only_where_a_mask_says_nothing_else(change, fits, monkeypatch):
    monkeypatch.setattr(attention, "_kernel_is_right", lambda device: True)
    values = {"dtype": torch.bfloat16, "device": "cuda", "keys": 30, "is_speech_encoder": True, **change}
    query, key = (
        SimpleNamespace(
            device=torch.device(values["device"]), dtype=values["dtype"], shape=torch.Size((3, 4, frames, 64))
        )
        for frames in (30, values["keys"])
    )
    module = SimpleNamespace(_masks_padding_only=values["is_speech_encoder"])
    mask = torch.ones(3, 1, 30, 30, dtype=torch.bool)
    options = {name: values.get(name) for name in ("dropout", "position_bias")}
    assert attention._lengths_suffice(module, query, key, mask, options) is fits


def test_lengths_are_looked_at_in_speech_encoders_alone():
    """A decoder's attention to the encoder may have as many queries as keys, and ends elsewhere."""
    recogniser = tiny_seq2seq.for_training("facebook/wav2vec2-base+facebook/bart-base")
    assert use_own_attention(recogniser.model)
    marked = {
        name for name, module in recogniser.model.named_modules() if getattr(module, "_masks_padding_only", False)
    }
    assert "encoder.encoder.layers.0.attention" in marked
    assert not any(name.startswith(("decoder", "encoder.adapter")) for name in marked)
