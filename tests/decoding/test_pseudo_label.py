"""Recordings without text become a corpus of what a model is sure of."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import audio_files
import pytest
from trained_folders import ctc_folder

from speechtune.cli.main import main
from speechtune.decoding.transcribe import Transcriber
from speechtune.options.parse import parse_options
from speechtune.plan.resolve import resolve
from speechtune.types import Segment, Transcript, Word

RATE = 16_000
FOUND = [  # text, start, end, confidence
    ("bir iki", 1.0, 3.0, 0.95),
    ("üç dört", 4.0, 6.0, 0.5),
    ("beş altı", 7.0, 9.0, 0.9),
    ("yedi", 9.02, 9.5, 0.9),
]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model that recognises FOUND in everything; asked for a clip, it agrees with one of them."""

    def recognise(self: Any, samples: Any, *, words: bool = True, advance: Any = None) -> Transcript:
        if not words:
            return Transcript("Bir, iki!" if abs(len(samples) / RATE - 2.3) < 0.05 else "on")
        segments = [Segment(t, a, b, (Word(t, a, b, confidence),)) for t, a, b, confidence in FOUND]
        return Transcript("", segments=tuple(segments), duration_s=len(samples) / RATE)

    monkeypatch.setattr(Transcriber, "recognise", recognise)
    audio_files.write(tmp_path / "in/a.wav", audio_files.voice(10.0, RATE), RATE)
    (tmp_path / "in/bad.mp3").write_bytes(b"nothing" * 99)
    return str(ctc_folder(tmp_path / "model"))


def rows_of(folder: Path) -> tuple[list[str], list[tuple[str, str]]]:
    with (folder / "metadata.csv").open(encoding="utf-8") as file:
        texts = [row["transcription"] for row in csv.DictReader(file)]
    dropped = [json.loads(line) for line in (folder / "dropped.jsonl").read_text("utf-8").splitlines()]
    return texts, [(row["text"], row["reason"]) for row in dropped]


def test_what_the_model_is_sure_of_is_kept(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["pseudo-label", model, str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 0
    texts, dropped = rows_of(tmp_path / "out")
    assert texts == ["bir iki", "beş altı yedi"]  # joined: no pause between them
    assert dropped[0] == ("üç dört", "confidence under 0.8") and len(dropped) == 2
    said = capsys.readouterr()
    assert said.out.startswith(f"{tmp_path / 'out'}: 2 clips, ") and "bad.mp3: " in said.err


def test_only_what_a_second_model_recognises_alike_is_kept(model: str, tmp_path: Path):
    words = ["pseudo-label", model, str(tmp_path / "in/a.wav"), "-o", str(tmp_path / "out"), "--second_model", model]
    assert main(words) == 0
    texts, dropped = rows_of(tmp_path / "out")
    assert texts == ["bir iki"]
    assert dropped[1][0] == "beş altı yedi" and dropped[1][1].startswith("the second model disagrees by ")


def test_pseudo_labels_are_a_split_that_the_recipe_trains_on(model: str, tmp_path: Path):
    corpus = tmp_path / "my-recordings"
    for split in ("train", "test"):
        audio_files.write(corpus / split / "a.wav", audio_files.voice(1.0, RATE), RATE)
        (corpus / split / "metadata.csv").write_text("file_name,transcription\na.wav,bir iki\n", "utf-8")
    assert main(["pseudo-label", model, str(tmp_path / "in"), "-o", str(corpus / "pseudo")]) == 0
    recipe = Path(__file__).parents[2] / "recipes/semi-supervised.yaml"
    words = [str(recipe), "--dataset_name", str(corpus), "--model_name_or_path", model]
    plan = resolve(parse_options([*words, "--output_dir", str(tmp_path / "second")], command="train"))
    assert plan.train is not None and (plan.train.name, plan.train.num_utterances) == ("train+pseudo", 3)
    assert plan.evaluation is not None and plan.evaluation.num_utterances == 1


def test_no_clip_left_is_one_message(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["pseudo-label", model, str(tmp_path / "in/a.wav"), "-o", str(tmp_path / "out")]
    assert main([*words, "--min_confidence", "0.99"]) == 2
    assert "No clip is left of 3. A lower --min_confidence (now 0.99) keeps more." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
