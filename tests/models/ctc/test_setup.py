"""A CTC run's vocabulary, head and config: what is made of the training text, and what the checkpoint brings."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from trained_folders import ctc_folder

from speechtune.errors import ModelError, OptionError, TextError
from speechtune.models.ctc.recogniser import CtcRecogniser
from speechtune.models.ctc.setup import ctc_for_training, load_ctc
from speechtune.models.loading import model_config_of, source_of
from speechtune.options.table import Settings

TINY = {
    "model_type": "wav2vec2",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of |abcde[UNK][PAD]."""
    return ctc_folder(tmp_path_factory.mktemp("model") / "run")


def for_training(out: Path, *, texts: Any = ("ba", "a c"), eval_texts: Any = (), **options: Any) -> CtcRecogniser:
    raw_texts = options.pop("raw_texts", ())
    if "model_name_or_path" not in options:
        options.setdefault("model_config", TINY)
    config = Settings(**{name: str(v) if isinstance(v, Path) else v for name, v in options.items()})
    return ctc_for_training(
        config,
        model_config_of(config),
        vocabulary_texts=texts,
        eval_texts=eval_texts,
        folder=out,
        where="corpus/tr",
        raw_texts=raw_texts,
    )


def tokens_of(recogniser: CtcRecogniser) -> list[str]:
    vocabulary = recogniser.tokenizer.get_vocab()
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    return sorted(vocabulary, key=vocabulary.__getitem__)


def trained_names(recogniser: CtcRecogniser) -> set[str]:
    return {name for name, parameter in recogniser.model.named_parameters() if parameter.requires_grad}


# ---- vocabulary


def test_the_vocabulary_is_made_of_the_training_text_and_kept_in_the_folder(tmp_path: Path):
    recogniser = for_training(tmp_path, eval_texts=["x"])
    assert tokens_of(recogniser) == ["|", "a", "b", "c", "[UNK]", "[PAD]"]
    assert json.loads((tmp_path / "vocab.json").read_text("utf-8")) == recogniser.tokenizer.get_vocab()
    assert recogniser.model.lm_head.out_features == 6 and recogniser.blank == 5
    assert recogniser.model.config.pad_token_id == 5


def test_letters_that_only_the_evaluation_has_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "speechtune"):
        for_training(tmp_path, eval_texts=["xx", "ş a", "qwyzv"])
    assert "evaluation text: 7 characters are not in the vocabulary" in caplog.text
    assert "x (U+0078, LATIN SMALL LETTER X) x2" in caplog.text and "and 2 more" in caplog.text


def test_special_tokens_are_the_users(tmp_path: Path):
    made = for_training(tmp_path, unk_token="<unk>", pad_token="<pad>", word_delimiter_token="_")
    assert tokens_of(made) == ["_", "a", "b", "c", "<unk>", "<pad>"]


def test_phones_are_whole_tokens(tmp_path: Path):
    recogniser = for_training(tmp_path, texts=["tʃ a | b", "a"], phoneme_language="tr")
    assert tokens_of(recogniser) == ["|", "a", "b", "tʃ", "[UNK]", "[PAD]"]
    assert recogniser.words_of("tʃ a | b") == "tʃa b"


def test_no_text_at_all_is_a_message_that_says_what_took_it_away(tmp_path: Path):
    with pytest.raises(TextError, match=r"corpus/tr: no character is left .*\n--chars_to_ignore removed: 'q' \(2"):
        for_training(tmp_path, texts=["", " "], raw_texts=["qq"])
    assert not (tmp_path / "vocab.json").exists()


# ---- head


def test_a_new_vocabulary_gets_a_new_head_and_the_encoder_stays(folder: Path, tmp_path: Path):
    from safetensors.torch import load_file

    recogniser = for_training(tmp_path, model_name_or_path=folder)
    before, after = load_file(folder / "model.safetensors"), recogniser.model.state_dict()
    assert recogniser.model.lm_head.out_features == 6 != before["lm_head.bias"].shape[0]
    kept = [name for name in before if not name.startswith("lm_head")]
    assert kept and all(torch.equal(before[name], after[name]) for name in kept)


