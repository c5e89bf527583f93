"""Each word and each line's end is counted once, whatever fits into memory at a time."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from speechtune.errors import TextError
from speechtune.text.ngrams.counts import count_ngrams


def as_counter(lines: list[str], order: int, **options: int) -> Counter[tuple[str, ...]]:
    words, rows, counts = count_ngrams(lines, order, **options)
    assert words[:3] == ["<unk>", "<s>", "</s>"]
    return Counter({tuple(words[i] for i in row): n for row, n in zip(rows.tolist(), counts.tolist(), strict=True)})


def in_a_dictionary(lines: list[str], order: int) -> Counter[tuple[str, ...]]:
    found: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        tokens = ["<s>"] * (order - 1) + [*line.split(), "</s>"]
        found.update(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1) if line.split())
    return found


def test_a_sentence_starts_with_as_many_markers_as_are_needed():
    assert as_counter(["a b"], 3) == {("<s>", "<s>", "a"): 1, ("<s>", "a", "b"): 1, ("a", "b", "</s>"): 1}


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("chunk", [7, 40, 10**6])
def test_chunks_on_disk_give_the_counts_of_one_pass(order: int, chunk: int):
    draw = random.Random(1)
    lines = [" ".join(draw.choices("abcdefg", k=draw.randint(0, 6))) for _ in range(40)]
    assert as_counter(lines, order, chunk=chunk) == in_a_dictionary(lines, order)


def test_rows_are_sorted_by_their_last_word_first():
    _, rows, _ = count_ngrams(["b a c a", "c b a"] * 3, 3, chunk=5)
    backwards = [tuple(reversed(row)) for row in rows.tolist()]
    assert backwards == sorted(backwards)


def test_markers_within_the_text_are_skipped():
    assert as_counter(["<s> a </s> <unk> b"], 2) == as_counter(["a b"], 2)


def test_a_text_without_words_is_an_error():
    with pytest.raises(TextError, match="no word"):
        count_ngrams(["", "  "], 3)
