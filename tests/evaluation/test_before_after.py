"""What is said of the scores before and after training."""

from __future__ import annotations

from pathlib import Path

from evaluations import hypothesis

from speechtune.evaluation.before_after import Change, changes
from speechtune.evaluation.evaluate import Evaluation, write_evaluation

WORDS = "bir iki üç dört"


def write(folder: Path, num_wrong: int, *, baseline: bool, suffix: str = "", number: int = 40, name: str = "") -> None:
    """`number` utterances of four words; in `num_wrong` of them one is wrong."""
    rows = [hypothesis(f"{i}", WORDS, WORDS if i >= num_wrong else WORDS.replace("iki", "yedi")) for i in range(number)]
    evaluation = Evaluation(rows)
    results = {**evaluation.metrics(), "scores": evaluation.scores(), "dataset": "cv/tr", "split": "test"}
    named = {"name": name} if name else {}
    write_evaluation(evaluation, {**results, **named}, folder=folder, suffix=suffix, baseline=baseline)


def change(folder: Path, before: int, after: int, *, further: bool = False, number: int = 40) -> Change:
    suffix = "_cv-de-test" if further else ""
    for count, baseline in ((before, True), (after, False)):
        write(folder, count, baseline=baseline, suffix=suffix, number=number, name="cv/de test" if further else "")
    (found,) = changes(folder)
    return found


def test_a_shown_improvement_is_said_with_its_interval(tmp_path: Path):
    found = change(tmp_path, 30, 10)
    assert found.is_certain and not found.is_warning and found.is_own
    assert found.sentence.startswith(
        "cv/tr test: WER 18.8 % before training, 6.2 % after: 12.5 points better (95 % int"
    )
    assert found.points == "-12.5 points" and found.interval.endswith(" points") and found.interval[0] == "-"


def test_a_difference_that_may_be_chance_is_called_so(tmp_path: Path):
    found = change(tmp_path, 10, 9)
    assert not found.is_certain and not found.is_warning
    assert found.sentence.endswith("on these 40 utterances that may be chance.")


def test_a_model_that_was_better_before_is_a_warning_for_its_own_set_even_by_chance(tmp_path: Path):
    found = change(tmp_path, 9, 10)
    assert found.is_warning and not found.is_certain
    assert "The model recognised this better before training; on these 40 utterances that may be" in found.sentence


def test_a_further_set_is_a_warning_only_where_it_got_worse_more_than_by_chance(tmp_path: Path):
    by_chance = change(tmp_path / "a", 9, 10, further=True)
    shown = change(tmp_path / "b", 5, 30, further=True)
    assert not by_chance.is_warning and not by_chance.is_own
    assert shown.is_warning and shown.sentence.startswith("cv/de test: ")
    assert shown.sentence.endswith("The model recognised this better before training.")


def test_other_utterances_are_not_compared(tmp_path: Path):
    write(tmp_path, 1, baseline=True)
    rows = [hypothesis(f"other {i}", WORDS, WORDS) for i in range(3)]
    write_evaluation(Evaluation(rows), {"dataset": "cv/tr", "split": "test"}, folder=tmp_path)
    (found,) = changes(tmp_path)
    assert found.difference is None and not found.is_warning and found.points == found.interval == ""
    assert "not the same utterances" in found.sentence


def test_without_an_evaluation_before_there_is_no_change(tmp_path: Path):
    write(tmp_path, 1, baseline=False)
    assert changes(tmp_path) == []
    write(tmp_path, 1, baseline=True)
    assert changes(tmp_path)[0].sentence.endswith("no difference.")
