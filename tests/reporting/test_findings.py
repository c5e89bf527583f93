"""Figures in sentences."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechtune.reporting.findings import findings, in_plain_words
from speechtune.reporting.run_folder import Evaluation, Run
from speechtune.types import EditCounts, Hypothesis


def score(hits, substitutions, deletions, insertions):
    counts = EditCounts(hits, substitutions, deletions, insertions)
    return {
        "rate": counts.rate,
        "hits": hits,
        "substitutions": substitutions,
        "deletions": deletions,
        "insertions": insertions,
    }


def run(**parts):
    empty = {
        "evaluations": [],
        "log_history": [],
        "state": {},
        "train_results": {},
        "settings": {},
        "skipped": [],
        "bad_steps": [],
    }
    return Run(folder=Path("r"), **{**empty, **parts})


def rows(*texts):
    return [Hypothesis("u", r, h, EditCounts(1, 0 if r == h else 1), EditCounts()) for r, h in texts]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            score(83, 14, 3, 3),
            "Of every 100 words spoken, about 83 are recognised right; 14 are taken for another word and 3 are missed; "
            "on top, 3 are written that nobody said.",
        ),
        (
            score(985, 15, 0, 0),
            "Of every 1,000 words spoken, about 985 are recognised right; 15 are taken for another word.",
        ),
        (
            score(0, 10, 0, 20),
            "Of every 100 words spoken, none are recognised right; 100 are taken for another word; "
            "on top, 200 are written that nobody said.",
        ),
        (
            score(9999, 1, 0, 0),
            "Of every 1,000 words spoken, more than 999 are recognised right; fewer than 1 are taken for another word.",
        ),
        (score(12, 0, 0, 0), "Every one of the 12 words is recognised right."),
        (score(0, 0, 0, 5), "The references hold no words, so there is nothing to recognise."),
        ({"rate": 0.31}, "Of every 100 words, about 31 are wrong."),
    ],
)
def test_a_wer_in_plain_words(given, sentence):
    assert in_plain_words(given) == sentence


def test_nothing_known_means_nothing_said():
    assert findings(run()) == []


def test_empty_hypotheses_are_named():
    evaluation = Evaluation("test", "", {}, rows(("a", ""), ("b", " ")))
    assert "Every hypothesis is empty" in findings(run(evaluations=[evaluation]))[1]


def test_few_words_are_said_to_be_few():
    evaluation = Evaluation("test", "", {"scores": {"wer": score(90, 10, 0, 0)}}, [])
    assert findings(run(evaluations=[evaluation])) == [
        "The score rests on 100 words only: small differences between models mean little."
    ]


def test_the_dominant_kind_of_error_is_named():
    loops = Evaluation("test", "", {"scores": {"wer": score(5000, 10, 10, 500)}}, [])
    (sentence,) = findings(run(evaluations=[loops]))
    assert sentence.startswith("More than half of the errors are words that nobody said")


def test_two_evaluations_differ_only_if_their_intervals_do_not_overlap():
    def evaluation(name, low, high):
        return Evaluation(
            name, f"_{name}", {"scores": {"wer": {"rate": (low + high) / 2, "low": low, "high": high}}}, []
        )

    near = run(evaluations=[evaluation("seen", 0.1, 0.3), evaluation("unseen", 0.29, 0.5)])
    far = run(evaluations=[evaluation("seen", 0.1, 0.3), evaluation("unseen", 0.4, 0.6)])
    assert findings(near) == []
    (sentence,) = findings(far)
    assert sentence.startswith("The WER on unseen, 50.0 %, is above that on seen by more than chance")


def test_a_last_evaluation_worse_than_an_earlier_one_is_said():
    history = [{"step": 100, "eval_wer": 0.4}, {"step": 200, "eval_wer": 0.2}, {"step": 300, "eval_wer": 0.25}]
    (sentence,) = findings(run(log_history=history))
    assert "lowest at step 200 (20.0 %) and 25.0 % at the last one, step 300" in sentence


def test_an_unfinished_training_bad_steps_and_left_out_utterances_are_said():
    given = run(state={"global_step": 50, "max_steps": 1000}, bad_steps=[{"step": 1}], skipped=[{}, {}])
    assert findings(given) == [
        "Training stands at step 50 of 1,000.",
        "1 step with a loss or gradient that was not finite, see below.",
        "2 utterances skipped, see below.",
    ]
