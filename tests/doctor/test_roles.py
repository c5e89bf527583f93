"""The limits that a model sets to its utterances, known without its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trained_folders import ctc_folder

from speechtune.doctor.roles import ModelNeeds, model_needs
from speechtune.errors import TextError
from speechtune.models.loading import random_config
from speechtune.options.parse import parse_options


def needs_of(texts: list[str], *words: str, config: Any = None) -> ModelNeeds:
    options = parse_options(["--dataset_name", "c", *words], command="doctor", prog="speechtune doctor")
    return model_needs(options.config, config, "ctc", texts, where="corpus, train", raw_texts=texts)


def test_without_a_model_letters_are_those_of_the_text_and_frames_are_the_usual_ones():
    needs = needs_of(["ba", "a"])
    assert needs.vocabulary == {"|": 0, "a": 1, "b": 2, "[UNK]": 3, "[PAD]": 4}
    assert list(needs.encode("b aç")) == [2, 0, 1, 3]
    frames = needs.frames_of()
    assert frames is not None
    assert [frames(s) for s in (0.0, 0.0249, 0.025, 0.0449, 0.045, 1.0)] == [0, 0, 1, 1, 2, 49]


@pytest.mark.parametrize("duration_s", [0.0, 0.02, 0.025, 0.0449, 0.045, 0.5, 1.0, 19.99])
def test_the_usual_frames_are_those_of_the_usual_model(duration_s: float):
    usual = needs_of(["a"]).frames_of()
    of_model = needs_of(["a"], config=random_config({"model_type": "wav2vec2"})).frames_of()
    assert usual is not None and of_model is not None and usual(duration_s) == of_model(duration_s)


def test_a_model_of_filter_banks_counts_no_frames_beforehand():
    config = random_config({"model_type": "wav2vec2-bert"})
    assert needs_of(["a"], config=config).frames_of() is None


def test_a_given_tokenizers_letters_are_taken(tmp_path: Path):
    folder = ctc_folder(tmp_path / "run", letters="xyz")
    needs = needs_of(["ab"], "--tokenizer_name_or_path", str(folder))
    assert needs.vocabulary is not None and "x" in needs.vocabulary and "b" not in needs.vocabulary
    assert list(needs.encode("xb")) == [1, 4]


def test_no_letters_are_a_message():
    with pytest.raises(TextError, match="corpus, train: no "):
        needs_of(["", " "])
