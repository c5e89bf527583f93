"""A folder or name is opened as the kind of model that it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_seq2seq
from trained_folders import ctc_folder

from speechtune.errors import ModelError
from speechtune.models.loading import random_config
from speechtune.models.opening import family_of, model_config_of, open_recogniser
from speechtune.options.table import Settings


@pytest.mark.parametrize(
    ("model_type", "family"),
    [
        ("wav2vec2", "ctc"),
        ("wav2vec2-bert", "ctc"),
        ("hubert", "ctc"),
        ("whisper", "seq2seq"),
        ("speech-encoder-decoder", "seq2seq"),
    ],
)
def test_the_type_tells_the_family(model_type: str, family: str):
    fields = {"model_type": model_type}
    if model_type == "speech-encoder-decoder":
        fields |= {"encoder": {"model_type": "wav2vec2"}, "decoder": {"model_type": "bart"}}  # type: ignore[dict-item]
    assert family_of(random_config(fields)) == family


def test_a_config_is_the_checkpoints_the_named_ones_or_that_of_random_weights(tmp_path: Path):
    one, other = ctc_folder(tmp_path / "one"), ctc_folder(tmp_path / "other", letters="ab")
    assert model_config_of(Settings(model_name_or_path=str(one))).vocab_size == 8
    assert model_config_of(Settings(model_name_or_path=str(one), config_name=str(other))).vocab_size == 5
    assert model_config_of(Settings(model_config={"model_type": "hubert"})).model_type == "hubert"


def test_each_kind_is_opened_by_its_own_recogniser(tmp_path: Path):
    assert open_recogniser(Settings(model_name_or_path=str(ctc_folder(tmp_path / "ctc")))).kind == "ctc"
    whisper = tiny_seq2seq.checkpoint("openai/whisper-small")
    assert open_recogniser(Settings(model_name_or_path=whisper, language="tr")).kind == "seq2seq"


def test_a_model_of_text_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError):
        open_recogniser(Settings(model_name_or_path=str(tmp_path)))
