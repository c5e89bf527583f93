"""Whole runs on damaged files: each ends with results in which every utterance is accounted for, or with one message.

The readers of tables, archives, shards and recordings have tests of their own (tests/corpora, tests/test_audio.py).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import soundfile as sf
from damage import damaged
from reliability.tiny import MODEL, read_json, read_rows, run, words, write_corpus

from speechtune.data.dataset import SpeechDataset
from speechtune.errors import SpeechtuneError

LONG = bool(os.environ.get("SPEECHTUNE_LONG_TESTS"))
NUM_RUNS = {"audio": 100, "table": 60, "model": 140} if LONG else {"audio": 8, "table": 6, "model": 20}
FORMATS = {"wav": "WAV", "flac": "FLAC", "mp3": "MP3", "ogg": "OGG"}
MODEL_FILES = [
    "config.json",
    "vocab.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "model.safetensors",
]


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Fail where the block takes longer."""

    def ring(number: int, frame: Any) -> None:
        raise AssertionError(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Files of the utterances that came into a batch."""
    files: set[str] = set()
    getitems = SpeechDataset.__getitems__

    def noted(self: SpeechDataset, rows: Any) -> Any:
        batch = getitems(self, rows)
        files.update(said.file for said in batch.utterances)
        return batch

    monkeypatch.setattr(SpeechDataset, "__getitems__", noted)
    return files


def test_damaged_recordings(tmp_path: Path, used: set[str]):
    rng = random.Random("audio")
    corpus = write_corpus(tmp_path / "corpus", num_train=8, num_test=2)
    samples, rate = sf.read(corpus / "train" / "003.wav")
    outcomes = []
    for number in range(NUM_RUNS["audio"]):
        for victim in (2, 5):
            kind = rng.choice(list(FORMATS))
            path = corpus / "train" / f"{victim:03}.wav"  # the name's ending says nothing
            sf.write(path, samples, rate, format=FORMATS[kind])
            path.write_bytes(damaged(path.read_bytes(), rng))
        used.clear()
        output = tmp_path / str(number)
        more = ["--num_train_epochs", "1", "--per_device_train_batch_size", "8", "--save_strategy", "no"]
        with at_most(60):
            assert run(*words(corpus, output, *more, "--max_skipped", "1")) == 0
        skipped = {row["file"] for row in read_rows(output / "skipped.jsonl")}
        files = {str(corpus / "train" / f"{index:03}.wav") for index in range(8)}
        assert files <= used | skipped and not used & skipped
        assert not (output / "bad_steps.jsonl").exists()
        outcomes.append(len(skipped))
        shutil.rmtree(output)
    assert max(outcomes) > 0


@pytest.mark.parametrize("name", ["train.jsonl", "train.csv", "train.tsv"])
def test_damaged_tables(name: str, tmp_path: Path):
    rng = random.Random(name)
    corpus = write_corpus(tmp_path / "corpus", num_train=8, num_test=2)
    if name != "train.jsonl":
        comma = "," if name.endswith("csv") else "\t"
        rows = [f"{row['audio']}{comma}{row['text']}\n" for row in read_rows(corpus / "train.jsonl")]
        (corpus / name).write_text(f"audio{comma}text\n" + "".join(rows))
        (corpus / "train.jsonl").unlink()
    original = (corpus / name).read_bytes()
    outcomes = set()
    for number in range(NUM_RUNS["table"] // 3):
        (corpus / name).write_bytes(damaged(original, rng))
        output = tmp_path / str(number)
        more = ["--num_train_epochs", "1", "--per_device_train_batch_size", "8", "--save_strategy", "no"]
        with at_most(60):
            try:
                assert run(*words(corpus, output, *more, "--max_skipped", "1")) == 0
                outcomes.add("trained")
                assert read_json(output / "train_results.json")["train_samples"] > 0
            except SpeechtuneError as error:
                outcomes.add("message")
                assert str(error)
        shutil.rmtree(output, ignore_errors=True)
    assert outcomes


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_damaged_model_folders(tmp_path: Path):
    rng = random.Random("model")
    corpus = write_corpus(tmp_path / "corpus", num_train=8, num_test=2)
    assert run(*words(corpus, tmp_path / "trained", "--max_steps", "2", "--save_strategy", "no")) == 0
    outcomes = {"scored": 0, "message": 0}
    for number in range(NUM_RUNS["model"]):
        model = tmp_path / f"model-{number}"
        shutil.copytree(tmp_path / "trained", model)
        victim = model / MODEL_FILES[number % len(MODEL_FILES)]
        victim.write_bytes(damaged(victim.read_bytes(), rng))
        argv = ["--model_name_or_path", str(model), "--dataset_name", str(corpus), "--output_dir", f"{model}-out"]
        with at_most(60):
            try:
                assert run(*argv, "--precision", "fp32", "--use_cpu", "true", command="evaluate") == 0
                outcomes["scored"] += 1
                assert read_json(Path(f"{model}-out") / "eval_results.json")["eval_samples"] == 2
            except SpeechtuneError as error:
                outcomes["message"] += 1
                assert str(error)
        shutil.rmtree(model)
    assert outcomes["message"] > 0


@pytest.mark.parametrize("number", range(20 if LONG else 3))
def test_damaged_model_settings_of_the_command(number: int, tmp_path: Path):
    rng = random.Random(number)
    corpus = write_corpus(tmp_path / "corpus", num_train=4, num_test=2)
    (tmp_path / "model.json").write_bytes(damaged(str(MODEL).replace("'", '"').replace("True", "true").encode(), rng))
    argv = words(corpus, tmp_path / "out", "--max_steps", "1", "--save_strategy", "no")
    argv[1] = str(tmp_path / "model.json")
    with at_most(60):
        try:
            assert run(*argv) == 0
        except SpeechtuneError as error:
            assert str(error)
