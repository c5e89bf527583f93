"""A run from its words to its files; what the user can fix is one message and exit code 2, before training."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from reliability.tiny import MODEL, read_json, read_rows, weights, write_clip, write_corpus, write_manifest
from standins.shards import rows_of, write_tar
from trained_folders import ctc_folder

from speechtune.cli.main import main

CPU = ["--use_cpu", "true", "--precision", "fp32", "--dataloader_num_workers", "0"]


def words(corpus: Path | str, out: Path, *more: str) -> list[str]:
    """A training of two steps on a model of one layer."""
    model = json.dumps({**MODEL, "num_hidden_layers": 1, "num_conv_pos_embeddings": 4})
    steps = ["--max_steps", "2", "--per_device_train_batch_size", "2", "--learning_rate", "1e-3"]
    begin = ["--model_config", model, "--dataset_name", str(corpus), "--output_dir", str(out)]
    return ["train", *begin, *steps, *CPU, "--mask_time_prob", "0", *more]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), num_train=6, num_test=3)


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "out"
    assert main(words(corpus, out)) == 0
    return out


def refused(capsys: pytest.CaptureFixture[str], argv: list[str]) -> str:
    """The one message of a command that can't be done."""
    assert main(argv) == 2
    said = capsys.readouterr()
    assert said.out == "" and "Traceback" not in said.err
    return said.err


# ---- what a run leaves


def test_a_run_leaves_model_scores_and_report(trained: Path):
    names = {path.name for path in trained.iterdir()}
    assert {
        "model.safetensors", "config.json", "vocab.json", "preprocessor_config.json", "settings.json",
        "train_results.json", "trainer_state.json", "eval_results.json", "hypotheses.jsonl", "skipped.jsonl",
        "report.html", "README.md",
    } <= names  # fmt: skip
    assert not [name for name in names if name.startswith("tmp")]
    assert read_json(trained / "trainer_state.json")["global_step"] == 2


def test_every_utterance_is_scored_once_and_the_scores_are_theirs(trained: Path, corpus: Path):
    rows, results = read_rows(trained / "hypotheses.jsonl"), read_json(trained / "eval_results.json")
    assert [row["reference"] for row in rows] == [
        json.loads(line)["text"] for line in (corpus / "test.jsonl").read_text("utf-8").splitlines()
    ]
    edits = sum(sum(row["words"][kind] for kind in ("substitutions", "deletions", "insertions")) for row in rows)
    length = sum(len(row["reference"].split()) for row in rows)
    assert results["eval_wer"] == results["scores"]["wer"]["rate"] == edits / length
    assert (results["eval_samples"], results["split"], results["dataset"]) == (3, "test", corpus.name)
    assert math.isfinite(results["eval_loss"]) and results["protocol"]["name"] == "default"


