"""Errors of case and punctuation are counted apart."""

from __future__ import annotations

import pytest
from evaluations import hypothesis

from speechtune.evaluation.written_form import bare, written_errors


@pytest.mark.parametrize(
    ("reference", "text", "expected"),
    [
        ("Hello, World.", "Hello, World.", (0, 0, 0, 0)),
        ("Hello, World.", "hello, World.", (1, 0, 0, 0)),
        ("Hello, World.", "Hello World", (0, 2, 0, 0)),
        ("Hello, World.", "hello World.", (0, 0, 1, 0)),
        ("Hello, World.", "Hello, Word.", (0, 0, 0, 1)),
        ("yes - no", "yes no", (0, 1, 0, 0)),
        ("“Yes”, she said.", "yes she", (0, 0, 1, 1)),
        ("It's 5%", "its 5", (0, 1, 0, 1)),  # an apostrophe is part of its word
    ],
)
def test_what_a_word_is_wrong_in(reference, text, expected):
    found = written_errors([hypothesis("u", reference, text)])
    assert tuple(found[name] for name in ("case", "punctuation", "case_and_punctuation", "words")) == expected


def test_the_rate_is_of_words_without_case_and_punctuation():
    found = written_errors([hypothesis("u", "Hello, World .", "hello Word"), hypothesis("v", "", "")])
    assert (found["reference_words"], found["rate"]) == (2, 0.5)
    assert written_errors([hypothesis("u", "", "")])["rate"] is None


def test_a_bare_word_keeps_what_is_inside_it():
    assert [bare(word) for word in ("U.S.-based,", "¿Qué?", "...", "हिन्दी।")] == ["u.s.-based", "qué", "", "हिन्दी"]
