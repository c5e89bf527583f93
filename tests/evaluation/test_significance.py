"""Significance: equal systems are found equal, differences as often as theory says, MAPSSWE is SCTK's."""

from __future__ import annotations

import math
import random
from statistics import NormalDist

import numpy as np
import pytest

from speechtune.evaluation.significance import (
    Difference,
    holm,
    mapsswe,
    num_groups_needed,
    paired_bootstrap,
    segment_errors,
)

NORMAL = NormalDist()


def noisy(words: list[str], rate: float, voices: list[str], rng: random.Random) -> list[str]:
    heard = []
    for word in words:
        draw = rng.random()
        if draw >= 0.8 * rate:
            heard.append(word)
        elif draw < 0.6 * rate:
            heard.append(voices[int(rng.random() * len(voices))])
        if rng.random() < 0.2 * rate:
            heard.append(voices[int(rng.random() * len(voices))])
    return heard


def test_mapsswe_of_the_test_data_of_sctk():
    # src/sclite/testdata/file1.sgml and file2.sgml; "ha" is their fragment, which SCTK counts as right
    texts = (
        "yeah how do we handle how do we ha address that",
        "yeah but we have not had we ha that s. a.",
        "yeah but we have not and we ha that's right",
    )
    segments = segment_errors([], ["s."], []) + segment_errors(*(text.split() for text in texts))
    assert segments == [(1, 0), (5, 5), (3, 2)]
    result = mapsswe(segments)
    assert (result.segments, round(result.mean, 3), result.z) == (3, 0.667, pytest.approx(2.0))
    assert result.p_value == pytest.approx(0.0455, abs=1e-4)


@pytest.mark.parametrize(("num_words", "expected"), [(3, (92, 0.380, 3.596)), (40, (80, 0.537, 3.298))])
def test_mapsswe_of_sctk_2_4_10_where_alignments_are_ambiguous(num_words, expected):
    """Values of `sclite -i spu_id -o sgml -s` and `sc_stats -p -t mapsswe` on the same texts."""
    rng = random.Random(num_words)
    voices = [f"w{i}" for i in range(num_words)]
    segments = []
    for _ in range(60):
        reference = [voices[int(rng.random() * num_words)] for _ in range(1 + int(rng.random() * 14))]
        segments += segment_errors(reference, noisy(reference, 0.3, voices, rng), noisy(reference, 0.2, voices, rng))
    result = mapsswe(segments)
    assert (result.segments, result.mean, result.z) == pytest.approx(expected, abs=0.001)  # it prints three digits


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("a b c d e", "a b c d e", "a b c d e"), []),
        (("a b c d e", "x b c d y", "a b c d e"), [(1, 0), (1, 0)]),  # two right words close a segment
        (("a b c", "x b y", "a b c"), [(2, 0)]),  # one does not
        (("a b c d", "x b q c d", "a b c d"), [(2, 0)]),  # an insertion between two right words neither
        (("a b c d", "a b c d e", "z b c d"), [(0, 1), (1, 0)]),
    ],
)
def test_segments_end_after_two_words_that_both_have_right(texts, expected):
    assert segment_errors(*(text.split() for text in texts)) == expected


def test_segments_without_any_variance_say_nothing():
    assert mapsswe([(1, 0), (2, 1)]).z == 0 and mapsswe([(1, 0), (2, 1)]).p_value == 1
    assert (mapsswe([]).segments, mapsswe([]).p_value) == (0, 1.0)


def two_systems(rng, num_speakers, by_speaker, *, better=0.0):
    """Errors of two systems with the same expected rate in a population of speakers, each better with some of them."""
    lengths = rng.poisson(8, (num_speakers, by_speaker)) + 1
    rate = 0.2 * np.exp(rng.normal(0, 0.5, (num_speakers, 1)))
    rates = [np.clip(rate * np.exp(rng.normal(0, 0.3, rate.shape)), 0, 0.9) for _ in "ab"]
    a, b = (rng.binomial(lengths, r) for r in (rates[0], np.clip(rates[1] - better, 0, 1)))
    return a.ravel(), b.ravel(), lengths.ravel(), np.repeat(np.arange(num_speakers), by_speaker).tolist()


@pytest.mark.parametrize(("num_speakers", "by_speaker", "known"), [(12, 10, True), (30, 1, False), (8, 4, False)])
def test_equal_systems_differ_in_5_of_100_draws(num_speakers, by_speaker, known):
    # 1,000 draws: a share of 95 % has a standard error of 0.7 points, so 93 to 97 % is three of them.
    rng = np.random.default_rng(7)
    equal = 0
    for _ in range(1_000):
        a, b, lengths, speakers = two_systems(rng, num_speakers, by_speaker if known else 1)
        found = paired_bootstrap(a, b, lengths, speakers=speakers if known else None, num_resamples=1_000)
        assert found.unit == ("speakers" if known else "utterances")
        equal += found.p_value > 0.05
    assert 930 <= equal <= 970


