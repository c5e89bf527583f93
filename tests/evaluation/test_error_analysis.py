"""Where errors lie."""

from __future__ import annotations

from typing import Any

from evaluations import hypothesis

from speechtune.evaluation.edits import EditOp
from speechtune.evaluation.error_analysis import (
    by_duration,
    by_num_errors,
    by_speaker,
    character_confusions,
    diff,
    median_rate,
    most_common,
    word_confusions,
    worst_first,
)
from speechtune.types import Hypothesis


def row(reference: str, text: str, *, name: str = "u", **more: Any) -> Hypothesis:
    return hypothesis(name, reference, text, **more)


def test_diff_joins_equal_neighbours_and_keeps_each_error_apart():
    assert diff("the cat sat on mats", "the hat sat on on") == [
        EditOp("hit", "the", "the"),
        EditOp("substitution", "cat", "hat"),
        EditOp("hit", "sat on", "sat on"),
        EditOp("substitution", "mats", "on"),
    ]


def test_diff_has_one_side_empty_for_missed_and_added_words():
    assert diff("a b c", "b c d") == [
        EditOp("deletion", "a", ""),
        EditOp("hit", "b c", "b c"),
        EditOp("insertion", "", "d"),
    ]


def test_diff_of_nothing_is_nothing():
    assert diff("", "  ") == []


def test_confusions_met_once_give_way_to_those_met_again():
    rows = [row("bir bin üç", "bır bin uç"), row("bir", "bır"), row("bir beş", "bir beş")]
    assert most_common(word_confusions(rows), 5)["substitution"] == [("bir", "bır", 2)]
    assert most_common(word_confusions(rows[:1]), 5)["substitution"] == [("bir", "bır", 1), ("üç", "uç", 1)]


def test_confusions_of_equal_count_are_in_the_order_of_the_text():
    rows = [row("b", ""), row("a", ""), row("c", "")]
    assert most_common(word_confusions(rows), 2)["deletion"] == [("a", "", 1), ("b", "", 1)]


def test_character_confusions_count_the_space_and_compose_first():
    found = character_confusions([row("a b", "ab"), row("e\u0301", "é")])
    assert found == {EditOp("deletion", " ", ""): 1}


def test_a_duration_on_the_edge_belongs_to_the_longer_group_and_unknown_ones_to_none():
    rows = [row("a", "a", duration_s=1.9), row("a", "", duration_s=2.0), row("a", "a", duration_s=45.0), row("a", "a")]
    assert [(g.name, g.num_utterances, g.words.edits) for g in by_duration(rows)] == [
        ("0 to 2 s", 1, 0),
        ("2 to 4 s", 1, 1),
        ("over 30 s", 1, 0),
    ]


def test_speakers_are_ranked_by_rate_and_the_unknown_speaker_is_none_of_them():
    rows = [row("a b", "a x", speaker="s1"), row("a", "", speaker="s2"), row("a", "", speaker=None)]
    groups = by_speaker(rows)
    assert [(g.name, g.words.rate) for g in groups] == [("s2", 1.0), ("s1", 0.5)]
    assert median_rate(groups) == 0.75


def test_utterances_are_grouped_by_their_number_of_wrong_words():
    rows = [row("a", "a"), row("a", "b"), row("a b c d e f", ""), row("a b c d e f g", "")]
    assert [(g.name, g.num_utterances) for g in by_num_errors(rows)] == [("none", 1), ("1 word", 1), ("5 or more", 2)]


def test_worst_is_what_costs_most_words_then_characters_then_by_id():
    rows = [row("a", "b", name="z"), row("a", "b", name="y"), row("abc", "xyz", name="x"), row("a b", "c d", name="w")]
    assert [r.id for r in worst_first(rows)] == ["w", "x", "y", "z"]
