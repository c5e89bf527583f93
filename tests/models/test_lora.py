"""Low-rank updates in every family: where they are, that each is trained, and that all else stays as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_families import FAMILIES, alone, batch, difference, input_name, lengths_for, tiny_model
from tiny_families import utterances as random_inputs
from tiny_seq2seq import batch_of, for_training

from speechtune.errors import ModelError, OptionError
from speechtune.models.ctc.head import LABEL_LAYERS
from speechtune.models.encoder.padding import make_padding_invariant
from speechtune.models.loading import Source
from speechtune.models.lora import add_lora, has_lora, load_adapters, save_adapters
from speechtune.options.lora import Lora

SMALL = Lora(r=4, alpha=8)
SEQ2SEQ = ["openai/whisper-small", "facebook/wav2vec2-base+gpt2", "facebook/wav2vec2-base+facebook/bart-base"]


def trained(model: Any) -> dict[str, Any]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def perturb(model: Any) -> None:
    """New updates are zero: make them something."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "granite 5"])
def test_new_updates_change_nothing_and_every_one_of_them_is_trained(name: str):
    model = tiny_model(name)
    make_padding_invariant(model)
    inputs = batch(model, random_inputs(model, lengths_for(model)), extra=100)
    before = model(**inputs).logits.detach()
    line = add_lora(model, SMALL, base="someone/model")
    assert has_lora(model) and " trained whole" in line
    after = model(**inputs).logits
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
    perturb(model)
    model(**inputs).logits.square().sum().backward()
    parameters = trained(model)
    assert all("lora_" in key or key.startswith(LABEL_LAYERS) for key in parameters)
    assert [
        key for key, value in parameters.items() if value.grad is None or not bool(value.grad.abs().sum() > 0)
    ] == []
    kinds = {key.split(".lora_")[0].rpartition(".")[2] for key in parameters if "lora_" in key}
    assert any(kind.startswith(("q", "linear_q", "to_q")) for kind in kinds), kinds  # attention
    assert any(kind.startswith(("intermediate", "linear1", "dense", "up_proj")) for kind in kinds), (
        kinds
    )  # feed-forward


def test_statistics_of_batch_norms_stay_those_of_the_base():
    """They are not part of an adapter: the tuned model would differ from what is kept of it."""
    model = tiny_model("parakeet")
    add_lora(model, SMALL, base="someone/model")
    before = {name: buffer.clone() for name, buffer in model.named_buffers() if "running" in name}
    model.train()(**batch(model, random_inputs(model, lengths_for(model))))
    assert before and all(
        bool((buffer == before[name]).all()) for name, buffer in model.named_buffers() if name in before
    )


@pytest.mark.parametrize("name", ["wav2vec2 group norm", "wavlm layer norm, adapter", "conformer relative"])
def test_output_does_not_depend_on_padding_with_updates(name: str):
    model = tiny_model(name)
    make_padding_invariant(model)
    add_lora(model, SMALL, base="someone/model")
    perturb(model)
    inputs = random_inputs(model, lengths_for(model))
    with torch.no_grad():
        padded = model(**batch(model, inputs, extra=200)).logits
        for row, values in enumerate(inputs):
            assert difference(padded[row], alone(model, values)) < 1e-4


def test_recomputed_layers_have_the_same_gradients():
    gradients = []
    for recomputes in (False, True):
        torch.manual_seed(0)
        model = tiny_model("wav2vec2 layer norm").train()
        add_lora(model, SMALL, base="someone/model")
        perturb(model)
        if recomputes:
            model.activation_checkpointing_enable()
        values = batch(model, random_inputs(model, [1000, 800]))
        model(**values).logits.square().sum().backward()
        gradients.append({key: value.grad for key, value in trained(model).items()})
    for key, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], value)


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_encoder_and_decoder_learn(name: str):
    context = {"encoder_context": 0.5} if "whisper" in name else {}
    recogniser = for_training(name, **context)
    add_lora(recogniser.model, Lora(r=16, alpha=32), base="someone/model")
    assert not recogniser.encoder_frozen
    names = trained(recogniser.model)
    assert any("encoder.layers.0" in key for key in names)
    assert any("decoder" in key and "encoder.encoder" not in key for key in names)
    recogniser.model.eval()
    torch.manual_seed(0)
    torch.nn.init.normal_(recogniser.model.get_output_embeddings().weight)  # frozen, and so small at random
    texts = ["bir", "iki", "uc", "dort", "bes", "alti", "yedi", "sekiz"]
    clips = batch_of(recogniser, [(1.0 + 0.1 * i, text) for i, text in enumerate(texts)], training=True)
    optimizer = torch.optim.AdamW(names.values(), lr=1e-2)
    found = []
    for _ in range(30):
        loss = recogniser.losses(recogniser.model, clips).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.5 * found[0]


