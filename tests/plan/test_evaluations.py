"""Whether the starting model is evaluated, on which sets, and on which split weights are chosen."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from standins.models import stand_in
from starting_models import with_validation, write_corpora
from trained_folders import ctc_folder

from speechtune.errors import CorpusError, OptionError
from speechtune.options.parse import parse_options
from speechtune.plan.plan import RunPlan
from speechtune.plan.resolve import resolve


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_validation(write_corpora(tmp_path_factory.mktemp("corpora")))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ctc_folder(tmp_path_factory.mktemp("model") / "ctc")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in(tmp_path_factory.mktemp("home"), "openai/whisper-small")


def plan_for(model: Path | str, corpus: Path, *words: str, command: Any = "train") -> RunPlan:
    start = ["--dataset_name", str(corpus), "--output_dir", str(corpus.parent / "out"), "--train_split_name", "train"]
    start += ["--model_config", model] if isinstance(model, str) else ["--model_name_or_path", str(model)]
    return resolve(parse_options([*start, *words], command=command))


def test_a_model_that_can_recognise_is_evaluated_before_training(model: Path, whisper: Path, corpus: Path):
    assert [one.scored for one in plan_for(model, corpus).baseline] == ["first test"]
    assert [one.do_train for one in plan_for(whisper, corpus, "--language", "tr").baseline] == [False]
    assert plan_for(model, corpus, "--no_baseline").baseline == ()
    assert plan_for(model, corpus, "--do_eval", "false").baseline == ()


def test_a_model_without_a_trained_head_is_not(corpus: Path):
    random = '{"model_type": "wav2vec2"}'
    assert plan_for(random, corpus).baseline == ()
    with pytest.raises(OptionError, match="--baseline: the starting model can't recognise yet: its weights are random"):
        plan_for(random, corpus, "--baseline")


def test_a_set_that_names_no_language_is_pointed_out(whisper: Path, model: Path, corpus: Path):
    second = ("--also_evaluate", f"{corpus.parent / 'second'}")
    said = "warning: --also_evaluate: second test names no language, so Whisper is told the run's: tr"
    assert said in plan_for(whisper, corpus, "--language", "tr", *second).notes
    assert not any("names no language" in note for note in plan_for(model, corpus, "--language", "tr", *second).notes)
    assert not any("names no" in note for note in plan_for(whisper, corpus, "--language", "tr").notes)


def test_the_scripts_evaluate_it_only_if_asked(model: Path, corpus: Path):
    train = ["--do_train", "--do_eval"]
    assert plan_for(model, corpus, *train, command="script").baseline == ()
    assert len(plan_for(model, corpus, *train, "--baseline", command="script").baseline) == 1


def test_it_is_evaluated_in_a_context_that_it_was_tuned_for(whisper: Path, corpus: Path):
    contexts = {}
    for context in ("1", "8", "full"):
        plan = plan_for(whisper, corpus, "--language", "tr", "--encoder_context", context)
        contexts[context] = plan.baseline[0].settings.encoder_context
        assert (plan.protocol["hash"] == plan.baseline[0].protocol["hash"]) == (context != "1")
    assert contexts == {"1": "full", "8": 8.0, "full": "full"}


def test_further_sets_have_their_own_corpus_split_and_files(model: Path, corpus: Path):
    plan = plan_for(model, corpus, "--also_evaluate", f"{corpus.parent / 'second'}", "::validation")
    assert [(one.scored, one.suffix) for one in plan.further] == [
        ("second test", "_second-test"), ("first validation", "_first-validation"),
    ]  # fmt: skip
    assert [one.scored for one in plan.baseline] == ["first test", "second test", "first validation"]
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert plan.as_json()["also_evaluated"] == ["second test", "first validation"]


def test_a_further_set_that_is_missing_twice_or_trained_on_is_a_message(model: Path, corpus: Path):
    with pytest.raises(CorpusError, match="nowhere"):
        plan_for(model, corpus, "--also_evaluate", str(corpus / "nowhere"))
    with pytest.raises(OptionError, match="--also_evaluate ::test: first test is evaluated already"):
        plan_for(model, corpus, "--also_evaluate", "::test")
    with pytest.raises(OptionError, match="all 6 of its recordings are also in the training data"):
        plan_for(model, corpus, "--also_evaluate", "::train")
    with pytest.raises(OptionError, match="--also_evaluate: this run evaluates nothing"):
        plan_for(model, corpus, "--also_evaluate", "::validation", "--do_eval", "false")
    with pytest.raises(OptionError, match="--interpolate_weights: this run trains nothing"):
        plan_for(model, corpus, "--do_train", "false", "--interpolate_weights", "0.5")
    assert plan_for(model, corpus, "--do_eval", "false", "--interpolate_weights", "0.5").further == ()


def test_weights_are_chosen_on_the_validation_split_and_never_on_the_test_split(model: Path, corpus: Path):
    several = ["--interpolate_weights", "0", "0.5", "1"]
    plan = plan_for(model, corpus, *several)
    assert plan.selection is not None and plan.selection.scored == "first validation" and plan.notes == ()
    own = plan_for(model, corpus, *several, "--eval_split_name", "validation").selection
    assert own is not None and own.suffix == ""
    trained = plan_for(model, corpus, *several, "--train_split_name", "train+validation")
    assert trained.selection is None and "the validation split is trained on" in trained.notes[-1]
    missing = plan_for(model, corpus.parent / "second", *several)
    assert missing.selection is None and "never the test split" in missing.notes[-1]
    one = plan_for(model, corpus.parent / "second", "--interpolate_weights", "0.5")
    assert one.selection is None and one.notes == ()
