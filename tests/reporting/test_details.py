"""One evaluation in the report: its worst utterances first, nothing cut without being counted."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from evaluations import hypothesis

from speechtune.evaluation.evaluate import Evaluation
from speechtune.reporting.details import MAX_SHOWN, MAX_SPEAKERS, evaluation_details
from speechtune.types import Hypothesis


def details(*rows: Hypothesis, suffix: str = "", before: list[Hypothesis] | None = None) -> dict[str, Any]:
    old = {row.id: row for row in before or []}
    return evaluation_details(Evaluation(list(rows), suffix=suffix), old)


def shown(found: dict[str, Any]) -> dict[str, list[str]]:
    """Ids of the utterances that are shown, by why."""
    return {sample["kind"]: [u["row"].id for u in sample["utterances"]] for sample in found["samples"]}


def test_the_worst_come_first_and_the_right_ones_are_none_of_them():
    found = details(
        hypothesis("right", "bir", "bir"), hypothesis("one", "bir iki", "bir x"), hypothesis("two", "bir iki", "x y")
    )
    assert shown(found)["worst"] == ["two", "one"] and found["worst_share"] == 1.0
    assert found["num_rows"] == 3


def test_the_share_of_the_worst_is_of_all_wrong_words():
    rows = [hypothesis(f"{n:02}", "bir iki üç", "x y z") for n in range(MAX_SHOWN)]
    found = details(*rows, *(hypothesis(f"m{n}", "bir iki", "bir x") for n in range(10)))
    assert len(shown(found)["worst"]) == MAX_SHOWN and found["worst_share"] == 30 / 40


def test_without_an_error_there_is_no_worst_and_no_share():
    found = details(hypothesis("a", "bir", "bir"))
    assert shown(found) == {"worst": [], "random": ["a"]} and (found["has_errors"], found["worst_share"]) == (
        False,
        0.0,
    )
    assert [bar.width for bar in found["durations"] + found["speakers"]] == []


def test_nothing_recognised_has_no_rows():
    found = details()
    assert (found["num_rows"], found["worst_share"], shown(found)) == (0, 0.0, {"worst": []})
    assert math.isnan(found["speaker_median"])


def test_words_wrong_only_in_their_letters_spaces_still_count_among_the_worst():
    found = details(hypothesis("a", "e\u0301", "e"))
    assert shown(found)["worst"] == ["a"]


def test_the_random_ones_are_the_same_for_every_model():
    references = [f"söz {n}" for n in range(40)]
    first = details(*(hypothesis(f"{n}", text, text) for n, text in enumerate(references)))
    second = details(*(hypothesis(f"{n}", text, "x") for n, text in enumerate(references)))
    assert shown(first)["random"] == shown(second)["random"]
    assert len(set(shown(first)["random"])) == MAX_SHOWN and shown(first)["random"] != [
        str(n) for n in range(MAX_SHOWN)
    ]


def test_the_newly_wrong_are_those_with_more_errors_than_before_most_first():
    after = [hypothesis("a", "bir iki", "x iki"), hypothesis("b", "bir iki", "x y"), hypothesis("c", "bir", "x")]
    before = [hypothesis("a", "bir iki", "bir iki"), hypothesis("b", "bir iki", "bir iki"), hypothesis("c", "bir", "y")]
    found = details(*after, before=before)
    assert shown(found)["newly_wrong"] == ["b", "a"]
    (first, _) = found["samples"][1]["utterances"]
    assert first["before"].words.edits == 0 and first["earlier"]["parts"][0].reference == "bir iki"


def test_bars_are_in_parts_of_the_highest_finite_rate():
    rows = [
        hypothesis("a", "bir iki", "x y", speaker="S1"),
        hypothesis("b", "bir iki", "bir x", speaker="S2"),
        hypothesis("c", "bir", "bir", speaker="S3"),
        hypothesis("d", "", "x", speaker="S4"),  # an infinite rate
    ]
    bars = {bar.group.name: bar.width for bar in details(*rows)["speakers"]}
    assert bars == {"S4": 100.0, "S1": 100.0, "S2": 50.0, "S3": 0.0}


def test_a_bar_has_an_interval_where_its_group_has_several_utterances():
    rows = [hypothesis(f"{n}", "bir iki üç dört", "bir iki üç dört" if n % 2 else "bir iki üç x") for n in range(8)]
    rows = [replace(row, speaker="many") for row in rows] + [hypothesis("one", "bir iki", "bir x", speaker="single")]
    single, many = details(*rows)["speakers"]
    assert (single.low, single.high) == (None, None)
    # 8 utterances, residuals of +-0.5 words of 32: Student's t with 7 degrees of freedom
    half = 2.365 * math.sqrt(8 * 0.25 * 8 / 7) / 32
    assert (many.group.low, many.group.high) == pytest.approx((0.125 - half, 0.125 + half))
    assert (many.low, many.width, many.high) == pytest.approx((2.7, 25.0, 47.3), abs=0.1)


def test_of_many_speakers_the_highest_and_the_lowest_are_shown():
    rows = [
        hypothesis(f"{n}", " ".join("abcdefghijklmnopqrst"), " ".join("abcdefghijklmnopqrst"[n:]), speaker=f"S{n:02}")
        for n in range(MAX_SPEAKERS + 1)
    ]
    few, many = details(*rows[1:]), details(*rows)
    assert (few["speakers_cut"], len(few["speakers"])) == (False, MAX_SPEAKERS)
    assert (many["speakers_cut"], many["num_speakers"]) == (True, 17)
    names = [bar.group.name for bar in many["speakers"]]
    assert names == [f"S{n:02}" for n in [*range(16, 8, -1), *range(3, -1, -1)]]
    assert many["speaker_median"] == 8 / 20


def test_evaluations_of_one_report_have_keys_of_their_own_that_do_not_change():
    keys = [details(suffix=suffix)["key"] for suffix in ("", "_a", "_b")]
    assert len(set(keys)) == 3 and keys == [details(suffix=suffix)["key"] for suffix in ("", "_a", "_b")]
    assert all(key.isalnum() and key[0] == "e" for key in keys)
    assert details(suffix="_a")["rows_file"] == "hypotheses_a.jsonl"