def test_what_is_frozen_gets_no_update():
    recogniser = for_training("openai/whisper-small", freeze_encoder=True)
    add_lora(recogniser.model, SMALL, base="someone/model")
    assert recogniser.encoder_frozen and all("decoder" in key for key in trained(recogniser.model))
    model = tiny_model("wav2vec2 layer norm")
    model.lm_head.requires_grad_(False)
    model.wav2vec2.encoder.layers[0].requires_grad_(False)
    add_lora(model, SMALL, base="someone/model")
    assert all("encoder.layers.1" in key for key in trained(model))
    model = tiny_model("wav2vec2 layer norm")
    model.requires_grad_(False)
    with pytest.raises(OptionError, match="every linear layer is frozen"):
        add_lora(model, SMALL, base="someone/model")


def test_a_head_that_is_in_two_places_is_refused():
    with pytest.raises(OptionError, match="granite_speech5_ctc has its head in two places"):
        add_lora(tiny_model("granite 5"), SMALL, base="someone/model")


def test_targets_can_be_named_and_dora_has_magnitudes():
    model = tiny_model("wav2vec2 layer norm")
    line = add_lora(model, Lora(r=2, alpha=2, targets=("q_proj", "attention.v_proj"), dora=True), base="someone/model")
    assert line == "DoRA: rank 2, alpha 2, in 4 layers (q_proj, v_proj); lm_head trained whole"
    assert any("lora_magnitude_vector" in key for key in trained(model))


def test_weights_that_the_checkpoint_lacks_are_trained_and_kept_whole(tmp_path: Path):
    """A new convolutional adapter behind a pretrained encoder."""
    import transformers
    from standins.models import stand_in

    base = str(stand_in(tmp_path / "home", "facebook/wav2vec2-base"))
    config = transformers.AutoConfig.from_pretrained(base)
    config.update({"add_adapter": True, "vocab_size": 7, "pad_token_id": 6})
    load = transformers.AutoModelForCTC.from_pretrained
    model = Source(base).load("model", load, config=config)
    line = add_lora(model, SMALL, base=base)
    assert "adapter.layers.0.conv" in line and "lm_head" in line and "masked_spec_embed" not in line
    perturb(model)
    save_adapters(model, tmp_path / "adapter")
    merged = Source(str(tmp_path / "adapter")).load("model", load).eval()
    values = torch.randn(2, 9000)
    with torch.no_grad():
        torch.testing.assert_close(merged(values).logits, model.eval()(values).logits, rtol=1e-4, atol=1e-5)
    assert all(parameter.requires_grad for parameter in merged.parameters()) and not has_lora(merged)


def test_an_adapter_of_other_layers_or_without_its_base_is_refused(tmp_path: Path):
    from trained_folders import ctc_folder

    base = ctc_folder(tmp_path / "base")
    load = __import__("transformers").AutoModelForCTC.from_pretrained
    model = Source(str(base)).load("model", load)
    add_lora(model, SMALL, base=str(base))
    save_adapters(model, tmp_path / "adapter")
    other = Source(str(base)).load("model", load)
    add_lora(other, Lora(r=4, alpha=8, targets=("q_proj",)), base=str(base))
    with pytest.raises(ValueError, match="belongs to other layers"):
        load_adapters(other, tmp_path / "adapter")
    ctc_folder(tmp_path / "others", letters="abcdefg")
    (tmp_path / "others").rename(base.with_name("other"))
    base.rename(tmp_path / "elsewhere")
    with pytest.raises(
        ModelError, match=r"adapter: an adapter \(LoRA\) of .*base, which can't be loaded(?s:.*)elsewhere now"
    ):
        Source(str(tmp_path / "adapter")).load("model", load)


def test_updates_do_not_change_the_name_of_the_input():
    model = tiny_model("wav2vec2-bert")
    add_lora(model, SMALL, base="someone/model")
    assert input_name(model) == "input_features"
