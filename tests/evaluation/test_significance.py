"""Confidence intervals and paired comparison: against theory, against a direct bootstrap, and at the edges."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from speechtune.evaluation.significance import confidence_interval, probability_of_improvement
from speechtune.types import EditCounts


def corpus(num_utterances: int, rate: float, *, seed: int = 0, length: int = 10) -> list[EditCounts]:
    edits = np.random.default_rng(seed).binomial(length, rate, num_utterances)
    return [EditCounts(hits=length - int(e), substitutions=int(e)) for e in edits]


def test_interval_is_as_wide_as_theory_says():
    counts = corpus(2000, 0.2)
    rate = EditCounts.total(counts).rate
    low, high = confidence_interval(counts)
    standard_error = math.sqrt(0.2 * 0.8 / 20_000)
    assert low < rate < high
    assert high - low == pytest.approx(2 * 1.96 * standard_error, rel=0.1)


def test_interval_equals_that_of_drawing_utterances_one_by_one():
    rng = np.random.default_rng(1)
    lengths = rng.integers(0, 30, 300)
    edits = rng.binomial(lengths, 0.3)
    counts = [EditCounts(hits=int(n - e), deletions=int(e)) for n, e in zip(lengths, edits, strict=True)]
    drawn = rng.integers(0, 300, (4000, 300))
    rates = edits[drawn].sum(1) / lengths[drawn].sum(1)
    expected = np.quantile(rates, [0.05, 0.95])
    assert confidence_interval(counts, level=0.9) == pytest.approx(expected, abs=0.004)


def test_interval_covers_the_true_rate_as_often_as_its_level_says():
    covered = 0
    for seed in range(100):
        low, high = confidence_interval(corpus(200, 0.15, seed=seed), level=0.9)
        covered += low <= 0.15 <= high
    assert 82 <= covered <= 97


def test_speakers_that_err_alike_make_the_interval_wider():
    rng = np.random.default_rng(0)
    counts, speakers = [], []
    for speaker in range(20):
        rate = rng.uniform(0.0, 0.5)
        for edits in rng.binomial(10, rate, 50):
            counts.append(EditCounts(hits=10 - int(edits), insertions=0, substitutions=int(edits)))
            speakers.append(f"speaker {speaker}")
    low, high = confidence_interval(counts)
    low_by_speaker, high_by_speaker = confidence_interval(counts, speakers)
    assert high_by_speaker - low_by_speaker > 2 * (high - low)


def test_unknown_speakers_are_groups_of_their_own():
    counts = corpus(100, 0.2)
    assert confidence_interval(counts, [None] * 100) == confidence_interval(counts)
    half_known = confidence_interval(counts, ["a"] * 50 + [None] * 50)
    assert half_known != confidence_interval(counts)


def test_a_single_speaker_falls_back_to_utterances():
    counts = corpus(100, 0.2)
    assert confidence_interval(counts, ["a"] * 100) == confidence_interval(counts)


def test_same_seed_same_bounds():
    counts = corpus(777, 0.3, length=97)
    assert confidence_interval(counts) == confidence_interval(counts)
    assert confidence_interval(counts, seed=1) != confidence_interval(counts)


def test_edges():
    assert confidence_interval([EditCounts(hits=5)] * 3) == (0.0, 0.0)
    assert confidence_interval([EditCounts(substitutions=5)]) == (1.0, 1.0)
    assert all(map(math.isnan, confidence_interval([])))
    assert all(map(math.isnan, confidence_interval([EditCounts(insertions=2)])))
    low, high = confidence_interval([EditCounts(), EditCounts(hits=1)])  # some draws have no reference token at all
    assert (low, high) == (0.0, 0.0)
    _, high = confidence_interval([EditCounts(hits=1, insertions=9)] * 4)
    assert high == 9.0


def test_probability_of_improvement_sees_what_intervals_dont():
    rng = np.random.default_rng(0)
    worse = corpus(400, 0.2)
    better = [
        EditCounts(hits=c.hits + 1, substitutions=c.substitutions - 1) if c.substitutions and rng.random() < 0.05 else c
        for c in worse
    ]
    assert confidence_interval(worse)[0] < EditCounts.total(better).rate, "the intervals overlap"
    assert probability_of_improvement(worse, better) > 0.99
    assert probability_of_improvement(better, worse) < 0.01


def test_equal_systems_get_one_half():
    counts = corpus(50, 0.2)
    assert probability_of_improvement(counts, counts) == 0.5
    assert probability_of_improvement([], []) == 0.5
    assert 0.01 < probability_of_improvement(corpus(3000, 0.2, seed=1), corpus(3000, 0.2, seed=2)) < 0.99


def test_100_000_utterances_take_seconds():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 40, 100_000)
    counts = [
        EditCounts(hits=int(n - e), substitutions=int(e))
        for n, e in zip(lengths, rng.binomial(lengths, 0.1), strict=True)
    ]
    started = time.process_time()
    low, high = confidence_interval(counts, [f"{n % 2000}" for n in range(100_000)])
    assert time.process_time() - started < 5.0
    assert low < 0.1 < high
