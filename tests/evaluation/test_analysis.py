"""Where the errors of an evaluation are, and of what kind."""

from __future__ import annotations

import pytest
from evaluations import hypothesis

from speechtune.evaluation.analysis import analyse, by_frequency, by_position, is_loop
from speechtune.evaluation.evaluate import Evaluation


def test_empty_outputs_and_loops_are_counted_with_their_words():
    rows = [
        hypothesis("u0", "bir iki", ""),
        hypothesis("u1", "", ""),
        hypothesis("u2", "bir iki", "bir iki iki iki iki iki"),
        hypothesis("u3", "çok çok çok çok güzel", "çok çok çok çok güzel"),
    ]
    found = analyse(Evaluation(rows))
    assert found["empty_outputs"] == {"utterances": 1, "words": 2, "ids": ["u0"]}
    assert found["repeated_loops"] == {"utterances": 1, "inserted_words": 4, "ids": ["u2"]}
    assert "real_time_factor" not in found and "by_training_frequency" not in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a a a a", True),
        ("a a a b", False),
        ("b x y z x y z x y z x y z", True),
        ("x y z x y z x y z", False),
        ("a b a b a b a", False),
        ("", False),
    ],
)
def test_a_loop_is_a_phrase_four_times_in_a_row(text, expected):
    assert is_loop(text) is expected


def test_the_real_time_factor_is_time_by_audio():
    assert analyse(Evaluation([hypothesis("u", "a", "a")], audio_s=20.0, runtime_s=5.0))["real_time_factor"] == 0.25


def test_errors_by_position_count_insertions_after_their_word():
    rows = [hypothesis("u0", "a b c d e f", "a x c d e f g"), hypothesis("u1", "a b", "x y")]
    assert [(part["words"], part["errors"]) for part in by_position(rows)] == [(2, 1), (2, 0), (2, 1)]


def test_errors_by_how_often_training_saw_the_word():
    rows = [hypothesis("u0", "often rare new rare", "often x y rare z")]
    found = {part["name"]: (part["words"], part["errors"]) for part in by_frequency(rows, {"often": 10, "rare": 9})}
    assert found == {"10 times or more": (1, 0), "rare, under 10 times": (2, 1), "unseen": (1, 1)}


def test_groups_have_intervals_and_kinds_with_one_group_are_left_out():
    rows = [hypothesis(f"u{i}", "a b", "a b" if i % 2 else "a x", duration_s=1 + 2 * (i % 2)) for i in range(8)]
    groups = analyse(Evaluation(rows))["groups"]
    assert [(g["by"], g["name"], g["utterances"], g["errors"]) for g in groups] == [
        ("length", "0 to 2 s", 4, 4),
        ("length", "2 to 4 s", 4, 0),
    ]
    assert groups[0]["low"] <= groups[0]["rate"] == 0.5 <= groups[0]["high"]


def test_case_and_punctuation_are_apart_where_they_are_scored():
    found = analyse(Evaluation([hypothesis("u", "Hello, you.", "hello, you")]), as_written=True)
    assert found["case_and_punctuation"]["case"] == found["case_and_punctuation"]["punctuation"] == 1