def test_the_trained_folder_is_what_evaluation_and_transcription_take(
    trained: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    before = {path.name: path.stat().st_mtime_ns for path in trained.iterdir()}
    argv = ["evaluate", str(trained), "--dataset_name", str(corpus), "--output_dir", str(tmp_path / "scores"), *CPU]
    assert main(argv) == 0
    again, first = (read_rows(folder / "hypotheses.jsonl") for folder in (tmp_path / "scores", trained))
    assert [row["hypothesis"] for row in again] == [row["hypothesis"] for row in first]
    assert {path.name: path.stat().st_mtime_ns for path in trained.iterdir()} == before
    assert not (tmp_path / "scores" / "model.safetensors").exists()
    capsys.readouterr()
    assert main(["transcribe", str(trained), str(corpus / "test" / "000.wav")]) == 0
    assert capsys.readouterr().out.lower().split() == first[0]["hypothesis"].split()  # which is normalised


def test_the_same_seed_gives_the_same_weights_and_another_does_not(trained: Path, corpus: Path, tmp_path: Path):
    assert main(words(corpus, tmp_path / "same", "--do_eval", "false")) == 0
    assert main(words(corpus, tmp_path / "other", "--do_eval", "false", "--seed", "7")) == 0
    first, same, other = (weights(folder) for folder in (trained, tmp_path / "same", tmp_path / "other"))
    assert all(bool((first[name] == same[name]).all()) for name in first)
    assert not all(bool((first[name] == other[name]).all()) for name in first)
    assert not (tmp_path / "same" / "eval_results.json").exists()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_logged_loss_is_that_of_the_original_script(reduction: str, corpus: Path, tmp_path: Path):
    """One step on all six utterances, which changes no weight: plain transformers computes the same."""
    import torch
    from soundfile import read
    from transformers import AutoModelForCTC, AutoProcessor

    out = tmp_path / "out"
    more = ["--ctc_loss_reduction", reduction, "--max_steps", "1", "--logging_steps", "1", "--learning_rate", "0"]
    assert main(words(corpus, out, *more, "--per_device_train_batch_size", "6", "--do_eval", "false")) == 0
    model, processor = AutoModelForCTC.from_pretrained(out), AutoProcessor.from_pretrained(out)
    rows = [json.loads(line) for line in (corpus / "train.jsonl").read_text("utf-8").splitlines()]
    clips = [read(corpus / row["audio"], dtype="float32")[0] for row in rows]
    inputs = processor(clips, sampling_rate=16_000, return_tensors="pt", padding=True)
    labels = processor.tokenizer([row["text"].lower() for row in rows], return_tensors="pt", padding=True)
    with torch.no_grad():
        loss = model(**inputs, labels=labels.input_ids.masked_fill(labels.attention_mask == 0, -100)).loss.item()
    assert model.config.ctc_loss_reduction == reduction
    (logged,) = [row["loss"] for row in read_json(out / "trainer_state.json")["log_history"] if "loss" in row]
    assert logged == pytest.approx(loss, rel=1e-3)


def test_preprocessing_alone_trains_nothing(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(words(corpus, tmp_path / "out", "--preprocessing_only")) == 0
    said = capsys.readouterr().err
    assert f"{corpus.name}; train 6 utterances, 0.00 h; evaluation 3 utterances" in said and "wav2vec2, 0.0 M" in said
    assert not (tmp_path / "out" / "model.safetensors").exists()
    assert not (tmp_path / "out" / "train_results.json").exists()


def test_the_folder_of_a_run_that_is_done_is_resumed_by_the_same_command_alone(
    trained: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    import shutil

    out = shutil.copytree(trained, tmp_path / "out")
    other = write_corpus(tmp_path / "other", num_train=3, num_test=1)
    assert "in use by another run, with --dataset_name" in refused(capsys, words(other, out))
    before = weights(out)
    assert main(words(corpus, out, "--do_eval", "false")) == 0  # nothing is left to train
    assert all(bool((before[name] == value).all()) for name, value in weights(out).items())


# ---- what can't be done


def test_a_corpus_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    said = refused(capsys, words(tmp_path / "none", tmp_path / "out"))
    assert str(tmp_path / "none") in said
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_split_that_is_not_there(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    said = refused(capsys, words(corpus, tmp_path / "out", "--eval_split_name", "exam"))
    assert "no split 'exam'.\nSplits: " in said


def test_a_column_that_is_not_there(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    said = refused(capsys, words(corpus, tmp_path / "out", "--text_column_name", "sentence"))
    assert "no column 'sentence'" in said and "Try --text_column_name text" in said


def test_a_model_that_is_not_there(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    argv = ["evaluate", str(tmp_path / "none"), "--dataset_name", str(corpus), "--output_dir", str(tmp_path / "out")]
    assert refused(capsys, [*argv, *CPU]).endswith(
        "no such folder, so no config.\nGive a folder that holds a model, or a hub name.\n"
    )


def test_a_model_of_a_type_that_nobody_knows(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    argv = words(corpus, tmp_path / "out", "--model_config", '{"model_type": "wav3vec"}')
    assert "model_type 'wav3vec' is not one that transformers knows" in refused(capsys, argv)


@pytest.mark.parametrize("protocol", ["default", "readme"])
def test_the_vocabulary_has_the_evaluations_letters_in_the_readme_protocol_alone(protocol: str, tmp_path: Path):
    folder, out = tmp_path / "corpus", tmp_path / "out"
    for split, text in (("train", "ab a b"), ("test", "xa b")):
        write_clip(folder / split / "0.wav", 0.5, seed=0)
        write_manifest(folder, split, [{"audio": f"{split}/0.wav", "text": text}])
    assert main(words(folder, out, "--protocol", protocol, "--max_train_samples", "1")) == 0
    assert ("x" in read_json(out / "vocab.json")) is (protocol == "readme")


def test_a_stream_needs_a_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_tar(tmp_path / "train-0.tar", rows_of(0))
    write_tar(tmp_path / "test-0.tar", rows_of(1))
    argv = words(tmp_path, tmp_path / "out", "--streaming")
    assert "needs a tokenizer: give --tokenizer_name_or_path" in refused(capsys, argv)


def test_an_option_that_is_for_models_of_another_kind(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    argv = words(corpus, tmp_path / "out", "--generation_num_beams", "4")
    assert "--generation_num_beams is for sequence-to-sequence models" in refused(capsys, argv)


def test_transcripts_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "corpus"
    for split in ("train", "test"):
        write_clip(folder / split / "0.wav", 0.5, seed=0)
        write_manifest(folder, split, [{"audio": f"{split}/0.wav", "text": "..."}])
    said = refused(capsys, words(folder, tmp_path / "out", "--chars_to_ignore", "."))
    assert "no character is left after normalisation" in said and "--chars_to_ignore removed: '.' (3 times)" in said


def test_a_folder_with_files_of_someone_else(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "thesis.tex").write_text("mine")
    assert "holds files that no run of speechtune wrote (thesis.tex, ...)" in refused(capsys, words(corpus, tmp_path))
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_an_output_folder_that_is_a_file(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "out").write_text("mine")
    assert str(tmp_path / "out") in refused(capsys, words(corpus, tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "mine"


def test_nothing_to_do(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    said = refused(capsys, words(corpus, tmp_path / "out", "--do_train", "false", "--do_eval", "false"))
    assert "--do_train" in said and "--do_eval" in said


@pytest.mark.parametrize("broken", ["config.json", "model.safetensors"])
def test_a_model_whose_files_are_torn(broken: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = ctc_folder(tmp_path / "model")
    (folder / broken).write_bytes((folder / broken).read_bytes()[:100])
    argv: list[Any] = ["evaluate", str(folder), "--dataset_name", str(corpus), "--output_dir", str(tmp_path / "out")]
    assert f"{folder}: no usable " in refused(capsys, [*argv, *CPU])
