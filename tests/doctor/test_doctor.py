"""The doctor says what training would do with a corpus, and why; it decides nothing that training doesn't."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import audio_files
import numpy as np
import pytest

from speechtune.doctor.checks import deleted_characters, duration_histogram, find_outliers, shared
from speechtune.doctor.doctor import run
from speechtune.errors import CorpusError, OutputError
from speechtune.options.parse import parse_options
from speechtune.text.normalise import Normaliser, ReadmeNormaliser


class Corpus:
    """A manifest under construction: `add` rows, then `see` what the doctor says."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.rows: dict[str, list[str]] = {"train": [], "test": []}

    def add(
        self, split: str, text: str, *, speaker: str = "", seconds: float = 1.0, rate: int = 16000, samples: Any = None
    ) -> Path:
        clip = self.folder / "clips" / f"{split}{len(self.rows[split])}.wav"
        audio_files.write(clip, audio_files.voice(seconds, rate) if samples is None else samples, rate)
        self.rows[split].append(json.dumps({"audio": f"clips/{clip.name}", "text": text, "speaker": speaker}))
        return clip

    def fill(self, number: int = 40, **more: Any) -> Corpus:
        for index in range(number):
            self.add("train", f"bir iki {'üçdörtbeş'[index % 9]}", speaker=f"s{index}", **more)
        self.add("test", "iki bir", speaker="t")
        return self

    def see(self, *words: str, code: int = 0) -> str:
        for split, rows in self.rows.items():
            (self.folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
        argv = ["--dataset_name", str(self.folder), "--train_split_name", "train", *words]
        assert run(parse_options(argv, command="doctor", prog="speechtune doctor")) == code
        return self.capsys.readouterr().out


@pytest.fixture
def corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Corpus:
    return Corpus(tmp_path / "corpus", capsys)


def test_a_healthy_corpus_is_counted_and_training_would_begin(corpus: Corpus):
    output = corpus.fill(seconds=1.5).see()
    facts = [line.split()[-2] for line in output.splitlines()[4:15]]
    assert facts == ["train", "40", "0.02", "1.5", "1.5", "1.5", "40", "120", "0", "0", "40"]
    assert "WAV, 16,000 Hz, 1 channel" in output
    assert output.splitlines()[-1] == "Training would begin: 40 utterances, 0.02 h; scored on 1."


def test_what_training_leaves_out_is_named_with_its_reason_and_written(corpus: Corpus, tmp_path: Path):
    corpus.fill(60)
    corpus.add("train", "uzun", seconds=21)
    corpus.add("train", "!", seconds=1)
    corpus.add("train", "bir " * 20, seconds=0.5)
    corpus.add("train", "kesik").write_bytes(b"RIFF")
    output = corpus.see("--output_dir", str(tmp_path / "out"), "--chars_to_ignore", "!")
    for reason in ("too long", "with an empty transcript", "with fewer frames than labels", "undecodable"):
        assert reason in output
    assert "Training would begin: 60 utterances" in output
    rows = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    reasons = ["empty_transcript", "fewer_frames_than_labels", "too_long", "truncated"]
    assert sorted(row["reason"] for row in rows) in (reasons, [*reasons[:3], "undecodable"])
    assert all(row["split"] == "train" and row["file"].endswith(".wav") for row in rows)


def test_frames_are_those_of_the_model_given(corpus: Corpus, tmp_path: Path):
    from trained_folders import ctc_folder

    corpus.fill()
    corpus.add("train", "üç dört beş bir", seconds=0.5)  # 24 frames of 20 ms, 6 of the adapter's 80 ms and more
    folder = ctc_folder(tmp_path / "model")
    assert "fewer frames" not in corpus.see("--model_name_or_path", str(folder))
    config = json.loads((folder / "config.json").read_text())
    config |= {"add_adapter": True, "num_adapter_layers": 2, "adapter_stride": 2, "adapter_kernel_size": 3}
    (folder / "config.json").write_text(json.dumps(config))
    assert "with fewer frames than labels" in corpus.see("--model_name_or_path", str(folder))


def test_whisper_has_no_frames_but_longest_labels(corpus: Corpus, tmp_path: Path):
    from standins.whisper import build_whisper

    corpus.fill()
    corpus.add("train", "bir " * 500, seconds=1)
    (tmp_path / "model").mkdir()
    build_whisper(tmp_path / "model")
    output = corpus.see("--model_name_or_path", str(tmp_path / "model"))
    assert "with more labels than the decoder takes" in output


def test_too_much_left_out_is_exit_code_2_as_training_would(corpus: Corpus):
    for index in range(10):
        corpus.add("train", "" if index < 3 else f"bir {index}")
    corpus.add("test", "bir")
    output = corpus.see(code=2)
    assert "Training would stop: train: skipped 3 of 10 utterances" in output
    assert "3 of 10 can't be used, over --max_skipped 0.05" in output
    assert "Training would begin" in corpus.see("--max_skipped", "0.5")


def test_no_text_at_all_is_exit_code_2(corpus: Corpus):
    corpus.add("train", "!!")
    corpus.add("test", "bir")
    assert "Training would stop: corpus, train: no character is left" in corpus.see("--chars_to_ignore", "!", code=2)


def test_a_split_that_is_not_there_is_a_message(corpus: Corpus):
    with pytest.raises(CorpusError, match="no split 'dev'"):
        corpus.fill().see("--eval_split_name", "dev")


def test_what_both_splits_share_is_said(corpus: Corpus):
    corpus.fill()
    corpus.add("test", "Bir iki ü", speaker="s7")
    output = corpus.see()
    assert "sentences in both splits: 1, in 1 of 2 evaluation utterances (50.0 %)" in output
    assert "speakers in both splits: 1, in 1 of 2 evaluation utterances (50.0 %)" in output
    assert "recordings in both" not in output
    corpus.rows["test"].append(corpus.rows["train"][0])
    assert "recordings in both splits: 1, in 1 of 3" in corpus.see()


def test_recordings_with_the_same_bytes_are_named_those_with_different_transcripts_first(corpus: Corpus):
    for n in range(4):
        corpus.add("train", f"bir {n}", seconds=1 + n / 10, speaker=f"s{n}")
    first = corpus.add("train", "iki", seconds=0.7)
    copy = corpus.add("test", "üç", seconds=0.7)
    output = corpus.see("--max_skipped", "1")
    assert (
        "recordings with the same bytes: 1, in 2 utterances; 1 of them with different transcripts; 1 in both" in output
    )
    assert f"first: {first} (iki) = {copy} (üç)" in output
    copy.write_bytes(copy.read_bytes()[:-2] + b"\1\1")  # as long, but not the same
    assert "same bytes" not in corpus.see()


def suggested(output: str) -> list[str]:
    """The words after `speechtune train` in the command that was suggested; training understands them."""
    line = next(line for line in output.splitlines() if line.startswith("  speechtune train"))
    words = shlex.split(line)[2:]
    parse_options(words, command="train", prog="speechtune train")
    return words


def test_a_command_to_train_with_is_suggested_from_what_was_found(corpus: Corpus):
    corpus.fill(10)
    corpus.add("train", "bir - iki?")
    words = suggested(corpus.see("--language", "turkish", "--eval_split_name", "test"))
    assert words[:2] == ["--model_name_or_path", "openai/whisper-small"]
    assert words[words.index("--chars_to_ignore") + 1 : words.index("--output_dir")] == ["-", "?"]
    assert words[words.index("--language") + 1] == "tr" and words[words.index("--train_split_name") + 1] == "train"
    assert "--max_duration_in_seconds" not in words and "--corrections" not in words and words[-1] == "runs/corpus"
    for _ in range(2):
        corpus.add("train", "bir iki", seconds=25.0)
    assert "--max_duration_in_seconds 30" in " ".join(suggested(corpus.see("--max_skipped", "1")))


def test_the_page_holds_what_the_terminal_shows_and_strangers_text_stays_text(corpus: Corpus, tmp_path: Path):
    corpus.fill(0)
    for text in ("<script>alert(1)</script> \u202e", "another"):
        corpus.add("train", text, seconds=2.0)
    corpus.add("train", "uzun", seconds=25.0)
    output = corpus.see("--output_dir", str(tmp_path / "out"), "--max_skipped", "1")
    page = (tmp_path / "out" / "doctor.html").read_text("utf-8")
    assert f"the same with recordings: {tmp_path / 'out' / 'doctor.html'}" in output
    for text in ("Training would begin: 2 utterances", "Worth checking", "too long", "speechtune train", "16,000 Hz"):
        assert text in page
    assert page.count("<script") == 3 and "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "\u202e" not in page


def test_an_evaluation_of_nothing_but_training_recordings_stops_training(corpus: Corpus):
    corpus.fill()
    corpus.rows["test"] = corpus.rows["train"][:2]
    output = corpus.see(code=2)
    assert (
        "Training would stop: --eval_split_name test: all 2 of its recordings are also in the training data" in output
    )


def test_characters_that_only_the_evaluation_has_and_rare_ones_are_named(corpus: Corpus):
    corpus.fill()
    corpus.add("test", "quiz")
    output = corpus.see()
    assert (
        "evaluation text: 3 characters are not in the vocabulary, so always wrong: q (U+0071, LATIN SMALL LETTER Q) x1"
        in output
    )
    assert "characters occur fewer than 5 times:" in output


def test_characters_that_a_given_tokenizer_lacks_are_named(corpus: Corpus, tmp_path: Path):
    from trained_folders import ctc_folder

    folder = ctc_folder(tmp_path / "model", letters="birkü")
    output = corpus.fill().see("--tokenizer_name_or_path", str(folder))
    assert "train text: 6 characters are not in the vocabulary, so always wrong" in output


def test_letters_and_digits_lost_to_the_readme_protocol_are_named(corpus: Corpus):
    corpus.fill()
    corpus.add("train", "1994'te")
    words = ("--chars_to_ignore", ",", "?", ".", "!", "-", ";")
    assert "normalisation deletes letters, digits or apostrophes: " in corpus.see("--protocol", "readme", *words)
    assert "normalisation deletes" not in corpus.see(*words)


def test_signs_that_would_be_learnt_are_named(corpus: Corpus):
    corpus.fill()
    corpus.add("train", "nedir? don't")
    assert (
        "signs that are learnt as letters unless in --chars_to_ignore: ? (U+003F, QUESTION MARK) x1\n" in corpus.see()
    )


def test_silent_clipped_and_narrow_audio_is_found_in_the_sample(corpus: Corpus):
    corpus.fill(rate=8000)
    for split in ("train", "test"):
        corpus.add(split, "bir", samples=np.zeros(16000, np.float32))
        corpus.add(split, "iki", samples=np.sign(audio_files.voice(1.0, 16000)))
    output = corpus.see()
    assert output.splitlines()[-1] == "Training would begin: 40 utterances, 0.01 h; scored on 3."
    assert "/train40.wav: is silent: " in output and "/train41.wav: is clipped: " in output
    assert "evaluation: of 3 decoded recordings 1 silent, 1 clipped; first: " in output
    assert "train: 40 of 42 recordings are below 16 kHz" in output


@pytest.mark.parametrize("max_decoded", [200, 4])
def test_a_corpus_of_nothing_but_broken_audio_stops_training(
    max_decoded: int, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("speechtune.doctor.checks.MAX_DECODED", max_decoded)
    samples = np.full(16000, np.nan, np.float32)
    for _ in range(40):
        audio_files.write(corpus.add("train", "bir"), samples, 16000, subtype="FLOAT")
    corpus.add("test", "iki")
    output = corpus.see(code=2)
    estimated = "" if max_decoded > 40 else "estimated from 4 decoded recordings, "
    assert f"Training would stop: {estimated}train: skipped 40 of 40 utterances (100.0%, " in output
    assert "Nothing is left to use." in output and "Training would begin" not in output


def test_an_output_folder_that_can_not_be_written_is_one_message(corpus: Corpus, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file.*can't be written: .*\n.*give another --output_dir"):
        corpus.fill().see("--output_dir", str(tmp_path / "file" / "out"))


def test_a_text_far_too_long_for_its_clip_is_shown(corpus: Corpus):
    corpus.fill(seconds=1.0)
    corpus.add("train", "bir iki " * 6)
    output = corpus.see()
    assert "train: 1 far from the median 9 characters a second" in output
    assert "47.0" in output


def test_strangers_text_is_harmless_on_the_terminal(corpus: Corpus):
    corpus.fill()
    corpus.add("train", "[bold red]\x1b[31mbir\u202e iki" * 4)
    output = corpus.see()
    assert "\x1b" not in output and "\u202e" not in output and "[bold red]" in output


def test_a_corpus_alone_needs_no_torch(corpus: Corpus):
    corpus.fill(2).see()
    program = (
        "import sys; from speechtune.cli.main import main; "
        f"main(['doctor', '--dataset_name', {str(corpus.folder)!r}, '--train_split_name', 'train']); "
        "print([name for name in ('torch', 'transformers', 'datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# ---- the figures


def test_a_duration_belongs_to_the_bin_that_it_begins():
    assert duration_histogram([0.5, 1.0, 1.99, 2.0, 29.9, 30.0, 1000.0, np.nan]) == [1, 2, 1, 0, 0, 0, 0, 0, 0, 1, 2]


def test_shared_counts_values_and_utterances_and_no_empty_ones():
    assert shared(["a", "b", None, ""], ["a", "a", None, "", "c"]) == (1, 2)


def test_outliers_are_farthest_first_and_need_a_usual_speed():
    durations = np.full(30, 2.0, np.float32)
    texts = ["x" * 20] * 28 + ["x" * 100, "x"]
    median, outliers = find_outliers(durations, texts)
    assert median == pytest.approx(10)
    assert outliers == [(29, pytest.approx(0.5)), (28, pytest.approx(50.0))]
    assert find_outliers(durations[:19], texts[11:])[1] == []


def test_outliers_exclude_empty_texts_and_unknown_durations():
    durations = np.array([np.nan] * 20 + [1.0] * 20, np.float32)
    assert find_outliers(durations, ["abc"] * 30 + [""] * 10)[1] == []


def test_deleted_characters_follow_the_protocol():
    ignored = (",", "!", "-", ";")
    texts = ["don't, 1994!"]
    assert deleted_characters(texts, Normaliser(ignored)) == {",": 1, "!": 1}
    assert deleted_characters(texts, ReadmeNormaliser(ignored)) == {",": 1, "!": 1, "'": 1, "1": 1, "9": 2, "4": 1}
