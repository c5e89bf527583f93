"""Segments are short enough to be read, and lose no word."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from speechtune.decoding.segments import MAX_CHARACTERS, MAX_DURATION_S, segments_of
from speechtune.types import Word


def spoken(*words: str, word_s: float = 0.3, gap_s: float = 0.1) -> list[Word]:
    return [Word(w, n * (word_s + gap_s), n * (word_s + gap_s) + word_s) for n, w in enumerate(words)]


def texts(words: list[Word], separator: str = " ") -> list[str]:
    return [segment.text for segment in segments_of(words, separator=separator)]


def test_sentences_and_pauses_end_a_segment():
    assert texts(spoken("Bir", "iki.", "“Üç!”", "dört")) == ["Bir iki.", "“Üç!”", "dört"]
    words = [*spoken("bir", "iki"), Word("üç", 1.6, 2.0)]
    assert texts(words) == ["bir iki", "üç"]


def test_a_long_stretch_is_divided_after_a_clause_else_at_its_longest_pause():
    words = spoken(*["kelime"] * 8, "sonra,", *["kelime"] * 6)
    assert texts(words)[0].endswith("sonra,")
    words = spoken(*["kelime"] * 15)
    later = [Word(w.text, w.start_s + 0.2 * (n >= 9), w.end_s + 0.2 * (n >= 9)) for n, w in enumerate(words)]
    assert len(texts(later)[0].split()) == 9


def test_words_without_spaces_between_them_are_joined():
    assert texts(spoken("你", "好。", "再", "见"), "") == ["你好。", "再见"]


@given(st.lists(st.tuples(st.text("abc.,", min_size=1, max_size=12), st.floats(0.05, 2), st.floats(0, 2)), max_size=60))
def test_every_word_is_in_one_segment_and_none_is_too_long(parts: list[tuple[str, float, float]]):
    words, at_s = [], 0.0
    for text, word_s, gap_s in parts:
        words.append(Word(text, at_s, at_s + word_s))
        at_s += word_s + gap_s
    segments = segments_of(words)
    assert [word for segment in segments for word in segment.words] == words
    for segment in segments:
        assert (segment.start_s, segment.end_s) == (segment.words[0].start_s, segment.words[-1].end_s)
        assert len(segment.text) <= MAX_CHARACTERS and segment.end_s - segment.start_s <= MAX_DURATION_S