def test_a_head_of_the_same_size_is_kept(folder: Path, tmp_path: Path):
    from safetensors.torch import load_file

    recogniser = for_training(tmp_path, model_name_or_path=folder, tokenizer_name_or_path=folder)
    assert torch.equal(recogniser.model.lm_head.weight, load_file(folder / "model.safetensors")["lm_head.weight"])
    assert list(recogniser.encode("e")) == [5] and not (tmp_path / "vocab.json").exists()


def test_a_given_tokenizer_of_another_size_is_the_users_mistake(folder: Path, tmp_path: Path):
    other = ctc_folder(tmp_path / "other", letters="ab")
    with pytest.raises(ModelError, match=r"its head has 8 labels, the tokenizer .* has 5.\nLeave out"):
        for_training(tmp_path / "out", model_name_or_path=folder, tokenizer_name_or_path=other)


def test_a_pretrained_encoder_takes_any_tokenizer(tmp_path: Path):
    tokenizer = ctc_folder(tmp_path / "other", letters="ab")
    recogniser = for_training(tmp_path / "out", tokenizer_name_or_path=tokenizer)
    assert recogniser.model.lm_head.out_features == 5


def test_weights_in_half_precision_are_trained_in_float32(folder: Path, tmp_path: Path):
    from transformers import AutoModelForCTC

    half = ctc_folder(tmp_path / "half")
    AutoModelForCTC.from_pretrained(folder).bfloat16().save_pretrained(half)
    made = for_training(tmp_path / "out", model_name_or_path=half)
    assert {parameter.dtype for parameter in made.model.parameters()} == {torch.float32}
    opened = load_ctc(Settings(model_name_or_path=str(half)))
    assert {parameter.dtype for parameter in opened.model.parameters()} == {torch.float32}


# ---- config


def test_the_users_regularisation_is_written_into_the_models_config(tmp_path: Path):
    options = {"hidden_dropout": 0.25, "mask_time_prob": 0.3, "mask_time_length": 3, "ctc_zero_infinity": True}
    recogniser = for_training(tmp_path, **options)
    assert {name: getattr(recogniser.model.config, name) for name in options} == options
    assert recogniser.zero_infinity is True


def test_more_masked_features_than_there_are_is_said_and_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "speechtune"):
        recogniser = for_training(tmp_path, mask_feature_prob=0.1, mask_feature_length=64)
    assert recogniser.model.config.mask_feature_length == 16
    assert "--mask_feature_length 64: the model has 16 features; using 16" in caplog.text


@pytest.mark.parametrize("freeze", [True, False])
def test_the_feature_encoder_is_frozen_on_request_alone(tmp_path: Path, freeze: bool):
    names = trained_names(for_training(tmp_path, freeze_feature_encoder=freeze))
    of_encoder = {name for name in names if ".feature_extractor." in name}
    assert bool(of_encoder) is not freeze and "lm_head.weight" in names


@pytest.mark.parametrize("padding", ["invariant", "original"])
def test_padding_takes_part_only_where_the_original_is_asked_for(tmp_path: Path, padding: str):
    torch.manual_seed(0)
    group_norm = {**TINY, "feat_extract_norm": "group", "do_stable_layer_norm": False}
    recogniser = for_training(tmp_path, model_config=group_norm, padding=padding)
    model, model_input = recogniser.model.eval(), recogniser.model_input
    samples = torch.randn(1000).numpy()
    alone, padded = (
        model(**{k: torch.from_numpy(v) for k, v in model_input.pad([samples], min_length=n).items()}).logits[0, :2]
        for n in (0, 4000)
    )
    assert torch.allclose(alone, padded, atol=1e-5) is (padding == "invariant")


# ---- adapters of a language


def test_an_adapter_run_trains_adapters_and_head_alone(tmp_path: Path):
    base = ctc_folder(tmp_path / "mms", languages=("swe",))
    recogniser = for_training(tmp_path / "out", model_name_or_path=base, target_language="tur")
    assert tokens_of(recogniser) == ["|", "a", "b", "c", "[UNK]", "[PAD]"]
    assert json.loads((tmp_path / "out" / "vocab.json").read_text("utf-8")).keys() == {"tur"}
    names = trained_names(recogniser)
    assert "lm_head.weight" in names and all("adapter_layer" in name or "lm_head" in name for name in names)
    assert any("adapter_layer" in name for name in names)


