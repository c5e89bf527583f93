"""Recordings become text: long ones in pieces without a sample lost; one that can't be read doesn't stop the others."""

from __future__ import annotations

import json
from pathlib import Path

import audio_files
import numpy as np
import pytest
import tiny_seq2seq
import torch
from trained_folders import ctc_folder

from speechtune.cli.main import main
from speechtune.decoding.transcribe import Transcriber
from speechtune.errors import AudioError

RATE = 16_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(ctc_folder(tmp_path_factory.mktemp("model") / "run"))


@pytest.fixture(scope="module")
def transcriber(model: str) -> Transcriber:
    return Transcriber(model, device="cpu")


def clip(folder: Path, name: str, seed: int = 0, duration_s: float = 0.8) -> str:
    return str(audio_files.write(folder / name, audio_files.voice(duration_s, RATE, seed=seed), RATE))


# ---- text


def test_a_recording_is_what_plain_transformers_makes_of_it(model: str, transcriber: Transcriber, tmp_path: Path):
    from transformers import AutoModelForCTC, AutoProcessor

    samples = audio_files.voice(1.3, RATE, seed=3)
    path = str(audio_files.write(tmp_path / "a.wav", samples, RATE))
    processor = AutoProcessor.from_pretrained(model)
    rounded = np.rint(samples * 32768).astype(np.float32) / 32768
    with torch.no_grad():
        inputs = processor(rounded, sampling_rate=RATE, return_tensors="pt")
        ids = AutoModelForCTC.from_pretrained(model)(inputs.input_values).logits.argmax(-1)
    expected = " ".join(processor.batch_decode(ids)[0].split())
    assert expected and transcriber(path) == expected


def test_bytes_are_a_recording_too_and_other_rates_are_resampled(transcriber: Transcriber, tmp_path: Path):
    data = audio_files.encode(audio_files.voice(1.0, 44_100), 44_100, "flac")
    (tmp_path / "a.bin").write_bytes(data)
    assert transcriber(data) == transcriber(str(tmp_path / "a.bin"))


@pytest.mark.parametrize("num_samples", [1, 100, 399])
def test_a_recording_too_short_for_a_frame_is_no_error(transcriber: Transcriber, num_samples: int):
    data = audio_files.encode(np.full(num_samples, 0.1, np.float32), RATE, "wav")
    assert transcriber(data) == ""


def test_silence_is_no_error(transcriber: Transcriber):
    assert isinstance(transcriber(audio_files.encode(np.zeros(RATE, np.float32), RATE, "wav")), str)


def test_what_is_no_audio_is_an_error_of_its_own(transcriber: Transcriber, tmp_path: Path):
    with pytest.raises(AudioError, match="no such file"):
        transcriber(str(tmp_path / "none.wav"))
    with pytest.raises(AudioError, match="is empty"):
        transcriber(b"")


# ---- the command


def lines_of(text: str) -> list[str]:
    return text.splitlines()


def test_one_file_is_printed_bare_and_several_with_their_names(
    model: str, transcriber: Transcriber, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    one, other = clip(tmp_path, "a b.wav", 1), clip(tmp_path, "ç.flac", 2)
    assert main(["transcribe", model, one]) == 0
    assert capsys.readouterr().out == transcriber(one) + "\n"
    assert main(["transcribe", model, other, one]) == 0
    assert lines_of(capsys.readouterr().out) == [f"{other}\t{transcriber(other)}", f"{one}\t{transcriber(one)}"]


def test_an_unreadable_file_is_named_and_the_others_go_on(
    model: str, transcriber: Transcriber, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    good, torn = clip(tmp_path, "good.wav"), tmp_path / "torn.wav"
    torn.write_bytes(Path(good).read_bytes()[:2000])
    missing = str(tmp_path / "none.wav")
    assert main(["transcribe", model, missing, str(torn), good]) == 2
    said = capsys.readouterr()
    assert lines_of(said.out) == [f"{good}\t{transcriber(good)}"]
    about_missing, about_torn = lines_of(said.err)
    assert about_missing == f"{missing}: no such file." and about_torn.startswith(f"{torn}: is cut short")


def test_json_is_an_object_a_line_even_for_one_file(
    model: str, transcriber: Transcriber, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = clip(tmp_path, 'ş"\t.wav')
    assert main(["transcribe", model, "--json", path]) == 0
    (line,) = lines_of(capsys.readouterr().out)
    assert json.loads(line) == {"file": path, "text": transcriber(path)} and "ş" in line


def test_foreign_text_never_reaches_the_terminal_as_orders(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from safetensors.torch import load_file, save_file

    folder = ctc_folder(tmp_path / "run", letters=["\x1b]0;x\x07"])  # type: ignore[arg-type]
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.bias"][1] = 1e3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    path, missing = clip(tmp_path, "a\x1b[2J\n.wav"), str(tmp_path / "none\x9b2J.wav")
    assert main(["transcribe", str(folder), path, path]) == 0
    (line, again) = lines_of(capsys.readouterr().out)
    assert line == again == f"{tmp_path}/a[U+001B][2J[U+000A].wav\t[U+001B]]0;x[U+0007]"
    assert main(["transcribe", str(folder), path]) == 0
    assert capsys.readouterr().out == "[U+001B]]0;x[U+0007]\n"
    assert main(["transcribe", str(folder), "--json", path, missing]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out) == {"file": path, "text": "\x1b]0;x\x07"}
    assert not {"\x1b", "\x07", "\x9b"} & set(said.out + said.err)


def test_a_language_of_adapters_is_chosen_and_another_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from safetensors.torch import load_file, save_file

    folder = str(ctc_folder(tmp_path / "mms", letters="abc", languages=("tur", "swe")))
    path = clip(tmp_path, "a.wav")
    for language, letter in (("tur", "a"), ("swe", "c")):
        adapters = load_file(f"{folder}/adapter.{language}.safetensors")
        adapters["lm_head.bias"]["|abc".index(letter)] = 1e3  # each language's head says one letter throughout
        save_file(adapters, f"{folder}/adapter.{language}.safetensors", metadata={"format": "pt"})
    for language, letter in (("tur", "a"), ("swe", "c")):
        assert main(["transcribe", folder, path, "--target_language", language]) == 0
        assert capsys.readouterr().out == letter + "\n"
    assert main(["transcribe", folder, path, "--target_language", "deu"]) == 2
    assert "no adapters for --target_language deu. Its languages: swe, tur." in capsys.readouterr().err


def test_a_short_context_is_refused_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    whisper, path = tiny_seq2seq.checkpoint("openai/whisper-small"), clip(tmp_path, "a.wav")
    words = ["transcribe", whisper, path, "--language", "tr", "--encoder_context", "1"]
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == "" and "--encoder_context 1: this model is not tuned for a short context" in said.err
    assert main([*words, "--force"]) == 0
    said = capsys.readouterr()
    assert len(lines_of(said.out)) == 1 and "with 1 s it may repeat itself (--force)" in said.err


def test_a_model_that_is_not_there_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["transcribe", str(tmp_path / "none"), clip(tmp_path, "a.wav")]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(f"{tmp_path / 'none'}: no such folder")
