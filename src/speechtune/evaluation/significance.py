"""How sure a corpus' error rate is, and whether one system beats another: the bootstrap.

A corpus' rate is a ratio of sums, so whole utterances are drawn with replacement, their edits and lengths are summed,
and the rate of the sums is taken. Utterances of one speaker err alike; where speakers are known, speakers are drawn.
Source: Bisani & Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance evaluation".

Drawing N utterances with replacement means drawing how often each *distinct* pair (edits, length) comes up: a
multinomial draw over a few hundred kinds, however large the corpus. So 100,000 utterances take milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from speechtune.types import EditCounts

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["confidence_interval", "probability_of_improvement"]

NUM_RESAMPLES = 2000
_MAX_DRAWN = 8_000_000  # numbers held at once


def confidence_interval(
    counts: Sequence[EditCounts],
    groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Bounds between which the corpus' rate lies, had other utterances (or speakers) of the same kind been recorded.

    Args:
        counts: one for each utterance, shape (N,).
        groups: the speaker of each utterance, shape (N,); an utterance whose speaker is None is its own group. With
            fewer than two groups nothing is known about other speakers, and utterances are drawn.
        seed: of the draws; the same counts and seed give the same bounds.
        level: share of the resampled rates between the bounds.

    Returns:
        (low, high), as rates (0.25 is 25 %); (nan, nan) if no reference has a token.
    """
    assert 0 < level < 1, level
    sums = _sums_of_groups(_edits_and_lengths(counts), groups)
    if not sums[:, 1].sum():
        return math.nan, math.nan
    edits, lengths = _resampled(sums, seed).T
    rates = edits[lengths > 0] / lengths[lengths > 0]  # few utterances, some with an empty reference: no length drawn
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def probability_of_improvement(
    counts_a: Sequence[EditCounts],
    counts_b: Sequence[EditCounts],
    groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
) -> float:
    """How probable it is that system B makes fewer edits than system A on utterances of this kind.

    Both recognised the same utterances, which are drawn together: that sees differences far smaller than the systems'
    confidence intervals. Draws in which both make equally many edits count half, so equal systems get 0.5.

    Args:
        counts_a: of the system compared with, one for each utterance, shape (N,).
        counts_b: of the system hoped to be better, the same utterances in the same order.
        groups: as in `confidence_interval`.
        seed: of the draws.

    Returns:
        Between 0 and 1; above 0.95 is what is usually called significant.

    Source: Bisani & Ney 2004, section 4.
    """
    assert len(counts_a) == len(counts_b), (len(counts_a), len(counts_b))
    if not counts_a:
        return 0.5
    difference = _edits_and_lengths(counts_b)[:, :1] - _edits_and_lengths(counts_a)[:, :1]
    drawn = _resampled(_sums_of_groups(difference, groups), seed)[:, 0]
    return float(np.mean(drawn < 0) + np.mean(drawn == 0) / 2)


def _edits_and_lengths(counts: Sequence[EditCounts]) -> npt.NDArray[np.int64]:
    """Edits and reference length of each utterance, (N, 2)."""
    return np.array([(count.edits, count.reference_length) for count in counts], np.int64).reshape(-1, 2)


def _sums_of_groups(values: npt.NDArray[np.int64], groups: Sequence[Hashable] | None) -> npt.NDArray[np.int64]:
    """Sum the rows (N, C) over each group, (num_groups, C)."""
    if groups is None:
        return values
    assert len(groups) == len(values), (len(groups), len(values))
    numbers: dict[Hashable, int] = {}
    rows = [
        numbers.setdefault(("utterance", position) if group is None else ("group", group), len(numbers))
        for position, group in enumerate(groups)
    ]
    if len(numbers) < 2:
        return values
    sums = np.zeros((len(numbers), values.shape[1]), np.int64)
    np.add.at(sums, rows, values)
    return sums


def _resampled(values: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.float64]:
    """Sums of the rows (N, C) over draws of N rows with replacement, (NUM_RESAMPLES, C)."""
    kinds, repeats = np.unique(values, axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    step = max(1, _MAX_DRAWN // len(kinds))
    drawn = [
        generator.multinomial(len(values), repeats / len(values), size=min(step, NUM_RESAMPLES - start)) @ kinds
        for start in range(0, NUM_RESAMPLES, step)
    ]
    return np.concatenate(drawn).astype(np.float64)
