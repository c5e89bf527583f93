"""Alignment and counts: exact on hand-made cases, and equal to jiwer's."""

from __future__ import annotations

import random

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechtune.evaluation.edits import EditOp, align, count_edits
from speechtune.evaluation.metrics import metric_named
from speechtune.evaluation.metrics.cer import character_edits
from speechtune.evaluation.metrics.wer import word_edits
from speechtune.types import EditCounts

WORDS = ["bir", "iki", "üç", "dört", "beş", "'", "a", "aa", "नमस्ते"]
PAIRS = [
    ("", ""),
    ("a b c", ""),
    ("bir iki üç", "bir iki üç"),
    ("bir iki üç", "iki üç dört"),
    ("bir", "bir bir bir"),
    ("नमस्ते दुनिया", "नमस्ते दुनीया"),
    ("a  b", "a b"),
    ("  a b ", "a b"),
]


def random_pairs(count: int) -> list[tuple[str, str]]:
    rng = random.Random(0)
    return [
        (" ".join(rng.choices(WORDS, k=rng.randrange(1, 12))), " ".join(rng.choices(WORDS, k=rng.randrange(0, 12))))
        for _ in range(count)
    ]


def counts_of(output: jiwer.WordOutput | jiwer.CharacterOutput) -> EditCounts:
    return EditCounts(output.hits, output.substitutions, output.deletions, output.insertions)


@pytest.mark.parametrize(("reference", "hypothesis"), PAIRS + random_pairs(300))
def test_counts_equal_those_of_jiwer(reference, hypothesis):
    assert word_edits(reference, hypothesis) == counts_of(jiwer.process_words(reference, hypothesis))
    assert character_edits(reference, hypothesis) == counts_of(jiwer.process_characters(reference, hypothesis))


def test_rate_of_the_sum_equals_the_corpus_rate_of_jiwer():
    pairs = random_pairs(200)
    references, hypotheses = map(list, zip(*pairs, strict=True))
    assert EditCounts.total(word_edits(*pair) for pair in pairs).rate == jiwer.wer(references, hypotheses)
    assert EditCounts.total(character_edits(*pair) for pair in pairs).rate == jiwer.cer(references, hypotheses)


def test_empty_reference_counts_every_word_as_inserted():
    assert word_edits("", "one two") == EditCounts(insertions=2)
    assert word_edits("", "one two").rate == float("inf")
    assert word_edits(" ", "").rate == 0.0
    assert character_edits("", "ab") == EditCounts(insertions=2)


def test_counts_by_hand():
    assert word_edits("the cat sat on a big red mat", "the dog sat on big red mat now") == EditCounts(6, 1, 1, 1)
    assert character_edits("abc", "abd") == EditCounts(2, 1, 0, 0)
    assert character_edits("a b", "ab") == EditCounts(2, 0, 1, 0)


def test_words_are_split_at_any_white_space():
    assert word_edits("a\u00a0b\tc\nd", "a b c d") == EditCounts(hits=4)


def test_composed_and_decomposed_letters_are_equal():
    assert word_edits("cafe\u0301", "caf\u00e9") == EditCounts(hits=1)
    assert character_edits("cafe\u0301", "caf\u00e9") == EditCounts(hits=4)


def test_vowel_signs_count_as_characters():
    assert character_edits("कि", "की") == EditCounts(hits=1, substitutions=1)


def test_phones_may_have_several_characters():
    phone_edits = metric_named("per").count
    assert phone_edits("h ə l oʊ", "h e l oʊ") == EditCounts(hits=3, substitutions=1)
    assert phone_edits("sh iy", "s h iy").edits == 2


def test_align_shows_each_step_in_order():
    assert align(["a", "b", "c", "d", "e"], ["b", "x", "d", "e", "f"]) == [
        EditOp("deletion", "a", ""),
        EditOp("hit", "b", "b"),
        EditOp("substitution", "c", "x"),
        EditOp("hit", "d", "d"),
        EditOp("hit", "e", "e"),
        EditOp("insertion", "", "f"),
    ]
    assert align([], []) == []


@given(st.lists(st.sampled_from(WORDS), max_size=8), st.lists(st.sampled_from(WORDS), max_size=8))
def test_alignment_spells_both_sides_and_agrees_with_the_counts(reference, hypothesis):
    ops = align(reference, hypothesis)
    assert [op.reference for op in ops if op.kind != "insertion"] == reference
    assert [op.hypothesis for op in ops if op.kind != "deletion"] == hypothesis
    assert all((op.reference == op.hypothesis) == (op.kind == "hit") for op in ops)
    kinds = [op.kind for op in ops]
    counted = EditCounts(*(kinds.count(kind) for kind in ("hit", "substitution", "deletion", "insertion")))
    assert count_edits(reference, hypothesis) == counted


@given(st.text(max_size=12), st.text(max_size=12))
def test_counts_survive_any_text(reference, hypothesis):
    counts = character_edits(reference, hypothesis)
    assert counts.edits <= max(len(reference), len(hypothesis))
    assert word_edits(reference, reference).edits == 0
