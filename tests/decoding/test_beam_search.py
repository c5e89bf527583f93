"""Beam search finds what a search over all paths finds: the probability of each text, and its external score."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from speechtune.decoding.beam_search import BeamSearch, align, cut_at_blanks
from speechtune.decoding.fusion import Fusion, Piece, Weights
from speechtune.text.ngrams.build import build_ngrams
from speechtune.text.ngrams.model import NgramModel

BLANK = 3
LETTERS = [Piece("", starts_word=True), Piece("a"), Piece("b"), Piece("?")]
WORD_PIECES = [Piece("a", starts_word=True), Piece("b"), Piece("ab", starts_word=True), Piece("?")]
TEXT = ["a b ab", "ab a", "ba ab a", "b"]
WORDS = NgramModel(build_ngrams(TEXT, order=3))
CHARACTERS = NgramModel(build_ngrams(TEXT, order=3, of_characters=True))
WEIGHTS = Weights(0.7, 0.4, -2.0)
FUSIONS = {
    "nothing": None,
    "words": Fusion(WORDS, weights=WEIGHTS),
    "characters": Fusion(CHARACTERS, weights=WEIGHTS),
    "words and hot words": Fusion(WORDS, weights=WEIGHTS, hotwords={"ba": 3.0, "a b": 1.5, "bb": -1.0}),
    "hot words": Fusion(hotwords={"bb": 2.0, "ab": 1.0}),
}


def random_log_probs(num_frames: int, num_labels: int, seed: int) -> np.ndarray[Any, Any]:
    logits = np.random.default_rng(seed).normal(scale=1.5, size=(num_frames, num_labels))
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def collapsed(path: Any, blank: int = BLANK) -> tuple[int, ...]:
    return tuple(int(label) for label, _ in itertools.groupby(path) if label != blank)


def of_all_paths(log_probs: np.ndarray[Any, Any]) -> dict[tuple[int, ...], tuple[float, float]]:
    """Label sequence -> log probability over all its paths, and of its best path."""
    found: dict[tuple[int, ...], tuple[float, float]] = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        score = sum(log_probs[frame, label] for frame, label in enumerate(path))
        total, best = found.get(collapsed(path), (-math.inf, -math.inf))
        found[collapsed(path)] = (float(np.logaddexp(total, score)), max(best, score))
    return found


@pytest.mark.parametrize("pieces", [LETTERS, WORD_PIECES], ids=["letters", "word pieces"])
@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("seed", [0, 1])
def test_without_pruning_every_text_has_the_score_of_all_its_paths(name: str, pieces: list[Piece], seed: int):
    fusion, log_probs = FUSIONS[name], random_log_probs(5, 4, seed)
    search = BeamSearch(pieces, BLANK, fusion=fusion, num_beams=10**4, min_log_prob=-math.inf, max_gap=math.inf)
    expected: dict[str, float] = {}
    for labels, (total, _) in of_all_paths(log_probs).items():
        text = search.text(labels)
        score = total + (fusion.score(text) if fusion else 0.0)
        expected[text] = max(score, expected.get(text, -math.inf))
    found = search(log_probs)
    assert {beam.text: beam.score for beam in found} == pytest.approx(expected)
    assert [beam.score for beam in found] == sorted((beam.score for beam in found), reverse=True)


@pytest.mark.parametrize("seed", range(5))
def test_pruning_seldom_changes_the_best_text(seed: int):
    log_probs = random_log_probs(6, 4, seed)
    best = [BeamSearch(LETTERS, BLANK, fusion=FUSIONS["words"], num_beams=n)(log_probs)[0] for n in (10**4, 50)]
    assert best[0].text == best[1].text and best[0].score == pytest.approx(best[1].score, abs=1e-3)


def test_a_language_model_chooses_between_texts_that_sound_alike():
    """The audio says "a b" with 0.55 and "ab" with 0.45; only "ab a" is a sentence."""
    rows = np.full((5, 4), 1e-4)
    for frame, probs in enumerate([{1: 1}, {0: 0.55, 3: 0.45}, {2: 1}, {0: 1}, {1: 1}]):
        for label, p in probs.items():
            rows[frame, label] = p
    model = NgramModel(build_ngrams(["ab a"] * 20 + ["a a", "b b"]))
    assert BeamSearch(LETTERS, BLANK)(np.log(rows))[0].text == "a b a"
    assert BeamSearch(LETTERS, BLANK, fusion=Fusion(model))(np.log(rows))[0].text == "ab a"


def test_no_word_is_impossible():
    """The vocabulary is open: what no model knows is written where the audio says so."""
    rows = np.full((3, 4), 1e-6)
    rows[[0, 1, 2], [2, 3, 2]] = 1
    assert BeamSearch(LETTERS, BLANK, fusion=FUSIONS["words"])(np.log(rows))[0].text == "bb"


def test_no_frames_are_an_empty_text():
    (beam,) = BeamSearch(LETTERS, BLANK)(np.zeros((0, 4)))
    assert beam.text == "" and beam.labels == ()


def test_frames_that_are_almost_certain_do_not_underflow():
    rows = np.full((3000, 4), -200.0)
    rows[np.arange(3000), np.tile([1, 1, 3, 2, 3, 0], 500)] = 0.0
    assert BeamSearch(LETTERS, BLANK)(rows)[0].text == " ".join(["ab"] * 500)


@pytest.mark.parametrize("seed", range(3))
def test_the_alignment_is_the_best_path_of_its_labels(seed: int):
    log_probs = random_log_probs(5, 4, seed)
    for labels, (_, best) in of_all_paths(log_probs).items():
        path = align(log_probs, labels, BLANK)
        assert collapsed(path) == labels
        assert log_probs[np.arange(5), path].sum() == pytest.approx(best)


def test_a_long_recording_is_cut_in_its_longest_pauses():
    labels = np.ones(100, np.int64)
    labels[30:34] = labels[42:45] = labels[60:70] = BLANK
    log_probs = np.log(np.eye(4)[labels] + 1e-3)
    cuts = cut_at_blanks(log_probs, BLANK, max_frames=50)
    assert cuts == [0, 32, 65, 100]
    assert cut_at_blanks(log_probs[:50], BLANK, max_frames=50) == [0, 50]
    assert cut_at_blanks(log_probs[70:], BLANK, max_frames=10) == [0, 10, 20, 30]
