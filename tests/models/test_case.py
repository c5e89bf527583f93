"""Whether a model writes capital letters: then its transcripts keep their case by default."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_checkpoints import build
from transformers import Wav2Vec2CTCTokenizer

from speechtune.models.case import tells_case, writes_case
from speechtune.models.ctc.pieces import learn_pieces
from speechtune.models.loading import family_of, model_config_of
from speechtune.options.table import Settings


def letters(folder: Path, characters: str) -> Wav2Vec2CTCTokenizer:
    (folder / "vocab.json").write_text(json.dumps({c: i for i, c in enumerate(["[PAD]", "[UNK]", "|", *characters])}))
    return Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), unk_token="[UNK]", pad_token="[PAD]")


@pytest.mark.parametrize(("characters", "expected"), [("ab", False), ("AB", False), ("aA", True), ("Жж", True)])
def test_letters_of_both_cases_are_told_apart(tmp_path: Path, characters: str, expected: bool):
    assert tells_case(letters(tmp_path, characters)) is expected


def test_pieces_of_both_cases_are_told_apart():
    assert tells_case(learn_pieces(["Ali ata bak", "Bak Ali"], 30, where="here"))
    assert not tells_case(learn_pieces(["ali ata bak"], 30, where="here"))


@pytest.mark.parametrize(("new_vocabulary", "expected"), [(None, True), ("bpe:30", False)])
def test_a_model_keeps_its_own_pieces_unless_others_are_learned(
    tmp_path: Path, new_vocabulary: str | None, expected: bool
):
    build(tmp_path, "parakeet_ctc")
    learn_pieces(["Ali ata bak", "Bak Ali"], 24, where="here").save_pretrained(tmp_path)
    settings = Settings(model_name_or_path=str(tmp_path), new_vocabulary=new_vocabulary)
    config = model_config_of(settings)
    assert writes_case(settings, config, family_of(config)) is expected
