"""The score of a text is what the formula says, however it grew; hot words count where they end."""

from __future__ import annotations

import pytest
from ngrams_by_hand import arpa_score

from speechtune.decoding.fusion import Fusion, Piece, Weights
from speechtune.text.ngrams.build import build_ngrams
from speechtune.text.ngrams.model import NgramModel

NGRAMS = build_ngrams(["yeni ev", "eski ev", "yeni yol", "ev"], order=3)
WEIGHTS = Weights(alpha=0.5, beta=2.0, unknown=-3.0)


def letter_by_letter(fusion: Fusion, text: str) -> float:
    state = fusion.start()
    for letter in text:
        state = fusion.extend(state, Piece("", starts_word=True) if letter == " " else Piece(letter))
    return fusion.finish(state)


@pytest.mark.parametrize(("text", "num_unknown"), [("yeni ev", 0), ("ev yeni ev eski", 0), ("ev kule", 1), ("", 0)])
def test_a_score_is_alpha_beta_and_unknown_words(text: str, num_unknown: int):
    words = text.split()
    expected = 0.5 * arpa_score(NGRAMS, words) + 2.0 * len(words) - 3.0 * num_unknown
    fusion = Fusion(NgramModel(NGRAMS), weights=WEIGHTS)
    assert fusion.score(text) == pytest.approx(expected, abs=1e-5)
    assert letter_by_letter(fusion, text) == pytest.approx(expected, abs=1e-5)
    log_prob, num_words, unknown, hot = fusion.features(text)
    assert 0.5 * log_prob + 2.0 * num_words - 3.0 * unknown + hot == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("ankara", 4), ("ankarada", 0), ("ank", 0), ("ankara ankara", 8), ("new york", 6), ("new yorker", 0),
        ("new ankara", 4), ("york", 0), ("old new york city", 6), ("new new york", 6),
    ],
)  # fmt: skip
def test_whole_hot_words_and_phrases_count_once_each(text: str, weight: float):
    fusion = Fusion(hotwords={"ankara": 4, "new york": 6})
    assert fusion.score(text) == weight == letter_by_letter(fusion, text)


def test_an_unfinished_hot_word_counts_in_part_and_is_taken_back():
    fusion = Fusion(hotwords={"abcd": 8})
    state = fusion.start()
    ranks = []
    for letter in "abx":
        state = fusion.extend(state, Piece(letter))
        ranks.append(state.rank)
    assert ranks == [2, 4, 0]


def test_a_hot_word_is_no_unknown_word():
    model = NgramModel(NGRAMS)
    plain, hot = Fusion(model, weights=WEIGHTS), Fusion(model, weights=WEIGHTS, hotwords={"kule": 1.0})
    assert hot.score("ev kule") - plain.score("ev kule") == pytest.approx(1.0 + 3.0)


def test_a_word_that_is_surely_unknown_has_its_score_before_it_ends():
    fusion = Fusion(NgramModel(NGRAMS), weights=WEIGHTS)
    state, ranks = fusion.start(), []
    for letter in "yenxy":
        state = fusion.extend(state, Piece(letter))
        ranks.append(state.rank)
    ended = fusion.extend(state, Piece("", starts_word=True))
    assert ranks == [0, 0, 0, ended.rank, ended.rank] and ended.rank == ended.sure
