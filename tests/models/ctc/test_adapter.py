"""A language's adapters: trained alone, saved beside the model, found again by plain transformers."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from trained_folders import ctc_folder

from speechtune.errors import ModelError
from speechtune.models.ctc.adapter import (
    adapter_file,
    freeze_all_but_adapters,
    language_vocabulary,
    prepare_adapter_config,
    save_adapter,
)
from speechtune.models.ctc.tokenizer import ctc_tokenizer

TOKENS = {"unk_token": "[UNK]", "pad_token": "[PAD]", "word_delimiter_token": "|"}
NEW = {"|": 0, "ş": 1, "[UNK]": 2, "[PAD]": 3}


@pytest.fixture
def mms(tmp_path: Path) -> Path:
    return ctc_folder(tmp_path / "mms", languages=("swe", "tur"))


def model_of(folder: Path) -> Any:
    from transformers import AutoModelForCTC

    return AutoModelForCTC.from_pretrained(folder)


def test_only_adapters_and_head_learn(mms: Path):
    model = model_of(mms)
    freeze_all_but_adapters(model)
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learns == {name for name, _ in model.named_parameters() if "adapter_layer" in name or "lm_head" in name}
    assert len(learns) == 2 * 6 + 2  # two layers of a norm and two projections, and the head


def test_saved_adapters_are_what_plain_transformers_loads(mms: Path):
    model = model_of(mms)
    with torch.no_grad():
        for parameter in model._get_adapters().values():
            parameter.add_(0.5)
    assert save_adapter(model, "deu", mms) == mms / "adapter.deu.safetensors"
    assert not list(mms.glob("*.tmp"))
    fresh = model_of(mms)
    fresh.load_adapter("deu")
    for name, parameter in model._get_adapters().items():
        assert torch.equal(fresh._get_adapters()[name], parameter)
    fresh.load_adapter("tur")
    assert not torch.equal(fresh.lm_head.weight, model.lm_head.weight)


def test_saving_again_replaces_the_languages_adapters_alone(mms: Path):
    others = (mms / adapter_file("swe")).read_bytes()
    model = model_of(mms)
    with torch.no_grad():
        model.lm_head.bias.fill_(7)
    save_adapter(model, "tur", mms)
    from safetensors.torch import load_file

    assert load_file(mms / adapter_file("tur"))["lm_head.bias"].tolist() == [7.0] * len(model.lm_head.bias)
    assert (mms / adapter_file("swe")).read_bytes() == others


# ---- config


@pytest.mark.parametrize(("own", "width", "expected"), [(None, None, 16), (None, 8, 8), (4, None, 4), (4, 8, 8)])
def test_a_checkpoints_width_stays_unless_the_user_names_one(own: int | None, width: int | None, expected: int):
    config = SimpleNamespace(model_type="wav2vec2", adapter_attn_dim=own)
    prepare_adapter_config(config, width=width)
    assert config.adapter_attn_dim == expected


def test_a_family_without_adapters_is_named():
    with pytest.raises(ModelError, match="A hubert has no attention adapters"):
        prepare_adapter_config(SimpleNamespace(model_type="hubert"), width=None)


# ---- vocabulary


def nested(folder: Path) -> Any:
    vocabulary = {"swe": {"|": 0, "å": 1, "[UNK]": 2, "[PAD]": 3}}
    return ctc_tokenizer(vocabulary, folder, target_lang="swe", **TOKENS)


def test_without_a_tokenizer_the_language_is_the_only_one():
    assert language_vocabulary(None, "tur", NEW, overwrite=False) == {"tur": NEW}


def test_a_language_is_added_and_the_others_stay(tmp_path: Path):
    found = language_vocabulary(nested(tmp_path), "tur", NEW, overwrite=False)
    assert found == {"swe": {"|": 0, "å": 1, "[UNK]": 2, "[PAD]": 3}, "tur": NEW}


def test_a_language_that_is_known_keeps_its_tokens_unless_told_otherwise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO, "speechtune"):
        kept = language_vocabulary(nested(tmp_path), "swe", NEW, overwrite=False)
    assert "å" in kept["swe"] and "keeps its 4 tokens for swe" in caplog.text
    assert language_vocabulary(nested(tmp_path), "swe", NEW, overwrite=True) == {"swe": NEW}


def test_a_tokenizer_of_one_language_without_a_name_can_not_be_extended(tmp_path: Path):
    flat = ctc_tokenizer(NEW, tmp_path, **TOKENS)
    with pytest.raises(ModelError, match="its vocabulary is not nested by language, so 'tur' can't be added"):
        language_vocabulary(flat, "tur", NEW, overwrite=False)


def test_a_new_language_starts_from_random_adapters_and_head(mms: Path):
    model = model_of(mms)
    before = {name: parameter.clone() for name, parameter in model._get_adapters().items()}
    freeze_all_but_adapters(model)
    after = model._get_adapters()
    assert all(not torch.equal(after[name], before[name]) for name in before if name.endswith(("1.weight", "2.weight")))
    assert not torch.equal(after["lm_head.weight"], before["lm_head.weight"])
    assert all(torch.isfinite(parameter).all() for parameter in after.values())
