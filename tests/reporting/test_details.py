"""One evaluation in the report: its worst utterances first, nothing cut without being counted."""

from __future__ import annotations

import math
from typing import Any

from evaluations import hypothesis

from speechtune.evaluation.edits import EditOp
from speechtune.evaluation.evaluate import Evaluation
from speechtune.reporting.details import MAX_SPEAKERS, MAX_WORST, _cut, evaluation_details
from speechtune.types import Hypothesis

LARGE = 1 << 20


def details(*rows: Hypothesis, table_bytes: int = LARGE, suffix: str = "") -> dict[str, Any]:
    return evaluation_details(Evaluation(list(rows), suffix=suffix), table_bytes)


def test_the_worst_come_first_and_the_right_ones_are_none_of_them():
    found = details(
        hypothesis("right", "bir", "bir"), hypothesis("one", "bir iki", "bir x"), hypothesis("two", "bir iki", "x y")
    )
    assert [u["row"].id for u in found["worst"]] == ["two", "one"] and found["worst_share"] == 1.0
    assert (found["num_rows"], found["num_in_table"]) == (3, 3)


def test_the_share_of_the_worst_is_of_all_wrong_words():
    rows = [hypothesis(f"{n:02}", "bir iki üç", "x y z") for n in range(MAX_WORST)]
    found = details(*rows, *(hypothesis(f"m{n}", "bir iki", "bir x") for n in range(10)))
    assert len(found["worst"]) == MAX_WORST and found["worst_share"] == 30 / 40


def test_without_an_error_there_is_no_worst_and_no_share():
    found = details(hypothesis("a", "bir", "bir"))
    assert found["worst"] == [] and found["worst_share"] == 0.0
    assert [width for _, width in found["durations"] + found["speakers"]] == []


def test_nothing_recognised_has_no_rows():
    found = details()
    assert (found["num_rows"], found["num_in_table"], found["table"], found["worst_share"]) == (0, 0, "", 0.0)
    assert math.isnan(found["speaker_median"])


def test_words_wrong_only_in_their_letters_spaces_still_count_among_the_worst():
    found = details(hypothesis("a", "e\u0301", "e"))
    assert [u["row"].id for u in found["worst"]] == ["a"]


def test_bars_are_in_parts_of_the_highest_finite_rate():
    rows = [
        hypothesis("a", "bir iki", "x y", speaker="S1"),
        hypothesis("b", "bir iki", "bir x", speaker="S2"),
        hypothesis("c", "bir", "bir", speaker="S3"),
        hypothesis("d", "", "x", speaker="S4"),  # an infinite rate
    ]
    bars = {group.name: width for group, width in details(*rows)["speakers"]}
    assert bars == {"S4": 100.0, "S1": 100.0, "S2": 50.0, "S3": 0.0}


def test_of_many_speakers_the_highest_and_the_lowest_are_shown():
    rows = [
        hypothesis(f"{n}", " ".join("abcdefghijklmnopqrst"), " ".join("abcdefghijklmnopqrst"[n:]), speaker=f"S{n:02}")
        for n in range(MAX_SPEAKERS + 1)
    ]
    few, many = details(*rows[1:]), details(*rows)
    assert (few["speakers_cut"], len(few["speakers"])) == (False, MAX_SPEAKERS)
    assert (many["speakers_cut"], many["num_speakers"]) == (True, 17)
    names = [group.name for group, _ in many["speakers"]]
    assert names == [f"S{n:02}" for n in [*range(16, 8, -1), *range(3, -1, -1)]]
    assert many["speaker_median"] == 8 / 20


def test_the_table_is_cut_at_its_bytes_but_never_empty():
    rows = [hypothesis(f"{n}", f"söz {n}", "x") for n in range(50)]
    whole = details(*rows)
    assert whole["num_in_table"] == 50
    assert details(*rows, table_bytes=1)["num_in_table"] == 1
    part = details(*rows, table_bytes=len(whole["table"].encode()) // 2)
    assert 1 < part["num_in_table"] < 50
    assert len(part["table"].encode()) <= len(whole["table"].encode()) // 2
    assert whole["table"].startswith(part["table"]) and part["num_rows"] == 50


def test_text_of_strangers_is_escaped_in_the_table():
    table = details(hypothesis("<b>id", "<script>alert(1)</script>", "x & y", speaker="<i>"))["table"]
    assert "<script" not in table and "<b>" not in table and "<i>" not in table and "&lt;script&gt;" in table


def test_an_unknown_duration_is_empty_in_the_table():
    rows = [hypothesis("a", "bir iki", " "), hypothesis("b", "bir", "x", duration_s=0.0)]
    unknown, known, _ = details(*rows)["table"].split("</tr>")
    assert "<td></td><td></td><td>a</td>" in unknown and "<td>0.0</td><td></td><td>b</td>" in known


def test_evaluations_of_one_report_have_keys_of_their_own_that_do_not_change():
    keys = [details(suffix=suffix)["key"] for suffix in ("", "_a", "_b")]
    assert len(set(keys)) == 3 and keys == [details(suffix=suffix)["key"] for suffix in ("", "_a", "_b")]
    assert all(key.isalnum() and key[0] == "e" for key in keys)
    assert details(suffix="_a")["rows_file"] == "hypotheses_a.jsonl"


def test_hidden_words_are_counted_by_the_longer_side():
    parts = [
        EditOp("hit", "bir iki", "bir iki"),
        EditOp("substitution", "üç", "x"),
        EditOp("deletion", "dört", ""),
    ]
    parts.append(EditOp("hit", "beş altı yedi", "beş altı yedi"))
    assert _cut(parts, 1000) == (parts, 0)
    kept, hidden = _cut(parts, 8)  # the first takes 7 and the space after it
    assert kept == parts[:1] and hidden == 1 + 1 + 3
    assert _cut(parts, 0) == ([], 2 + 1 + 1 + 3) and _cut([], 0) == ([], 0)


def test_a_single_part_that_is_too_long_is_shortened():
    (part,), hidden = _cut([EditOp("substitution", "a" * 100, "b" * 5)], 10)
    assert len(part.reference) <= 10 and part.hypothesis == "b" * 5 and hidden == 0
