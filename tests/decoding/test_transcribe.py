"""Recordings become text: long ones in pieces without a sample lost; one that can't be read doesn't stop the others."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

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


# ---- many recordings, to files


def test_a_folder_becomes_files_of_several_formats_and_is_not_done_again(
    model: str, transcriber: Transcriber, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    one, out = clip(tmp_path / "calls", "a.wav", 1), tmp_path / "out"
    video = clip(tmp_path / "calls/may", "b.webm", 2)
    words = ["transcribe", model, str(tmp_path / "calls"), "-o", str(out), "--format", "txt", "json", "textgrid"]
    assert main(words) == 0
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*.*"))
    assert names == ["a.TextGrid", "a.json", "a.txt", "may/b.TextGrid", "may/b.json", "may/b.txt"]
    whole = json.loads((out / "may/b.json").read_text("utf-8"))
    assert (whole["file"], whole["text"]) == (video, transcriber(video))
    assert " ".join((out / "a.txt").read_text("utf-8").split()) == transcriber(one)
    said = capsys.readouterr()
    assert said.out == "" and f"transcribed 2 recordings, 1.6 s to {out}" in said.err

    (out / "a.txt").write_text("mine")
    (out / "may/b.json").unlink()
    assert main(words) == 0
    assert f"skipped 1 of 2 recordings: done in {out}" in capsys.readouterr().err
    assert (out / "a.txt").read_text() == "mine" and (out / "may/b.json").is_file()


def test_one_bad_recording_is_named_and_counted_and_the_exit_code_says_so(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    clip(tmp_path / "in", "good.wav")
    (tmp_path / "in/bad.mp3").write_bytes(b"no audio" * 100)
    assert main(["transcribe", model, str(tmp_path / "in"), "--output_dir", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path}/in/bad.mp3: " in said
    assert "1 of 2 recordings could not be transcribed: they are named above" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.txt"]


def test_one_recording_is_printed_in_any_format_and_several_in_those_that_can_follow_each_other(
    model: str, transcriber: Transcriber, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    paths = [clip(tmp_path, "a.wav", 1), clip(tmp_path, "b.wav", 2)]
    assert main(["transcribe", model, paths[0], "--format", "tsv"]) == 0
    assert lines_of(capsys.readouterr().out)[0] == "start\tend\ttext"
    assert main(["transcribe", model, *paths, "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in lines_of(capsys.readouterr().out)]
    assert [(row["file"], row["text"]) for row in rows] == [(path, transcriber(path)) for path in paths]
    assert main(["transcribe", model, *paths, "--format", "srt"]) == 2
    assert "--format srt: 2 recordings need a file each.\nGive --output_dir" in capsys.readouterr().err
    assert main(["transcribe", model, paths[0], "--format", "srt", "vtt"]) == 2
    assert "--format srt vtt: only one can be printed." in capsys.readouterr().err


def test_standard_input_is_a_recording(
    model: str, transcriber: Transcriber, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    path = clip(tmp_path, "a.mp3")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(Path(path).read_bytes())))
    assert main(["transcribe", model, "-"]) == 0
    assert capsys.readouterr().out == transcriber(path) + "\n"


def test_steady_noise_is_no_text_unless_everything_is_recognised(model: str):
    noise = 0.1 * np.random.default_rng(0).standard_normal(70 * RATE).astype(np.float32)
    data = audio_files.encode(noise, RATE, "flac")
    assert Transcriber(model, device="cpu")(data) == ""
    assert Transcriber(model, device="cpu", vad="none")(data) != ""


def test_words_have_times_and_make_the_text(transcriber: Transcriber, tmp_path: Path):
    path = clip(tmp_path, "a.wav", 3, duration_s=2.0)
    found = transcriber.transcript(path)
    assert " ".join(word.text for word in found.words) == found.text == " ".join(s.text for s in found.segments)
    times = [time for word in found.words for time in (word.start_s, word.end_s)]
    assert times == sorted(times) and times[0] >= 0 and times[-1] <= found.duration_s == 2.0
    assert all(0 < word.confidence <= 1 for word in found.words if word.confidence is not None)


def test_hot_words_and_a_language_model_reach_transcription(tmp_path: Path):
    """A random model says nothing of the words, so a heavy hot word and a heavy model decide."""
    from speechtune.text.ngrams.arpa import write_arpa
    from speechtune.text.ngrams.build import build_ngrams

    folder, samples = str(ctc_folder(tmp_path / "run")), audio_files.voice(3.0, 16_000, seed=1)
    write_arpa(build_ngrams(["abba", "abba abba"]), tmp_path / "run" / "lm.arpa")
    plain = Transcriber(folder, device="cpu", vad="none").recognise(samples)
    hot = Transcriber(folder, device="cpu", vad="none", hotwords=("decade=60",), num_beams=20).recognise(samples)
    modelled = Transcriber(folder, device="cpu", vad="none", lm="auto", lm_alpha=20.0).recognise(samples)
    assert "decade" in hot.text.split() and "decade" not in plain.text.split()
    assert set(modelled.text.split()) <= {"abba"}
    words = hot.segments[0].words
    assert " ".join(word.text for segment in hot.segments for word in segment.words) == hot.text
    assert all(0 <= word.start_s < word.end_s <= 3.0 and 0 <= (word.confidence or 0) <= 1 for word in words)
