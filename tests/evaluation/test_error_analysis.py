"""Where errors lie."""

from __future__ import annotations

import math

from speechtune.evaluation.error_analysis import (
    DiffPart,
    by_duration,
    by_num_errors,
    by_speaker,
    character_confusions,
    diff,
    median_rate,
    word_confusions,
    worst_first,
)
from speechtune.evaluation.metrics.cer import character_edits
from speechtune.evaluation.metrics.wer import word_edits
from speechtune.types import Hypothesis


def row(reference, hypothesis, *, name="u", duration_s=math.nan, speaker=None):
    return Hypothesis(
        id=name,
        reference=reference,
        hypothesis=hypothesis,
        words=word_edits(reference, hypothesis),
        characters=character_edits(reference, hypothesis),
        duration_s=duration_s,
        speaker=speaker,
    )


def test_diff_joins_equal_neighbours_and_keeps_each_error_apart():
    assert diff("the cat sat on mats", "the hat sat on on") == [
        DiffPart("hit", "the", "the"),
        DiffPart("substitution", "cat", "hat"),
        DiffPart("hit", "sat on", "sat on"),
        DiffPart("substitution", "mats", "on"),
    ]


def test_diff_has_one_side_empty_for_missed_and_added_words():
    assert diff("a b c", "b c d") == [
        DiffPart("deletion", "a", ""),
        DiffPart("hit", "b c", "b c"),
        DiffPart("insertion", "", "d"),
    ]


def test_diff_of_nothing_is_nothing():
    assert diff("", "  ") == []


def test_confusions_met_once_give_way_to_those_met_again():
    rows = [row("bir bin üç", "bır bin uç"), row("bir", "bır"), row("bir beş", "bir beş")]
    assert word_confusions(rows).most_common(5)["substitutions"] == [("bir", "bır", 2)]
    assert word_confusions(rows[:1]).most_common(5)["substitutions"] == [("bir", "bır", 1), ("üç", "uç", 1)]


def test_confusions_of_equal_count_are_in_the_order_of_the_text():
    rows = [row("b", ""), row("a", ""), row("c", "")]
    assert word_confusions(rows).most_common(2)["deletions"] == [("a", "", 1), ("b", "", 1)]


def test_character_confusions_count_the_space_and_compose_first():
    found = character_confusions([row("a b", "ab"), row("e\u0301", "é")])
    assert dict(found.deletions) == {" ": 1}
    assert not found.substitutions
    assert not found.insertions


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
