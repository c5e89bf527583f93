"""Before training and after it: what is evaluated, once, and without a trace in the training."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from reliability.tiny import read_json, read_rows, weights
from standins.corpora import write_common_voice
from standins.models import stand_in
from starting_models import CPU, model_for, words, write_corpora
from trained_folders import ctc_folder

from speechtune.cli.main import main


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpora(tmp_path_factory.mktemp("corpora"))


@pytest.fixture(scope="module")
def model(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_for(corpus, tmp_path_factory.mktemp("model") / "ctc")


@pytest.fixture(scope="module")
def trained(model: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "out"
    assert main(words(model, corpus, out, "--also_evaluate", str(corpus.parent / "second"))) == 0
    return out


def test_the_baseline_is_what_evaluate_says_of_the_starting_model(
    trained: Path, model: Path, corpus: Path, tmp_path: Path
):
    for name, suffix in (("first", ""), ("second", "_second-test")):
        out = tmp_path / name
        dataset = ["--dataset_name", str(corpus.parent / name), "--output_dir", str(out)]
        assert main(["evaluate", str(model), *dataset, *CPU]) == 0
        before = read_json(trained / f"baseline_results{suffix}.json")
        assert before["scores"] == read_json(out / "eval_results.json")["scores"]
        assert before["protocol"] == read_json(out / "eval_results.json")["protocol"]
        assert (trained / f"baseline_hypotheses{suffix}.jsonl").read_bytes() == (out / "hypotheses.jsonl").read_bytes()


def test_training_is_the_same_without_it(trained: Path, model: Path, corpus: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert main(words(model, corpus, out, "--no_baseline")) == 0
    assert not list(out.glob("baseline*"))
    first, second = weights(trained), weights(out)
    assert all(bool((first[name] == value).all()) for name, value in second.items())
    assert read_rows(trained / "hypotheses.jsonl") == read_rows(out / "hypotheses.jsonl")


def test_the_same_command_again_does_not_repeat_it_and_another_set_is_added(
    trained: Path, model: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
):
    second, test = trained / "baseline_results_second-test.json", trained / "baseline_results.json"
    before = second.stat().st_mtime_ns, test.stat().st_mtime_ns
    assert main(words(model, corpus, trained, "--also_evaluate", str(corpus.parent / "second"))) == 0
    assert (second.stat().st_mtime_ns, test.stat().st_mtime_ns) == before
    assert "before training: evaluating" not in capsys.readouterr().err
    second.unlink()
    assert main(words(model, corpus, trained, "--also_evaluate", str(corpus.parent / "second"))) == 0
    assert second.exists() and test.stat().st_mtime_ns == before[1]


def test_a_starting_model_that_was_trained_again_is_evaluated_again(
    model: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    start, out = shutil.copytree(model, tmp_path / "start"), tmp_path / "out"
    assert main(words(start, corpus, out)) == 0
    os.utime(start / "model.safetensors", ns=(1, 1))
    capsys.readouterr()
    assert main(words(start, corpus, out)) == 0
    assert "before training: evaluating" in capsys.readouterr().err


def test_a_language_model_of_the_training_text_and_further_sets_do_not_mix(model: Path, corpus: Path, tmp_path: Path):
    out = tmp_path / "out"
    more = ["--lm", "auto", "--num_beams", "4", "--also_evaluate", str(corpus.parent / "second")]
    assert main(words(model, corpus, out, *more, "--save_strategy", "no")) == 0
    found = {path.stem.removeprefix("eval_results"): read_json(path) for path in out.glob("eval_results*.json")}
    assert set(found) == {"", "_with_lm", "_second-test"}  # further sets are compared with before: the model alone
    assert (
        "lm" not in found["_second-test"]["protocol"]["decoding"] and "lm" in found["_with_lm"]["protocol"]["decoding"]
    )
    assert set(read_json(out / "before_after.json")) == {"first test", "second test"}


def test_ctc_hypotheses_have_the_times_of_their_words(trained: Path):
    rows = read_rows(trained / "hypotheses.jsonl")
    timed = [row for row in rows if row.get("word_times")]
    assert timed and all(len(row["word_times"]) == len(row["hypothesis"].split()) for row in timed)
    for row in timed:
        ends = [end for pair in row["word_times"] for end in pair]
        assert ends == sorted(ends) and ends[0] >= 0 and ends[-1] <= row["duration_s"] + 0.05


def test_table_report_and_warning_show_before_and_after(
    model: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    assert main(words(model, corpus, out)) == 0
    said = capsys.readouterr()
    assert said.out.index("first test, before training") < said.out.index("first test, after")
    old, new = (read_json(out / f"{name}_results.json")["scores"]["wer"]["rate"] for name in ("baseline", "eval"))
    assert f"first test: WER {100 * old:.1f} % before training, {100 * new:.1f} % after" in said.err
    found = read_json(out / "before_after.json")["first test"]
    assert found["difference"] == pytest.approx(new - old) and found["sentence"] in said.err
    page = (out / "report.html").read_text("utf-8")
    assert f'<p class="was"><b>{100 * old:.1f} %</b> before training' in page
    assert f"<td>{100 * old:.1f} %</td><td><b>{100 * new:.1f} %</b></td>" in page


def test_adapters_of_a_language_are_evaluated_before_training_and_missing_ones_are_a_line(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = ctc_folder(tmp_path / "mms", letters="abcdeiklnortuyz", languages=["tur"])
    for language, has_adapter in (("tur", True), ("swe", False)):
        out = tmp_path / language
        assert main(words(model, corpus, out, "--target_language", language, "--save_strategy", "no")) == 0
        assert (out / "baseline_results.json").exists() == has_adapter
        said = capsys.readouterr().err
        assert ("no evaluation before training: the starting model can't recognise by itself" in said) != has_adapter


def test_a_further_set_in_another_language_is_recognised_with_its_own_prompt(tmp_path: Path):
    """As `evaluate` recognises it; afterwards the model is again one for the run's language."""
    whisper = stand_in(tmp_path / "home", "openai/whisper-small")
    for language in ("tr", "sv-SE"):
        write_common_voice(tmp_path / "corpora", language=language, release="1.0")
    named = ["--model_name_or_path", str(whisper), "--corpora_dir", str(tmp_path / "corpora")]
    named += ["--dataset_name", "common_voice", "--max_eval_samples", "2", "--generation_max_length", "8", *CPU]
    more = ["--max_steps", "1", "--learning_rate", "0", "--also_evaluate", ":sv-SE", "--save_strategy", "no"]
    more += ["--per_device_train_batch_size", "1", "--max_train_samples", "1"]
    out, evaluated = tmp_path / "out", tmp_path / "evaluated"
    assert main(["train", *named, "--dataset_config_name", "tr", "--output_dir", str(out), *more]) == 0
    assert main(["evaluate", *named, "--dataset_config_name", "sv-SE", "--output_dir", str(evaluated)]) == 0
    (suffix,) = (path.stem.removeprefix("eval_results") for path in out.glob("eval_results_*.json"))
    wanted = read_json(evaluated / "eval_results.json")
    for name in ("baseline", "eval"):  # nothing was learnt
        found = read_json(out / f"{name}_results{suffix}.json")
        assert found["eval_loss"] == pytest.approx(wanted["eval_loss"], rel=1e-6)
        assert found["protocol"]["decoding"]["language"] == "sv"
    assert (out / f"hypotheses{suffix}.jsonl").read_bytes() == (evaluated / "hypotheses.jsonl").read_bytes()
    assert read_json(out / "generation_config.json")["language"] == "tr"
