"""A CTC model tells when the words of another model's text are said."""

from __future__ import annotations

import json
from pathlib import Path

import audio_files
import pytest
import tiny_seq2seq
from trained_folders import ctc_folder

from speechtune.cli.main import main
from speechtune.decoding.align import Aligner, Token, _all_words
from speechtune.decoding.transcribe import Transcriber
from speechtune.types import Transcript, Word

RATE = 16_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(ctc_folder(tmp_path_factory.mktemp("m") / "run"))


def token(text: str, *times: float) -> Token:
    return Token(text, Word(text, *times, 0.9) if times else None, True)


def test_words_without_a_place_share_the_time_between_their_neighbours():
    words = _all_words([token("a"), token("b", 1.0, 2.0), token("c"), token("d"), token("e", 3.0, 4.0), token("f")])
    assert [(word.text, word.start_s, word.end_s) for word in words] == [
        *(("a", 1.0, 1.0), ("b", 1.0, 2.0), ("c", 2.0, 2.5), ("d", 2.5, 3.0), ("e", 3.0, 4.0), ("f", 4.0, 4.0))
    ]
    assert [word.confidence for word in words] == [None, 0.9, None, None, 0.9, None]


@pytest.mark.parametrize("rate", [RATE, 8_000])
def test_a_text_gets_times_and_stays_as_it_is(rate: int, model: str):
    samples = audio_files.voice(3.0, rate, seed=2)
    text = "Abc, de 1994 ab!"
    found = Aligner(model).timed(Transcript(text, file="a.wav", duration_s=3.0), samples, rate)
    assert [word.text for word in found.words] == text.split() and (found.text, found.file) == (text, "a.wav")
    times = [time for word in found.words for time in (word.start_s, word.end_s)]
    assert times == sorted(times) and times[0] >= 0 and times[-1] <= 3.0
    nothing = Transcript("1994", duration_s=3.0)
    assert Aligner(model).timed(nothing, samples, rate) == nothing


def test_whispers_words_are_placed_by_the_aligner(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = Transcript("Abc de, ab!", duration_s=3.0)
    monkeypatch.setattr(Transcriber, "recognise", lambda *args, words, **options: None if words else text)
    path = str(audio_files.write(tmp_path / "a.wav", audio_files.voice(3.0, RATE, seed=2), RATE))
    whisper = tiny_seq2seq.checkpoint("openai/whisper-small")
    options = ["--language", "tr", "--aligner", model, "--format", "json", "-o", str(tmp_path)]
    assert main(["transcribe", whisper, path, *options]) == 0
    segments = json.loads((tmp_path / "a.json").read_text("utf-8"))["segments"]
    words = [word for segment in segments for word in segment["words"]]
    samples = Transcriber(model, device="cpu").load(path)
    expected = Aligner(model).timed(text, samples, RATE).words
    assert len(words) == len(expected) == 3
    assert [word["start_s"] for word in words] == pytest.approx([word.start_s for word in expected], abs=1e-3)


def test_an_aligner_needs_a_format_with_times(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    audio_files.write(tmp_path / "a.wav", audio_files.voice(1.0, RATE), RATE)
    assert main(["transcribe", model, str(tmp_path / "a.wav"), "--aligner", model]) == 2
    assert "--aligner finds the times of words" in capsys.readouterr().err
    assert main(["transcribe", model, str(tmp_path / "a.wav"), "--aligner", model, "--format", "ctm"]) == 0
