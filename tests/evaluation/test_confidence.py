"""95 % intervals: against theory, by simulated coverage, and at the edges."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from speechtune.evaluation.confidence import confidence_interval
from speechtune.types import EditCounts


def corpus(num_utterances: int, rate: float, *, seed: int = 0, length: int = 10) -> list[EditCounts]:
    edits = np.random.default_rng(seed).binomial(length, rate, num_utterances)
    return [EditCounts(hits=length - int(e), substitutions=int(e)) for e in edits]


def bounds(counts: list[EditCounts], speakers: list[str | None] | None = None) -> tuple[float, float]:
    interval = confidence_interval(counts, speakers)
    return interval.low, interval.high


def test_interval_is_as_wide_as_theory_says():
    counts = corpus(2000, 0.2)
    rate = EditCounts.total(counts).rate
    low, high = bounds(counts)
    assert low < rate < high
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.2 * 0.8 / 20_000), rel=0.05)


def test_interval_over_utterances_is_that_of_the_bootstrap():
    rng = np.random.default_rng(1)
    lengths = rng.integers(0, 30, 300)
    edits = rng.binomial(lengths, 0.3)
    counts = [EditCounts(hits=int(n - e), deletions=int(e)) for n, e in zip(lengths, edits, strict=True)]
    drawn = rng.integers(0, 300, (4000, 300))
    expected = np.quantile(edits[drawn].sum(1) / lengths[drawn].sum(1), [0.025, 0.975])
    assert bounds(counts) == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize("num_speakers", [2, 5, 10, 24])
def test_interval_covers_the_rate_of_other_speakers_as_often_as_it_claims(num_speakers: int):
    rng = np.random.default_rng(num_speakers)
    covered = 0
    for _ in range(300):
        rates = rng.beta(3, 12, num_speakers)  # 20 % on average, standard deviation 10 %
        edits = rng.binomial(100, rates)
        counts = [EditCounts(hits=100 - int(e), substitutions=int(e)) for e in edits]
        low, high = bounds(counts, [str(n) for n in range(num_speakers)])
        covered += low <= 0.2 <= high
    assert 0.91 <= covered / 300 <= 0.98


def test_speakers_with_different_rates_make_the_interval_wider():
    rng = np.random.default_rng(0)
    counts, speakers = [], []
    for speaker in range(20):
        rate = rng.uniform(0.0, 0.5)
        for edits in rng.binomial(10, rate, 50):
            counts.append(EditCounts(hits=10 - int(edits), insertions=0, substitutions=int(edits)))
            speakers.append(f"speaker {speaker}")
    (low, high), (low_by_speaker, high_by_speaker) = bounds(counts), bounds(counts, speakers)
    assert high_by_speaker - low_by_speaker > 2 * (high - low)


def test_the_unit_is_named_and_unknown_or_single_speakers_are_no_speakers():
    counts = corpus(100, 0.2)
    plain = confidence_interval(counts)
    assert (plain.unit, plain.groups) == ("utterances", 100)
    assert confidence_interval(counts, [None] * 100) == confidence_interval(counts, ["a"] * 100) == plain
    two = confidence_interval(counts, ["a", "b"] * 50)
    assert (two.unit, two.groups) == ("speakers", 2)
    partly = confidence_interval(counts, ["a"] * 40 + ["b"] * 40 + [None] * 20)
    assert (partly.unit, partly.groups) == ("speakers", 22)


def test_edges():
    assert bounds([EditCounts(hits=5)] * 3) == (0.0, 0.0)
    assert bounds([EditCounts(substitutions=5)]) == (1.0, 1.0)
    assert all(map(math.isnan, bounds([])))
    assert all(map(math.isnan, bounds([EditCounts(insertions=2)])))
    assert bounds([EditCounts(), EditCounts(hits=1)]) == (0.0, 0.0)
    assert bounds([EditCounts(hits=1, insertions=9)] * 4) == (9.0, 9.0)
    low, high = bounds([*corpus(2, 0.1, length=5), EditCounts(hits=5)])
    assert low == 0.0 <= high


def test_100_000_utterances_take_seconds():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 40, 100_000)
    counts = [
        EditCounts(hits=int(n - e), substitutions=int(e))
        for n, e in zip(lengths, rng.binomial(lengths, 0.1), strict=True)
    ]
    started = time.process_time()
    low, high = bounds(counts, [f"{n % 2000}" for n in range(100_000)])
    assert time.process_time() - started < 5.0
    assert low < 0.1 < high
