"""`speechtune lm build` normalises text as training does; what can't be used is one message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from standins.corpora import write_audio

from speechtune.cli.main import main
from speechtune.text.ngrams.arpa import read_arpa


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    for split, text in {"train": "İyi GÜNLER!", "validation": "üç", "test": "dört"}.items():
        write_audio(folder / "clips" / f"{split}.wav", text, 8_000)
        (folder / f"{split}.csv").write_text(f"audio,text\nclips/{split}.wav,{text}\n", encoding="utf-8")
    return folder


def words(path: Path) -> list[str]:
    return read_arpa(path).words[3:]


def test_a_model_of_files_and_of_a_corpus_training_text(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "more.txt").write_text("Ilık bir gün!\n", "utf-8")
    argv = ["lm", "build", str(tmp_path / "more.txt"), "--dataset_name", str(corpus), "--language", "tr"]
    assert main([*argv, "--chars_to_ignore", "!", "?", "--order", "2", "-o", str(tmp_path / "lm.arpa")]) == 0
    assert words(tmp_path / "lm.arpa") == ["iyi", "günler", "ılık", "bir", "gün"]
    assert "8, 7 n-grams of 1 to 2 words" in capsys.readouterr().out


def test_text_is_normalised_as_a_trained_models(tmp_path: Path):
    settings = {"chars_to_ignore": ["!"], "do_lower_case": False, "language": None, "dataset_name": "elsewhere"}
    (tmp_path / "settings.json").write_text(json.dumps({"plan": {"settings": settings}}))
    (tmp_path / "a.txt").write_text("Bir! gün?\n", "utf-8")
    assert (
        main(["lm", "build", str(tmp_path / "a.txt"), "--model", str(tmp_path), "-o", str(tmp_path / "lm.arpa")]) == 0
    )
    assert words(tmp_path / "lm.arpa") == ["Bir", "gün?"]


def test_a_model_of_characters_has_a_token_for_the_space(tmp_path: Path):
    (tmp_path / "a.txt").write_text("ab a\n", "utf-8")
    assert main(["lm", "build", str(tmp_path / "a.txt"), "--characters", "-o", str(tmp_path / "lm.arpa")]) == 0
    assert words(tmp_path / "lm.arpa") == ["a", "b", "<space>"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-o", "lm.arpa"], "Nothing to read"),
        (["nowhere.txt", "-o", "lm.arpa"], "nowhere.txt: can't be read as text in UTF-8: No such file"),
        (["empty.txt", "-o", "lm.arpa"], "The text has no word"),
        (["empty.txt", "-o", "lm.arpa", "--prune", "1"], "--prune 1: expected at most 4 numbers"),
        (["empty.txt", "-o", "lm.arpa", "--order", "9"], "from 1 to 6, found '9'"),
        (["empty.txt", "-o", "lm.arpa", "--model", "."], "no settings.json of a training"),
        (["empty.txt", "--dataset", "x", "-o", "lm.arpa"], "--dataset: no such option. Nearest: --dataset_name"),
    ],
)
def test_a_mistake_is_one_message(
    argv: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text("\n")
    assert main(["lm", "build", *argv]) == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.txt"]
