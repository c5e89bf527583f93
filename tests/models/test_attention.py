"""The attention that trains in bf16 on a processor gives what torch's fused one gives."""

import pytest
import torch
from transformers import AutoModelForCTC, Wav2Vec2Config, WavLMConfig

from speechtune.models import attention
from speechtune.models.attention import PROCESSOR_ATTENTION, use_processor_attention

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
    assert use_processor_attention(model)
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
    use_processor_attention(model)
    model(torch.randn(1, 4000)).logits.sum().backward()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(1, 4000))


def test_the_saved_config_does_not_name_it(model, tmp_path):
    use_processor_attention(model)
    model.save_pretrained(tmp_path)
    assert PROCESSOR_ATTENTION not in (tmp_path / "config.json").read_text()
    assert AutoModelForCTC.from_pretrained(tmp_path).config._attn_implementation == "sdpa"


def test_models_that_attend_their_own_way_are_left_alone():
    wavlm = AutoModelForCTC.from_config(WavLMConfig(**SIZES, **STILL)).train()
    before = wavlm.config._attn_implementation
    wanted = gradients(wavlm, masked=True)
    assert not use_processor_attention(wavlm)
    assert wavlm.config._attn_implementation == before
    assert torch.equal(gradients(wavlm, masked=True), wanted)


def test_a_model_set_to_eager_stays_so():
    model = AutoModelForCTC.from_config(Wav2Vec2Config(**SIZES), attn_implementation="eager")
    assert not use_processor_attention(model)
    assert model.config._attn_implementation == "eager"
