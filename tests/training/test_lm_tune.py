"""A language model from the training text to a score: train --lm auto, lm tune, evaluate --lm, export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny_seq2seq
from reliability.tiny import MODEL, read_json, read_rows, write_corpus

from speechtune.cli.main import main
from speechtune.publishing.export import run as export

CPU = ["--use_cpu", "true", "--precision", "fp32", "--dataloader_num_workers", "0"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), num_train=4, num_test=3)


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "run"
    argv = [
        "train",
        "--model_config",
        json.dumps(MODEL),
        "--dataset_name",
        str(corpus),
        "--output_dir",
        str(out),
        "--lm",
        "auto",
    ]
    assert main([*argv, "--max_steps", "1", "--train_split_name", "train", "--num_beams", "8", *CPU]) == 0
    return out


def test_training_builds_the_model_and_scores_with_and_without_it(trained: Path):
    with_lm, alone = (read_json(trained / f"eval_results{suffix}.json") for suffix in ("_with_lm", ""))
    assert (trained / "lm.arpa.gz").exists() and with_lm["eval_samples"] == alone["eval_samples"] == 3
    gain = with_lm["gain_of_lm"]
    assert gain["difference"] == pytest.approx(with_lm["eval_wer"] - alone["eval_wer"]) and gain["groups"] == 3
    decoding = with_lm["protocol"]["decoding"]
    assert decoding["num_beams"] == 8 and decoding["lm"]["alpha"] == 0.5
    assert "lm" not in alone["protocol"]["decoding"] and alone["protocol"]["hash"] != with_lm["protocol"]["hash"]
    assert [row["id"] for row in read_rows(trained / "hypotheses_with_lm.jsonl")] == [
        row["id"] for row in read_rows(trained / "hypotheses.jsonl")
    ]


def test_tuned_weights_are_kept_and_used(
    trained: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    tune = ["lm", "tune", str(trained), "--lm", "auto", "--dataset_name", str(corpus), "--num_beams", "4", *CPU]
    assert main([*tune, "--eval_split_name", "test"]) == 2
    assert "make its scores too good" in capsys.readouterr().err
    assert main([*tune, "--eval_split_name", "train"]) == 0
    said = capsys.readouterr()
    assert "% without ->" in said.out and "warning: the model was trained on train" in said.err
    assert "language model: perplexity" in said.err and "0.0% unknown words" in said.err
    kept = read_json(trained / "lm.json")
    assert kept["lm"] == "lm.arpa.gz" and kept["tuned_on"]["utterances"] == 4

    argv = ["evaluate", str(trained), "--dataset_name", str(corpus), "--lm", "auto", "--output_dir", str(tmp_path)]
    assert main([*argv, "--lm_beta", "3.5", *CPU]) == 0
    assert read_json(tmp_path / "eval_results_without_lm.json")["eval_wer"] == pytest.approx(
        read_json(trained / "eval_results.json")["eval_wer"]
    )
    used = read_json(tmp_path / "eval_results.json")["protocol"]["decoding"]["lm"]
    assert used.pop("model").startswith("sha256 ") and used == kept["weights"] | {"beta": 3.5}


def test_errors_are_counted_as_scores_count_them(trained: Path, corpus: Path, capsys: pytest.CaptureFixture[str]):
    """With numbers written out, or a normaliser of scores, the model alone has the WER that evaluate gives it."""
    options = [str(trained), "--lm", "auto", "--dataset_name", str(corpus), "--normaliser", "none", *CPU]
    options += ["--num_beams", "4", "--lm_alpha", "0.5"]
    before = (trained / "lm.json").read_text() if (trained / "lm.json").exists() else None
    assert main(["lm", "tune", *options, "--eval_split_name", "train"]) == 0
    tuned = read_json(trained / "lm.json")["tuned_on"]["wer_without_lm"]
    assert main(["evaluate", *options, "--eval_split_name", "train", "--output_dir", str(trained / "e")]) == 0
    alone = read_json(trained / "e" / "eval_results_without_lm.json")
    assert tuned == pytest.approx(alone["eval_wer"]) and alone["protocol"]["normalizer"].startswith("none 1")
    shutil.rmtree(trained / "e")
    if before is not None:
        (trained / "lm.json").write_text(before)


def test_the_language_model_travels_with_an_export(trained: Path, tmp_path: Path):
    assert export(trained, tmp_path / "exported") == 0
    assert (tmp_path / "exported" / "lm.arpa.gz").read_bytes() == (trained / "lm.arpa.gz").read_bytes()


def test_a_language_model_that_is_missing_or_damaged_is_said_before_training(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "bad.arpa").write_text("no arpa\n")
    argv = [
        "train",
        "--model_config",
        json.dumps(MODEL),
        "--dataset_name",
        str(corpus),
        "--output_dir",
        str(tmp_path / "out"),
        *CPU,
    ]
    for name, message in (("bad.arpa", "line 1: no ARPA file"), ("none.arpa", "no such file")):
        assert main([*argv, "--lm", str(tmp_path / name)]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").glob("*.safetensors"))


def test_the_beams_of_another_kind_of_model_are_chosen_from(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The language model knows the sentences of the corpus; Whisper's random weights write none of them."""
    (tmp_path / "text.txt").write_text("bir iki\n")
    model = shutil.copytree(tiny_seq2seq.checkpoint("openai/whisper-small"), tmp_path / "whisper")
    assert main(["lm", "build", str(tmp_path / "text.txt"), "-o", str(tmp_path / "text.arpa")]) == 0
    argv = [str(model), "--lm", str(tmp_path / "text.arpa"), "--dataset_name", str(corpus), "--language", "tr", *CPU]
    assert main(["lm", "tune", *argv, "--num_beams", "2", "--eval_split_name", "train"]) == 0
    assert (model / "lm.arpa").read_bytes() == (tmp_path / "text.arpa").read_bytes()
    assert "copied to" in capsys.readouterr().err and read_json(model / "lm.json")["lm"] == "lm.arpa"
    assert main(["evaluate", *argv, "--num_beams", "2", "--output_dir", str(tmp_path / "out")]) == 0
    results = read_json(tmp_path / "out" / "eval_results.json")
    assert results["gain_of_lm"]["groups"] == 3 and results["protocol"]["decoding"]["num_beams"] == 2
