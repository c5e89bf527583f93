"""Figures in sentences."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechtune.evaluation.evaluate import Evaluation
from speechtune.reporting.findings import findings, in_plain_words, interval_in_words
from speechtune.reporting.run_folder import Run
from speechtune.types import EditCounts, Hypothesis, Skipped


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
    return Run(folder=Path("r"), **parts)


def rows(*texts):
    return [Hypothesis("u", r, h, EditCounts(1, 0 if r == h else 1), EditCounts()) for r, h in texts]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            score(83, 14, 3, 3),
            "Of every 100 words spoken, about 83 are recognised correctly; 14 are taken for another word and 3 are "
            "missed; 3 extra words are inserted.",
        ),
        (
            score(985, 15, 0, 0),
            "Of every 1,000 words spoken, about 985 are recognised correctly; 15 are taken for another word.",
        ),
        (
            score(0, 10, 0, 20),
            "Of every 100 words spoken, none are recognised correctly; 100 are taken for another word; "
            "200 extra words are inserted.",
        ),
        (
            score(9999, 1, 0, 0),
            "Of every 1,000 words spoken, more than 999 are recognised correctly; "
            "fewer than 1 are taken for another word.",
        ),
        (
            score(9900, 0, 0, 99),
            "Of every 1,000 words spoken, about 1,000 are recognised correctly; 10 extra words are inserted.",
        ),
        (score(12, 0, 0, 0), "Every one of the 12 words is recognised correctly."),
        (score(0, 0, 0, 5), "The references hold no words, so there is nothing to recognise."),
        ({"rate": 0.31}, "Of every 100 words, about 31 are wrong."),
    ],
)
def test_a_wer_in_plain_words(given, sentence):
    assert in_plain_words(given) == sentence


def test_nothing_known_means_nothing_said():
    assert findings(run()) == []


def test_empty_hypotheses_are_named():
    evaluation = Evaluation(rows(("a", ""), ("b", " ")))
    assert "Every hypothesis is empty" in findings(run(evaluations=[evaluation]))[1]


def test_few_words_are_said_to_be_few():
    evaluation = Evaluation(results={"scores": {"wer": score(90, 10, 0, 0)}})
    assert findings(run(evaluations=[evaluation])) == [
        "The references hold only 100 words: small differences between models mean little."
    ]


def test_the_dominant_kind_of_error_is_named():
    loops = Evaluation(results={"scores": {"wer": score(5000, 10, 10, 500)}})
    (sentence,) = findings(run(evaluations=[loops]))
    assert sentence.startswith("More than half of the errors are insertions")


def test_two_evaluations_differ_only_if_their_intervals_do_not_overlap():
    def evaluation(name, low, high):
        score = {"rate": (low + high) / 2, "low": low, "high": high}
        return Evaluation(suffix=f"_{name}", results={"scores": {"wer": score}})

    near = run(evaluations=[evaluation("seen", 0.1, 0.3), evaluation("unseen", 0.29, 0.5)])
    far = run(evaluations=[evaluation("seen", 0.1, 0.3), evaluation("unseen", 0.4, 0.6)])
    assert findings(near) == []
    (sentence,) = findings(far)
    assert sentence.startswith("The WER on unseen, 50.0 %, is above that on seen: their 95 % intervals")


def test_a_last_evaluation_worse_than_an_earlier_one_is_said():
    history = [{"step": 100, "eval_wer": 0.4}, {"step": 200, "eval_wer": 0.2}, {"step": 300, "eval_wer": 0.25}]
    (sentence,) = findings(run(log_history=history))
    assert "lowest at step 200 (20.0 %) and 25.0 % at the last one, step 300" in sentence


def test_an_unfinished_training_bad_steps_and_skipped_utterances_are_named():
    given = run(
        state={"global_step": 50, "max_steps": 1000},
        bad_steps=[{"step": 1}],
        skipped=[Skipped("train", "a", "f", "r")] * 2,
    )
    assert findings(given) == [
        "Training reached step 50 of 1,000.",
        "1 step with a loss or gradient that was not finite, see below.",
        "2 utterances skipped, see below.",
    ]


@pytest.mark.parametrize(
    ("unit", "groups", "sentence"),
    [
        (
            "utterances",
            25,
            "over 25 utterances, of one speaker or of unknown ones: for other speakers it is optimistic",
        ),
        ("speakers", 3, "over 3 speakers only, so it is wide and rough."),
        ("speakers", 1024, "over 1,024 speakers."),
    ],
)
def test_an_interval_says_what_it_is_over(unit, groups, sentence):
    assert sentence in interval_in_words({"rate": 0.5, "interval": {"unit": unit, "groups": groups}})
    assert interval_in_words({"rate": 0.5}) == ""


def test_bounds_that_are_unknown_are_not_compared():
    unknown = {"rate": 0.0, "low": None, "high": None}
    two = [Evaluation(results={"scores": {"wer": unknown}}, suffix=suffix) for suffix in ("", "_b")]
    assert findings(run(evaluations=two)) == []


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        ({"difference": -0.03, "low": -0.05, "high": -0.01}, "(-3.0 points, paired 95 % interval -5.0 to -1.0)."),
        ({"difference": -0.03, "low": -0.06, "high": 0.01}, "-6.0 to +1.0; it may be chance)."),
        ({"difference": -0.03, "low": None, "high": None}, "(-3.0 points)."),
    ],
)
def test_the_gain_of_a_language_model_is_said_with_its_interval(gain, words):
    with_lm = Evaluation(results={"scores": {"wer": score(93, 7, 0, 0)}, "gain_of_lm": gain}, suffix="_with_lm")
    (sentence,) = findings(run(evaluations=[Evaluation(), with_lm]))
    assert sentence.startswith("With the language model the WER is 7.0 % instead of 10.0 %") and sentence.endswith(
        words
    )