def test_an_adapter_run_extends_the_tokenizer_it_is_given(tmp_path: Path):
    base = ctc_folder(tmp_path / "mms", languages=("swe",))
    given = {"model_name_or_path": base, "tokenizer_name_or_path": base}
    recogniser = for_training(tmp_path / "out", target_language="tur", **given)
    nested = json.loads((tmp_path / "out" / "vocab.json").read_text("utf-8"))
    assert set(nested) == {"swe", "tur"} and len(nested["swe"]) == 8
    assert recogniser.tokenizer.target_lang == "tur" and recogniser.model.lm_head.out_features == 6


def test_the_adapters_width_is_the_checkpoints_unless_named(tmp_path: Path):
    base = ctc_folder(tmp_path / "mms", languages=("swe",))
    options = {"model_name_or_path": base, "target_language": "tur"}
    assert for_training(tmp_path / "a", adapter_attn_dim=None, **options).model.config.adapter_attn_dim == 4
    assert for_training(tmp_path / "b", adapter_attn_dim=6, **options).model.config.adapter_attn_dim == 6
    fresh = {"model_config": TINY, "target_language": "tur", "adapter_attn_dim": 6}
    assert for_training(tmp_path / "c", **fresh).model.config.adapter_attn_dim == 6


# ---- a checkpoint as it is


def test_a_trained_folder_is_opened_with_its_own_vocabulary(folder: Path):
    recogniser = load_ctc(Settings(model_name_or_path=str(folder)))
    assert list(recogniser.encode("a e")) == [1, 0, 5] and recogniser.model_input.sampling_rate == 16_000


def test_random_weights_can_not_be_opened():
    with pytest.raises(OptionError, match="can only be trained"):
        load_ctc(Settings(model_config=TINY))


@pytest.mark.parametrize("missing", ["vocab.json", "preprocessor_config.json", "model.safetensors"])
def test_what_a_folder_lacks_is_a_message_with_its_name(missing: str, tmp_path: Path):
    folder = ctc_folder(tmp_path / "run")
    for path in folder.glob("processor_config.json"):
        path.unlink()
    (folder / missing).unlink()
    with pytest.raises(ModelError) as caught:
        load_ctc(Settings(model_name_or_path=str(folder)))
    assert str(caught.value).startswith(f"{folder}: no usable ")


def test_a_model_without_adapters_has_no_languages(folder: Path):
    with pytest.raises(ModelError, match=r"no adapters for --target_language tur\. Its languages: none"):
        load_ctc(Settings(model_name_or_path=str(folder), target_language="tur"))


def test_hub_options_come_along_with_the_name(tmp_path: Path):
    source = source_of(Settings(model_name_or_path="a/b", token="t", model_revision="v2", cache_dir=str(tmp_path)))
    assert source is not None and source.name == "a/b"
    assert source.hub_options == {"cache_dir": str(tmp_path), "revision": "v2", "token": "t"}
    assert source_of(Settings(model_config=TINY)) is None


# ---- the head of a checkpoint


def test_a_head_trained_for_other_letters_starts_from_random_weights(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    before = load_ctc(Settings(model_name_or_path=str(folder))).model.lm_head
    with caplog.at_level(logging.INFO, "speechtune"):
        other = for_training(tmp_path / "other", texts=["xyz wv"], model_name_or_path=folder)
    assert other.model.lm_head.weight.shape == before.weight.shape  # which is why transformers would keep it
    assert not torch.equal(other.model.lm_head.weight, before.weight)
    assert not torch.equal(other.model.lm_head.bias, before.bias) and "head: starts from random weights" in caplog.text


def test_a_head_without_a_tokenizer_starts_from_random_weights(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        shutil.copy(folder / name, bare)
    before = load_ctc(Settings(model_name_or_path=str(folder))).model.lm_head
    with caplog.at_level(logging.INFO, "speechtune"):
        other = for_training(tmp_path / "other", texts=["ab cd e"], model_name_or_path=bare)
    assert other.model.lm_head.weight.shape == before.weight.shape
    assert not torch.equal(other.model.lm_head.weight, before.weight)
    assert "the checkpoint has no tokenizer" in caplog.text


def test_a_head_trained_for_the_same_letters_is_kept(folder: Path, tmp_path: Path):
    before = load_ctc(Settings(model_name_or_path=str(folder))).model.lm_head
    same = for_training(tmp_path / "same", texts=["ab cd e"], model_name_or_path=folder)
    assert torch.equal(same.model.lm_head.weight, before.weight)