def test_one_point_is_found_as_often_as_theory_says():
    rng = np.random.default_rng(3)
    num, sd = 100, 0.045  # of the difference in errors by word
    lengths = np.full(num, 10)
    power = NORMAL.cdf(0.01 / (sd / math.sqrt(num)) - NORMAL.inv_cdf(0.975))
    found = 0
    for _ in range(500):
        a = np.full(num, 50.0)  # any size: only the difference counts
        b = a - 0.1 + rng.normal(0, 10 * sd, num)
        found += paired_bootstrap(a, b, lengths, num_resamples=1_000).p_value < 0.05
    assert power == pytest.approx(0.604, abs=0.001)
    assert found / 500 == pytest.approx(power, abs=0.065)  # three standard errors


def test_the_number_needed_gives_80_of_100():
    found = paired_bootstrap(np.full(50, 2), np.tile([1, 3, 1, 2, 2], 10), np.full(50, 10))
    needed = num_groups_needed(found)
    assert found.difference == pytest.approx(-0.02)
    error = found.standard_error * math.sqrt(50 / needed)
    assert NORMAL.cdf(0.02 / error - NORMAL.inv_cdf(0.975)) == pytest.approx(0.8, abs=0.03)  # two digits, rounded up
    assert needed % 10 == 0
    assert num_groups_needed(paired_bootstrap([1] * 9, [1] * 9, [5] * 9)) is None


def test_interval_and_p_value_agree_and_stay_the_same():
    a, b, lengths, speakers = two_systems(np.random.default_rng(0), 12, 4, better=0.08)
    found = paired_bootstrap(a, b, lengths, speakers=speakers)
    assert found == paired_bootstrap(a, b, lengths, speakers=speakers)
    assert (found.unit, found.groups) == ("speakers", 12)
    assert found.low < found.difference == (b - a).sum() / lengths.sum() < found.high < 0
    assert found.p_value < 0.05
    swapped = paired_bootstrap(b, a, lengths, speakers=speakers)
    assert swapped.low == pytest.approx(-found.high) and swapped.p_value == pytest.approx(found.p_value)


def test_few_speakers_are_not_resampled_and_unknown_ones_are_groups_of_their_own():
    errors = [1, 0, 2, 0, 1, 0, 3, 1, 0, 2]
    few = paired_bootstrap(errors, errors[::-1], [5] * 10, speakers=["a", "b"] * 5)
    assert (few.unit, few.groups) == ("utterances", 10)
    mixed = paired_bootstrap(errors * 2, errors[::-1] * 2, [5] * 20, speakers=[*"abcdefghij", *[None] * 10])
    assert (mixed.unit, mixed.groups) == ("speakers", 20)


def test_what_can_not_be_judged_is_nan():
    four = paired_bootstrap([1, 2, 0, 1], [0, 0, 0, 0], [5] * 4)
    assert four.difference == -0.2 and math.isnan(four.low) and math.isnan(four.p_value)
    assert math.isnan(paired_bootstrap([1] * 9, [0] * 9, [0] * 9).difference)
    assert paired_bootstrap([1] * 9, [1] * 9, [5] * 9) == Difference(0.0, 0.0, 0.0, 1.0, 0.0, "utterances", 9)


def test_the_chance_of_improvement_is_that_of_kaldialign():
    kaldialign = pytest.importorskip("kaldialign")
    rng = random.Random(5)
    voices = [f"w{i}" for i in range(50)]
    references = [[voices[int(rng.random() * 50)] for _ in range(8)] for _ in range(80)]
    first, second = ([noisy(ref, rate, voices, rng) for ref in references] for rate in (0.3, 0.25))
    edits = [
        [kaldialign.edit_distance(r, h)["total"] for r, h in zip(references, hyps, strict=True)]
        for hyps in (first, second)
    ]
    oracle = kaldialign.bootstrap_wer_ci(references, first, second, replications=10_000)["p_s2_improv_over_s1"]
    ours = paired_bootstrap(*edits, [8] * 80)
    # Its one-sided share, made two-sided; our spread is 1/160 wider, and both are counts of 10,000 draws.
    assert ours.p_value == pytest.approx(2 * (1 - oracle), abs=0.02)


def test_holm_multiplies_by_the_number_of_comparisons_left():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    adjusted = holm([0.02, math.nan])
    assert adjusted[0] == 0.02 and math.isnan(adjusted[1])
