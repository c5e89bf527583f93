"""Is the difference between two systems on the same utterances more than chance?

- `paired_bootstrap`: interval and p-value of a difference of error rates (Bisani & Ney 2004), over speakers where there
  are enough of them (arXiv 1912.09508), else over utterances. Both systems get the same resample, so what is hard for
  both cancels. The percentiles are the expanded ones of Hesterberg 2015 (arXiv 1411.5279, section 3.3): plain ones are
  too narrow for few groups.
- `mapsswe`: matched pairs sentence-segment word error (Gillick & Cox 1989), as NIST's SCTK computes it.
- `holm`: correction where several systems are compared with one.

Rejected: McNemar's test on whole sentences, which sees no difference between 1 and 5 wrong words; comparing whether two
intervals overlap, which ignores the pairing and misses most differences.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechtune.evaluation.confidence import FEW_SPEAKERS, quantile_of_t
from speechtune.evaluation.edits import align

__all__ = ["Difference", "Mapsswe", "holm", "mapsswe", "num_groups_needed", "paired_bootstrap", "segment_errors"]

NUM_RESAMPLES = 10_000
MAX_DRAWS = 2 * 10**7  # groups times resamples; of more groups fewer resamples are drawn, but never under 2,000
MIN_GROUPS = 5  # below, resamples repeat each other: no interval
POWER = 0.8  # of the size that `num_groups_needed` estimates
MAX_ALIGNED = 25 * 10**6  # cells of one weighted alignment; longer recordings are aligned with equal weights
SUBSTITUTION, INSERTION, DELETION = 4, 3, 3  # sclite's weights
GOOD_WORDS = 2  # that close a segment: as SCTK's MIN_NUM_GOOD

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Difference:
    """Rate of B minus rate of A, such as -0.087: B makes 8.7 errors less in 100 tokens.

    Args:
        difference: nan where no reference has a token.
        low, high: 95 % interval; nan with fewer than `MIN_GROUPS` groups.
        p_value: two-sided; 1 where the systems make the same errors; nan as the interval.
        standard_error: of the difference.
        unit, groups: what was resampled, and how many of them: "speakers" or "utterances".
    """

    difference: float
    low: float
    high: float
    p_value: float
    standard_error: float
    unit: str
    groups: int


def paired_bootstrap(
    errors_a: ArrayLike,
    errors_b: ArrayLike,
    lengths: ArrayLike,
    *,
    speakers: Sequence[Hashable | None] | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Compare the error rates of two systems on the same utterances.

    Args:
        errors_a, errors_b: edits of each utterance, shape (N,).
        lengths: reference tokens of each utterance, shape (N,).
        speakers: of each utterance. With `FEW_SPEAKERS` known ones or more they are resampled; an utterance without one
            is a group of its own. Else utterances are resampled, and the result holds for these speakers.
        num_resamples: largest number of resamples.
        seed: of the random numbers; the same arguments give the same result.
    """
    extra = np.asarray(errors_b, dtype=np.float64) - np.asarray(errors_a, dtype=np.float64)
    tokens = np.asarray(lengths, dtype=np.float64)
    known = {speaker for speaker in speakers or () if speaker is not None}
    unit = "speakers" if len(known) >= FEW_SPEAKERS else "utterances"
    if unit == "speakers":
        assert speakers is not None
        numbers: dict[Hashable, int] = {}
        places = [numbers.setdefault((i,) if s is None else s, len(numbers)) for i, s in enumerate(speakers)]
        extra, tokens = (np.bincount(places, weights=values).astype(np.float64) for values in (extra, tokens))
    num_groups = len(extra)
    if not tokens.sum():
        return Difference(math.nan, math.nan, math.nan, math.nan, math.nan, unit, num_groups)
    difference = float(extra.sum() / tokens.sum())
    if num_groups < MIN_GROUPS:
        return Difference(difference, math.nan, math.nan, math.nan, math.nan, unit, num_groups)
    if not extra.any():
        return Difference(0.0, 0.0, 0.0, 1.0, 0.0, unit, num_groups)
    count = min(num_resamples, max(2_000, MAX_DRAWS // num_groups))
    found = _resampled(extra, tokens, count, np.random.default_rng(seed))
    # A sample's spread is too small by sqrt((G-1)/G), and its tails are the normal's instead of Student's.
    spread = math.sqrt(num_groups / (num_groups - 1))
    tail = _NORMAL.cdf(-spread * quantile_of_t(num_groups - 1))
    low, high = np.quantile(found, [tail, 1 - tail])
    below = (np.count_nonzero(found < 0) + np.count_nonzero(found == 0) / 2) / count
    share = max(min(below, 1 - below), 0.5 / count)
    p_value = 2 * _student_cdf(_NORMAL.inv_cdf(share) / spread, num_groups - 1)
    return Difference(
        difference, float(low), float(high), min(1.0, p_value), float(found.std()) * spread, unit, num_groups
    )


def _resampled(
    extra: NDArray[np.float64], tokens: NDArray[np.float64], count: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Return the difference of rates in `count` resamples of the groups, shape (count,)."""
    found = []
    size = max(1, 10**6 // len(extra))
    for start in range(0, count, size):
        drawn = random.integers(0, len(extra), (min(size, count - start), len(extra)), dtype=np.int32)
        found.append(extra[drawn].sum(axis=1) / np.maximum(tokens[drawn].sum(axis=1), 1))
    return np.concatenate(found)


def _student_cdf(t: float, degrees: int) -> float:
    """Return the probability of a value under `t` of Student's t (Abramowitz & Stegun 26.7.3 and 26.7.4)."""
    if degrees > 300:
        return _NORMAL.cdf(t)
    angle = math.atan2(t, math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, degrees, 2):
        total += term
        term *= cosine**2 * k / (k + 1)
    between = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return (1 + between) / 2


def num_groups_needed(difference: Difference) -> int | None:
    """Return how many groups would show the measured difference, if it is real, four times in five.

    The variance of a mean falls with the number of groups, so with 80 % power at the 5 % level N = G ((z(.975) + z(.8))
    SE / difference)^2 (Cohen 1988). Rounded to two digits; None where no difference was measured.
    """
    if not (difference.difference and difference.standard_error > 0):
        return None
    effect = difference.difference / difference.standard_error
    number = difference.groups * ((_NORMAL.inv_cdf(0.975) + _NORMAL.inv_cdf(POWER)) / effect) ** 2
    digits = max(0, math.floor(math.log10(max(number, 1))) - 1)
    return math.ceil(number / 10**digits) * 10**digits


@dataclass(frozen=True, slots=True)
class Mapsswe:
    """Result of `mapsswe`.

    Args:
        segments: stretches with an error of either system; under 50 the normal approximation is poor.
        mean: errors of A minus errors of B, by segment.
        z: of the mean; 0 where all segments have the same difference.
        p_value: two-sided.
    """

    segments: int
    mean: float
    z: float
    p_value: float


def mapsswe(segments: Iterable[tuple[int, int]]) -> Mapsswe:
    """Test whether the errors in each segment differ by chance, as SCTK's mtchprs.c does.

    Args:
        segments: (errors of A, errors of B) of each segment with an error, of `segment_errors`.
    """
    differences = [a - b for a, b in segments]
    count = len(differences)
    mean = sum(differences) / count if count else 0.0
    squares = math.fsum((d - mean) ** 2 for d in differences)
    z = mean / math.sqrt(squares / (count - 1) / count) if squares else 0.0
    return Mapsswe(count, mean, z, 2 * _NORMAL.cdf(-abs(z)))


def segment_errors(
    reference: Sequence[str], hypothesis_a: Sequence[str], hypothesis_b: Sequence[str]
) -> list[tuple[int, int]]:
    """Return the errors of A and B in each segment of an utterance: stretches that may be taken as independent.

    A segment ends after two words in a row that both systems have right, and at the end of the utterance; segments
    without an error are none.

    Args:
        reference, hypothesis_a, hypothesis_b: words.
    """
    errors = [_errors_by_word(reference, hypothesis) for hypothesis in (hypothesis_a, hypothesis_b)]
    segments: list[tuple[int, int]] = []
    found, num_good = [0, 0], 0
    for place in range(len(reference) + 1):
        inserted = [insertions[place] for _, insertions in errors]
        wrong = [place < len(reference) and is_wrong[place] for is_wrong, _ in errors]
        found = [sum(counts) for counts in zip(found, inserted, wrong, strict=True)]
        num_good = 0 if any(wrong) else 1 if any(inserted) else num_good + 1
        if num_good >= GOOD_WORDS or place == len(reference):
            if any(found):
                segments.append((found[0], found[1]))
            found = [0, 0]
    return segments


def _errors_by_word(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[list[bool], list[int]]:
    """Return whether each reference word is wrong, shape (N,), and the insertions before each and at the end (N+1)."""
    wrong, insertions = [False] * len(reference), [0] * (len(reference) + 1)
    same, shorter = 0, min(len(reference), len(hypothesis))
    while same < shorter and reference[-1 - same] == hypothesis[-1 - same]:
        same += 1  # at the end, where sclite's choice among equally cheap alignments begins: exact, and faster
    ref, hyp = reference[: len(reference) - same], hypothesis[: len(hypothesis) - same]
    steps = _weighted_steps(ref, hyp) if len(ref) * len(hyp) <= MAX_ALIGNED else [op.kind for op in align(ref, hyp)]
    place = 0
    for kind in steps:
        if kind == "insertion":
            insertions[place] += 1
        else:
            wrong[place] = kind != "hit"
            place += 1
    return wrong, insertions


def _weighted_steps(reference: Sequence[str], hypothesis: Sequence[str]) -> list[str]:
    """Return the kinds of the steps of the alignment with the smallest sum of sclite's weights, first to last.

    Where several are equally cheap it is sclite's: from the end, a pair before an insertion before a deletion.
    """
    numbers: dict[str, int] = {}
    ref = [numbers.setdefault(word, len(numbers)) for word in reference]
    hyp = np.array([numbers.setdefault(word, len(numbers)) for word in hypothesis], dtype=np.int32)
    steps = np.arange(len(hyp) + 1, dtype=np.int32) * INSERTION
    costs = np.empty((len(ref) + 1, len(hyp) + 1), dtype=np.int32)
    costs[0] = steps
    for i, word in enumerate(ref):
        row = costs[i] + DELETION
        row[1:] = np.minimum(row[1:], costs[i, :-1] + np.where(hyp == word, 0, SUBSTITUTION))
        costs[i + 1] = np.minimum.accumulate(row - steps) + steps  # insertions within the row
    kinds = []
    i, j = len(ref), len(hyp)
    while i or j:
        cost = costs[i, j]
        if i and j and cost == costs[i - 1, j - 1] + (0 if ref[i - 1] == hyp[j - 1] else SUBSTITUTION):
            kinds.append("hit" if ref[i - 1] == hyp[j - 1] else "substitution")
            i, j = i - 1, j - 1
        elif j and cost == costs[i, j - 1] + INSERTION:
            kinds.append("insertion")
            j -= 1
        else:
            kinds.append("deletion")
            i -= 1
    return kinds[::-1]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number (Holm 1979), in the same order; nan stays and is not counted."""
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    adjusted = list(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
