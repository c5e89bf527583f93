"""The faults of test_faults.py, a kill and two processes, for a sequence-to-sequence model."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from reliability.faults import change_row, poison, spoil
from reliability.forks import ForkServer, read_seen
from reliability.tiny import assert_same_weights, losses, read_json, read_rows, run, weights
from standins.models import stand_in


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in(tmp_path_factory.mktemp("home"), "openai/whisper-small")


def words(whisper: Path, corpus: Path, output: Path, *more: str) -> list[str]:
    """One epoch of three steps; a short context, so that it is quick."""
    return [
        *("--model_name_or_path", str(whisper), "--encoder_context", "0.5", "--force", "true"),
        *("--dataset_name", str(corpus), "--train_split_name", "train", "--output_dir", str(output)),
        *("--num_train_epochs", "1", "--per_device_train_batch_size", "4", "--learning_rate", "1e-3"),
        *("--save_steps", "2", "--logging_steps", "1", "--dataloader_num_workers", "0", "--language", "turkish"),
        *("--precision", "fp32", "--use_cpu", "true", "--generation_max_length", "8"),
        *more,
    ]


def test_bad_recordings_and_transcripts_are_skipped_and_named(whisper: Path, corpus: Path, tmp_path: Path):
    spoil(corpus, "train", 1, "one_nan")
    spoil(corpus, "train", 2, "silent")
    spoil(corpus, "train", 3, "random_bytes")
    change_row(corpus, "train", 4, text="")
    change_row(corpus, "train", 5, text="uzun " * 120)
    spoil(corpus, "test", 1, "one_nan")
    spoil(corpus, "test", 2, "silent")
    change_row(corpus, "test", 3, text="")
    output = tmp_path / "out"
    assert run(*words(whisper, corpus, output, "--max_skipped", "0.5")) == 0
    rows = read_rows(output / "skipped.jsonl")
    assert sorted((row["split"], Path(row["file"]).name, row["reason"]) for row in rows) == [
        ("test", "001.wav", "non_finite"),
        ("train", "001.wav", "non_finite"),
        ("train", "002.wav", "silent"),
        ("train", "003.wav", "undecodable"),
        ("train", "004.wav", "empty_transcript"),
        ("train", "005.wav", "too_many_labels"),
    ]  # fmt: skip
    found = losses(output)
    assert len(found) == 3 and all(math.isfinite(loss) and loss > 0 for loss in found)
    results = read_json(output / "eval_results.json")
    assert results["eval_samples"] == 3 and math.isfinite(results["eval_loss"])
    assert all(bool(tensor.isfinite().all()) for tensor in weights(output).values())


def test_a_step_with_a_non_finite_loss_is_skipped_and_its_utterance_named(whisper: Path, corpus: Path, tmp_path: Path):
    poison("005", math.nan)
    assert run(*words(whisper, corpus, tmp_path / "out")) == 0
    (row,) = read_rows(tmp_path / "out" / "bad_steps.jsonl")
    assert [Path(entry["file"]).name for entry in row["utterances"]] == ["005.wav"] and row["non_finite"] == "loss"
    assert sum(math.isnan(loss) for loss in losses(tmp_path / "out")) == 1
    assert all(bool(tensor.isfinite().all()) for tensor in weights(tmp_path / "out").values())


def test_killed_the_same_command_ends_with_the_same_weights(
    server: ForkServer, whisper: Path, corpus: Path, tmp_path: Path
):
    cache = {"SPEECHTUNE_CACHE": str(tmp_path / "cache")}
    more = ["--apply_spec_augment", "true", "--num_train_epochs", "2"]
    commands = {name: ["train", *words(whisper, corpus, tmp_path / name, *more)] for name in ("whole", "killed")}
    whole = server.run(commands["whole"], environment=cache, seen=tmp_path / "seen-whole")
    assert whole.code == 0, whole.output
    how = {"environment": cache, "seen": tmp_path / "seen-killed"}
    assert (
        server.run(
            commands["killed"], kill_at=("speechtune.training.trainer:SpeechTrainer.compute_loss", 6), **how
        ).code
        == -9
    )
    again = server.run(commands["killed"], **how)
    assert again.code == 0 and "resuming from" in again.output, again.output
    assert_same_weights(tmp_path / "whole", tmp_path / "killed")
    assert read_seen(tmp_path / "seen-whole") == read_seen(tmp_path / "seen-killed")
    assert read_rows(tmp_path / "whole" / "hypotheses.jsonl") == read_rows(tmp_path / "killed" / "hypotheses.jsonl")


@pytest.mark.long
def test_a_step_does_not_depend_on_the_number_of_processes(
    server: ForkServer, whisper: Path, corpus: Path, tmp_path: Path
):
    cache = {"SPEECHTUNE_CACHE": str(tmp_path / "cache")}
    for processes in (1, 2):
        more = ["--per_device_train_batch_size", str(4 // processes)]
        command = ["train", *words(whisper, corpus, tmp_path / str(processes), *more)]
        ended = server.run(command, processes=processes, environment=cache)
        assert set(ended.codes) == {0}, ended.output
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=1e-5)
    results = [read_json(tmp_path / name / "eval_results.json") for name in ("1", "2")]
    assert results[0]["scores"] == results[1]["scores"]
    assert results[0]["eval_loss"] == pytest.approx(results[1]["eval_loss"], rel=1e-5)
