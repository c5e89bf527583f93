"""Words are where they are said: the best path of all, with what may be skipped on both sides, in linear memory."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from speechtune.decoding import alignment
from speechtune.decoding.alignment import Emissions, Place, align_words

BLANK, DELIMITER, A, B, C = range(5)
FRAME_S = 0.02


def emissions(said: str, *, sure: float = 0.95) -> Emissions:
    """A model that hears one label a frame: "_" is blank, "|" the delimiter."""
    heard = [{"_": BLANK, "|": DELIMITER, "a": A, "b": B, "c": C}[label] for label in said]
    probs = np.full((len(heard), 5), (1 - sure) / 4)
    probs[range(len(heard)), heard] = sure
    log_probs = np.log(probs).astype(np.float32)
    return Emissions(log_probs, log_probs.max(axis=1), FRAME_S)


def aligned(found: Emissions, *words: str) -> list[tuple[int, int] | None]:
    labels = [[{"a": A, "b": B, "c": C}[letter] for letter in word] for word in words]
    places, _ = align_words(found, labels, blank=BLANK, delimiter=DELIMITER)
    return [None if place is None else (place.start, place.end) for place in places]


def test_words_are_where_they_are_said():
    assert aligned(emissions("__aa_b_||_c_cab__"), "ab", "ccab") == [(2, 6), (10, 15)]


def test_confidence_is_the_mean_probability_of_the_labels():
    (place,), _ = align_words(emissions("_ab_", sure=0.9), [[A, B]], blank=BLANK, delimiter=None)
    assert place is not None and place.confidence == pytest.approx(0.9)
    (place,), _ = align_words(emissions("_ac_", sure=0.9), [[A, B]], blank=BLANK, delimiter=None)
    assert place is not None and place.confidence == pytest.approx((0.9 * 0.025) ** 0.5, rel=1e-4)


def test_text_that_is_not_said_is_skipped():
    found = emissions("_aabbaacc_|_bcbc_")
    assert aligned(found, "abac", "caacbbca", "bcbc") == [(1, 9), None, (12, 16)]
    assert aligned(found, "ccccaaaabbbb", "abac", "bcbc", "aaaacccc") == [None, (1, 9), (12, 16), None]


def test_speech_that_is_not_in_the_text_is_no_word():
    foreign = "|_cabbcaacbbca_|"
    found = emissions(f"_abac_{foreign}_bcbc_")
    assert aligned(found, "abac", "bcbc") == [(1, 5), (23, 27)]
    _, foreign_frames = align_words(found, [[A, B, A, C], [B, C, B, C]], blank=BLANK, delimiter=DELIMITER)
    assert not foreign_frames[:5].any() and foreign_frames[8:19].all() and not foreign_frames[23:].any()
    assert aligned(emissions(foreign + "_abac_"), "abac") == [(17, 21)]
    assert aligned(emissions("_abac_" + foreign), "abac") == [(1, 5)]


def test_a_misheard_word_is_still_said():
    assert aligned(emissions("_abac_|_bcac_|_ab_"), "abac", "bcbc", "ab") == [(1, 5), (8, 12), (15, 17)]


def test_a_recording_without_the_text_and_a_text_without_words():
    assert aligned(emissions("_" * 30), "abcabcabc") == [None]
    assert align_words(emissions("_ab_"), [], blank=BLANK, delimiter=None)[0] == []


def brute_force(found: Emissions, words: list[list[int]]) -> float:
    """The best score of all paths over all ways to leave out words, without stars."""
    num_frames = len(found.best)
    best = -np.inf
    for chosen in itertools.product([False, True], repeat=len(words)):
        said = [word for word, is_said in zip(words, chosen, strict=True) if is_said]
        price = sum(alignment.SKIP_PER_LABEL * len(w) for w, is_said in zip(words, chosen, strict=True) if not is_said)
        states: list[tuple[int, int | None]] = [(-1, None)]  # (kind or number, label): gaps are -1
        for word in said:
            for i, label in enumerate(word):
                states += ([(-2, BLANK)] if i else []) + [(i, label)]
            states.append((-1, None))
        for path in itertools.combinations_with_replacement(range(len(states)), num_frames):
            if path[0] > 1 or path[-1] < len(states) - 2:
                continue
            if any(not _may_follow(states, left, right) for left, right in itertools.pairwise(path)):
                continue
            rows = found.log_probs[range(num_frames)]
            gaps = np.maximum(rows[:, BLANK], rows[:, DELIMITER])
            score = sum(gaps[t] if states[s][1] is None else rows[t, states[s][1]] for t, s in enumerate(path))
            best = max(best, float(score) - price)
    return best


def _may_follow(states: list[tuple[int, int | None]], left: int, right: int) -> bool:
    if right - left <= 1:
        return right >= left
    between = states[left + 1][0]
    return right - left == 2 and between == -2 and states[left][1] != states[right][1]


@pytest.mark.parametrize("seed", range(8))
def test_the_path_is_the_best_of_all(seed: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(alignment, "STAR_ENTRY", 1e6)
    monkeypatch.setattr(alignment, "SKIP_PER_LABEL", 1.0)
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((7, 5)) * 2
    log_probs = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    found = Emissions(log_probs, log_probs.max(axis=1), FRAME_S)
    words = [[A, A], [B], [C, A]][: 2 + seed % 2]
    viterbi = alignment._Viterbi(found, words, BLANK, DELIMITER)
    path = viterbi._path()
    said = sorted({int(np.searchsorted(viterbi.gaps, s, side="right")) - 1 for s in path if viterbi.labels[s]})
    row = np.concatenate([log_probs, viterbi.gap_scores[:, None]], axis=1)
    score = row[range(7), viterbi.columns[path]].sum()
    score -= sum(len(word) for n, word in enumerate(words) if n not in said)
    assert score == pytest.approx(brute_force(found, words), abs=1e-4)


def test_blocks_and_what_is_not_followed_change_nothing(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(1)
    words = [[int(label) for label in rng.integers(A, C + 1, rng.integers(2, 7))] for _ in range(60)]
    said = "".join("_" + "_".join("_|abc"[label] for label in word) + "_|" for word in words)
    found = emissions(said, sure=0.8)
    expected, _ = align_words(found, words, blank=BLANK, delimiter=DELIMITER)
    assert sum(isinstance(place, Place) for place in expected) == 60
    starts = [place.start for place in expected if place is not None]
    assert starts == sorted(starts)
    monkeypatch.setattr(alignment, "MAX_GAP", 300.0)
    assert align_words(found, words, blank=BLANK, delimiter=DELIMITER)[0] == expected
    monkeypatch.setattr(alignment.math, "isqrt", lambda n: n)
    assert align_words(found, words, blank=BLANK, delimiter=DELIMITER)[0] == expected
