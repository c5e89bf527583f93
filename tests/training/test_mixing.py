"""Mixtures of starting and final weights, and averages of checkpoints: evaluated, chosen by validation, recoverable."""

from __future__ import annotations

from pathlib import Path

import pytest
from reliability.tiny import read_json, weights
from safetensors.torch import load_file
from starting_models import model_for, with_validation, words, write_corpora
from trained_folders import ctc_folder

from speechtune.cli.main import main


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpora(tmp_path_factory.mktemp("corpora"))


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_validation(write_corpora(tmp_path_factory.mktemp("validated")))


@pytest.fixture(scope="module")
def model(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_for(corpus, tmp_path_factory.mktemp("model") / "ctc")


def test_the_best_mixture_on_validation_is_saved_and_the_final_weights_stay(
    model: Path,
    validated: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    out = tmp_path / "out"
    argv = words(model, validated, out, "--interpolate_weights", "0", "0.5", "1", "--no_baseline")
    assert main(argv) == 0
    record = read_json(out / "interpolation.json")
    rates = {row["weight"]: row["scores"]["first validation"]["wer"]["rate"] for row in record["mixtures"]}
    assert record["kept"] == min(rates, key=lambda weight: (rates[weight], -weight)) and set(rates) == {0.0, 0.5, 1.0}
    assert record["selection"] == "first validation"
    start, final, saved = load_file(model / "model.safetensors"), weights(out / "checkpoint-4"), weights(out)
    share = record["kept"]
    for name, value in saved.items():
        assert value.allclose((1 - share) * start[name] + share * final[name], atol=1e-6)
    if share < 1:
        assert record["final_weights"] == "checkpoint-4"
        assert f"the final weights, unmixed, stay in {out / 'checkpoint-4'}" in capsys.readouterr().err
    scores = next(row["scores"] for row in record["mixtures"] if row["weight"] == share)
    assert scores["first test"] == read_json(out / "eval_results.json")["scores"]
    assert not list(out.glob(".*.tmp")) and "share of the final weights" in (out / "report.html").read_text("utf-8")
    capsys.readouterr()
    assert main(argv) == 0  # finished: the same mixture again, from the last checkpoint
    assert all(bool((saved[name] == value).all()) for name, value in weights(out).items())


def test_one_number_is_the_choice_of_the_user_and_without_checkpoints_the_final_weights_are_kept_apart(
    model: Path,
    corpus: Path,
    tmp_path: Path,
):
    out = tmp_path / "out"
    assert main(words(model, corpus, out, "--interpolate_weights", "0.25", "--save_strategy", "no")) == 0
    start, final, saved = load_file(model / "model.safetensors"), weights(out / "final-weights"), weights(out)
    assert any(not bool((final[name] == value).all()) for name, value in start.items())
    assert all(value.allclose(0.75 * start[name] + 0.25 * final[name], atol=1e-6) for name, value in saved.items())
    assert read_json(out / "interpolation.json")["kept"] == 0.25


def test_without_a_validation_split_all_are_scored_and_the_final_weights_are_kept(
    model: Path,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    out = tmp_path / "out"
    assert main(words(model, corpus, out, "--interpolate_weights", "0", "1", "--no_baseline")) == 0
    record = read_json(out / "interpolation.json")
    assert (record["kept"], record["selection"], len(record["mixtures"])) == (1.0, None, 2)
    assert "never the test split" in capsys.readouterr().err
    final = weights(out / "checkpoint-4")
    assert all(bool((final[name] == value).all()) for name, value in weights(out).items())


def test_an_average_of_checkpoints_is_kept_where_it_is_better(model: Path, validated: Path, tmp_path: Path):
    out = tmp_path / "out"
    more = ["--average_checkpoints", "2", "--no_baseline", "--save_steps", "1"]
    assert main(words(model, validated, out, *more)) == 0
    record = read_json(out / "interpolation.json")["average"]
    assert record["checkpoints"] == ["checkpoint-3", "checkpoint-4"]
    assert record["kept"] == (record["wer_average"] < record["wer_final"])
    parts = [weights(out / name) for name in (record["checkpoints"] if record["kept"] else ["checkpoint-4"])]
    for name, value in weights(out).items():
        assert value.allclose(sum(part[name] for part in parts) / len(parts), atol=1e-6)


def test_a_new_head_has_nothing_to_mix_with(
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    other = ctc_folder(tmp_path / "other", letters="abc")
    assert main(words(other, corpus, tmp_path / "out", "--interpolate_weights", "0.5")) == 2
    assert "the model starts with a new head" in capsys.readouterr().err
