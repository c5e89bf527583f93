"""What columns of unknown tables probably mean."""

from __future__ import annotations

import math
from typing import Any

import pytest

from speechtune.corpora.columns import ID_COLUMNS, TEXT_COLUMNS, as_text, first_present, known_facts


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        ("", ""),
        (" a ", " a "),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-7, "-7"),
        (10**30 - 1, "9" * 30),
        (10**30, None),
        pytest.param(10**5000, None, id="too long for Python to print"),
        (1.5, "1.5"),
        (1e-7, "1e-07"),
        (math.inf, "inf"),
        ([1], None),
        ({"a": 1}, None),
        (b"a", None),
    ],
)
def test_scalars_become_text_and_the_rest_nothing(value: Any, text: str | None):
    assert as_text(value) == text


def test_the_likeliest_column_that_has_a_value_is_taken():
    assert first_present({"sentence": "a", "text": "b"}, TEXT_COLUMNS) == "text"
    assert first_present({"sentence": "a", "text": ""}, TEXT_COLUMNS) == "sentence"
    assert first_present({"id": None, "utt_id": "u"}, ID_COLUMNS) == "utt_id"
    assert first_present({"Text": "a"}, TEXT_COLUMNS) is None and first_present({}, TEXT_COLUMNS) is None


def test_facts_are_read_from_columns_of_the_usual_names():
    facts = known_facts({"duration": "1.5", "client_id": "s1", "locale": "tr", "accent": "x"})
    assert facts == {"duration_s": 1.5, "speaker": "s1", "language": "tr"}


def test_facts_that_are_not_told_are_unknown():
    facts = known_facts({"duration": "", "speaker": "", "lang": None})
    assert math.isnan(facts["duration_s"]) and (facts["speaker"], facts["language"]) == (None, None)


@pytest.mark.parametrize("word", ["long", "1:30", "1,5", "1.5 s", "--1"])
def test_a_duration_that_is_no_number_is_unknown(word: str):
    assert math.isnan(known_facts({"duration": word})["duration_s"])
