"""What a run writes down: which scores by which protocol, what was skipped and skipped, and of which model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from reliability.faults import one_nan
from reliability.tiny import MODEL, read_json, read_rows, write_clip, write_corpus, write_manifest
from standins.shards import rows_of, write_tar
from trained_folders import ctc_folder

from speechtune.cli.main import main

CPU = ["--use_cpu", "true", "--precision", "fp32", "--dataloader_num_workers", "0"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), num_train=4, num_test=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ctc_folder(tmp_path_factory.mktemp("model") / "run", letters="abcdefgiklnortuyz")


def evaluated(model: Path, corpus: Path, out: Path, *more: str) -> dict[str, Any]:
    argv = ["evaluate", str(model), "--dataset_name", str(corpus), "--output_dir", str(out), *CPU, *more]
    assert main(argv) == 0
    return read_json(out / "eval_results.json")


# ---- scores


def test_each_score_file_says_by_which_protocol(model: Path, corpus: Path, tmp_path: Path):
    default = evaluated(model, corpus, tmp_path / "a")["protocol"]
    readme = evaluated(model, corpus, tmp_path / "b", "--protocol", "readme", "--max_duration_in_seconds", "7")
    assert (default["name"], default["filters"], default["skipped"]) == ("default", {}, 0)
    assert readme["protocol"]["filters"] == {"min_duration_s": 0.0, "max_duration_s": 7.0}
    assert default["hash"] != readme["protocol"]["hash"] and default["padding"] == "invariant"


def test_clips_that_the_protocol_excludes_are_counted_and_listed(model: Path, tmp_path: Path):
    corpus = tmp_path / "corpus"
    for name, duration_s in (("short", 0.3), ("long", 0.9)):
        write_clip(corpus / f"{name}.wav", duration_s, seed=1)
    write_manifest(corpus, "test", [{"audio": f"{name}.wav", "text": "bir"} for name in ("short", "long")])
    readme = ["--protocol", "readme", "--max_duration_in_seconds", "0.5"]
    results = evaluated(model, corpus, tmp_path / "out", *readme)
    assert (results["eval_samples"], results["protocol"]["skipped"]) == (1, 1)
    (row,) = read_rows(tmp_path / "out" / "skipped.jsonl")
    assert (row["split"], row["reason"]) == ("test", "too_long") and row["file"].endswith("long.wav")


def test_a_recording_found_broken_while_evaluating_is_listed_and_not_scored(model: Path, tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus", num_train=1, num_test=3)
    one_nan(corpus / "test" / "001.wav")
    results = evaluated(model, corpus, tmp_path / "out", "--max_skipped", "0.5")
    assert (results["eval_samples"], results["protocol"]["skipped"]) == (2, 1)
    (row,) = read_rows(tmp_path / "out" / "skipped.jsonl")
    assert row["reason"] == "non_finite" and row["file"].endswith("001.wav")
    assert all("001" not in said["file"] for said in read_rows(tmp_path / "out" / "hypotheses.jsonl"))


def test_scores_do_not_depend_on_the_batch(model: Path, corpus: Path, tmp_path: Path):
    found = []
    for size in ("1", "2"):
        evaluated(model, corpus, tmp_path / size, "--per_device_eval_batch_size", size)
        found.append((tmp_path / size / "hypotheses.jsonl").read_bytes())
    assert found[0] == found[1]


def test_a_stream_is_scored_as_the_table_of_the_same_shards(model: Path, tmp_path: Path):
    (tmp_path / "shards").mkdir()
    write_tar(tmp_path / "shards" / "test-0.tar", rows_of(0))
    table = evaluated(model, tmp_path / "shards", tmp_path / "table")
    stream = evaluated(model, tmp_path / "shards", tmp_path / "stream", "--streaming")
    assert table["scores"] == stream["scores"] and stream["eval_samples"] == 7
    texts = [
        sorted((row["reference"], row["hypothesis"]) for row in read_rows(tmp_path / name / "hypotheses.jsonl"))
        for name in ("table", "stream")
    ]
    assert texts[0] == texts[1]


def test_a_stream_of_which_nothing_can_be_used_is_an_error_and_no_score(
    model: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "shards").mkdir()
    monkeypatch.setattr("standins.shards.audio_bytes", lambda key: b"no audio")
    write_tar(tmp_path / "shards" / "test-0.tar", rows_of(0))
    argv = ["evaluate", str(model), "--dataset_name", str(tmp_path / "shards"), "--output_dir", str(tmp_path / "out")]
    assert main([*argv, "--streaming", *CPU]) == 2
    assert "Nothing is left to use" in capsys.readouterr().err
    assert not (tmp_path / "out" / "eval_results.json").exists()
    assert len(read_rows(tmp_path / "out" / "skipped.jsonl")) == len(rows_of(0))


# ---- a training


def test_a_training_says_what_was_trained_on_what(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    argv = ["train", "--model_config", json.dumps({**MODEL, "num_hidden_layers": 1}), "--dataset_name", str(corpus)]
    argv += ["--output_dir", str(out), "--num_train_epochs", "1", "--per_device_train_batch_size", "2", *CPU]
    assert main([*argv, "--mask_time_prob", "0", "--eval_metrics", "per"]) == 0
    settings, results, training = (
        read_json(out / f"{name}.json") for name in ("settings", "eval_results", "train_results")
    )
    assert settings["model"]["type"] == "wav2vec2" and settings["corpus"] == {"name": corpus.name, "language": None}
    assert settings["protocol"] == results["protocol"]
    assert (training["train_samples"], training["skipped_steps"], results["epoch"]) == (4, 0, 1.0)
    assert set(results["scores"]) == {"wer", "cer", "per"}
    assert (out / "skipped.jsonl").read_bytes() == b"" and not (out / "bad_steps.jsonl").exists()
    assert not (out / "tmp-model").exists()
    said = capsys.readouterr().err
    assert f"report: {out / 'report.html'}" in said and "train 4 utterances" in said


def test_an_evaluation_alone_has_no_epoch_and_writes_no_model(model: Path, corpus: Path, tmp_path: Path):
    results = evaluated(model, corpus, tmp_path / "out")
    assert "epoch" not in results and results["model"] == str(model)
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")) == [
        "all_results.json",
        "eval_results.json",
        "hypotheses.jsonl",
        "report.html",
        "skipped.jsonl",
    ]


def test_the_results_of_a_training_are_also_in_one_file(corpus: Path, tmp_path: Path):
    out = tmp_path / "out"
    argv = ["train", "--model_config", json.dumps({**MODEL, "num_hidden_layers": 1}), "--dataset_name", str(corpus)]
    argv += ["--output_dir", str(out), "--max_steps", "1", *CPU, "--mask_time_prob", "0"]
    assert main(argv) == 0
    everything, training, evaluation = (read_json(out / f"{name}_results.json") for name in ("all", "train", "eval"))
    assert everything["train_loss"] == training["train_loss"] and everything["eval_wer"] == evaluation["eval_wer"]


def test_an_evaluation_says_nothing_of_trained_parameters(model: Path, corpus: Path, tmp_path: Path, capsys: Any):
    evaluated(model, corpus, tmp_path / "out")
    said = capsys.readouterr().err
    assert "M parameters; float32" in said and "trained" not in said


def test_an_evaluation_in_half_precision_is_that_of_the_training(corpus: Path, tmp_path: Path):
    """Also where no training has prepared the model."""
    half = ["--use_cpu", "true", "--precision", "bf16", "--dataloader_num_workers", "0"]
    argv = ["train", "--model_config", json.dumps({**MODEL, "num_hidden_layers": 1}), "--dataset_name", str(corpus)]
    assert main([*argv, "--output_dir", str(tmp_path / "run"), "--max_steps", "1", *half, "--mask_time_prob", "0"]) == 0
    losses = [read_json(tmp_path / "run" / "eval_results.json")["eval_loss"]]
    for name, more in (("half", half), ("full", CPU)):
        evaluated(tmp_path / "run", corpus, tmp_path / name, *more)
        losses.append(read_json(tmp_path / name / "eval_results.json")["eval_loss"])
    assert losses[0] == losses[1] != losses[2]


def test_a_model_that_is_not_finite_is_no_result(corpus: Path, tmp_path: Path, capsys: Any, monkeypatch: Any):
    from speechtune.training.trainer import SpeechTrainer

    train_from = SpeechTrainer.train_from

    def ruined(self: Any, checkpoint: Path | None) -> Any:
        metrics = train_from(self, checkpoint)
        self.recogniser.model.lm_head.bias.data[0] = float("nan")
        return metrics

    monkeypatch.setattr(SpeechTrainer, "train_from", ruined)
    argv = ["train", "--model_config", json.dumps({**MODEL, "num_hidden_layers": 1}), "--dataset_name", str(corpus)]
    assert main([*argv, "--output_dir", str(tmp_path / "out"), "--max_steps", "1", *CPU, "--mask_time_prob", "0"]) == 2
    assert "lm_head.bias has values that are NaN or infinite" in capsys.readouterr().err
    assert not (tmp_path / "out" / "model.safetensors").exists()
