"""Interpolated modified Kneser-Ney probabilities of n-grams, as KenLM's lmplz estimates them.

Sources: Chen & Goodman 1998, "An Empirical Study of Smoothing Techniques for Language Modeling", section 3 (equation
26: discounts); Heafield et al. 2013, "Scalable Modified Kneser-Ney Language Model Estimation". As in lmplz, an n-gram
below the highest order counts the different words before it, but one that starts a sentence its occurrences; the
unigrams are interpolated with a uniform distribution over the vocabulary, <unk> and </s> included; an n-gram is pruned
by its occurrences, after the discounts were computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechtune.text.ngrams.counts import BEGIN, UNKNOWN

__all__ = ["FALLBACK", "Ngrams", "Order", "discounts", "estimate"]

FALLBACK = (0.5, 1.0, 1.5)  # discounts of a text too small or too regular to estimate them: lmplz --discount_fallback
NEVER = -99.0  # log10 of the probability of <s>, as ARPA files write it

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """N-grams of one order.

    Args:
        rows: word ids, (M, n).
        log10: of the probability of the last word after the others, (M,).
        backoff: log10 of the weight of shorter contexts after this n-gram, (M,).
    """

    rows: NDArray[np.int32]
    log10: Floats
    backoff: Floats


@dataclass(frozen=True)
class Ngrams:
    """A back-off model as an ARPA file holds it.

    Args:
        words: by id. Each has a unigram.
        orders: unigrams, bigrams, ...
        notes: one line each: what the estimation had to assume.
    """

    words: list[str]
    orders: list[Order]
    notes: tuple[str, ...] = ()


@dataclass
class _Counted:
    """N-grams of one order: `context` and `suffix` are indices into the order below."""

    rows: NDArray[np.int32]
    count: Ints  # adjusted
    occurrences: Ints
    suffix: Ints
    context: Ints
    probability: Any = None
    backoff: Any = None


def estimate(words: list[str], rows: NDArray[np.int32], counts: Ints, *, prune: Sequence[int] = ()) -> Ngrams:
    """Estimate a model from the n-grams of the highest order, as `count_ngrams` returns them.

    Args:
        prune: for each order, n-grams that occur this often or less are removed; the last number is for the orders
            above too; they do not fall, and unigrams stay.
    """
    order = rows.shape[1]
    thresholds = [0, *[prune[min(n, len(prune) - 1)] if prune else 0 for n in range(1, order)]]
    levels = _levels(rows, counts, num_words=len(words))
    small: list[int] = []
    lower: _Counted | None = None
    for n, level in enumerate(levels, start=1):
        amounts, missing = discounts(level.count)
        if missing and len(level.rows):
            small.append(n)
        kept = (level.occurrences > thresholds[n - 1]) | (n == 1)
        _interpolate(level, lower, amounts, kept, uniform=1 / (len(words) - 1))
        lower = level
    orders = []
    for n, level in enumerate(levels, start=1):
        kept = (level.occurrences > thresholds[n - 1]) | (n == 1)
        backoff = np.ones(len(level.rows)) if level.backoff is None else level.backoff
        with np.errstate(divide="ignore"):
            log10 = np.log10(level.probability[kept])
        if n == 1:
            log10[BEGIN] = NEVER
        orders.append(Order(level.rows[kept], log10, np.log10(backoff[kept])))
    notes = (f"too few n-grams of {', '.join(map(str, small))} words to estimate discounts: {FALLBACK} are used",)
    return Ngrams(words, orders, notes if small else ())


def discounts(count: Ints) -> tuple[tuple[float, float, float], int]:
    """Return what is subtracted from the counts 1, 2, and 3 or more; and 0, or the count that no n-gram has.

    Source: Chen & Goodman 1998, equation 26. Without n-grams of one of the counts 1 to 4, or where the result is out of
    range, FALLBACK.
    """
    n = np.bincount(np.minimum(count, 5), minlength=6).tolist()
    missing = next((j for j in range(1, 5) if n[j] == 0), 0)
    if missing:
        return FALLBACK, missing
    y = n[1] / (n[1] + 2 * n[2])
    amounts = (1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3])
    wrong = next((j for j, amount in enumerate(amounts, start=1) if not 0 <= amount <= j), 0)
    return (FALLBACK, wrong) if wrong else (amounts, 0)


def _levels(rows: NDArray[np.int32], counts: Ints, *, num_words: int) -> list[_Counted]:
    """Return the n-grams of all orders with their adjusted counts."""
    highest = rows.shape[1]
    begins = [np.zeros(len(rows), bool)]  # of the runs of rows that share their last n words, n = 0, 1, ...
    begins[0][0] = True
    for n in range(1, highest + 1):
        column = rows[:, highest - n]
        begins.append(begins[-1] | np.concatenate([[True], column[1:] != column[:-1]]))
    levels = [_unigrams(rows, counts, begins, num_words)]
    place = np.asarray(rows[:, -1], np.int64)  # index of each row's suffix in the level below
    for n in range(2, highest + 1):
        at = np.flatnonzero(begins[n])
        grams = rows[at, highest - n :]
        occurrences = np.add.reduceat(counts, at)
        count = occurrences
        if n < highest:  # the different words before it
            continuations = np.add.reduceat(begins[n + 1].astype(np.int64), at)
            count = np.where(grams[:, 0] == BEGIN, occurrences, continuations)
        real = grams[:, 1] != BEGIN  # "<s> <s> a" is "<s> a", which is in the level below
        level = _Counted(grams[real], count[real], occurrences[real], place[at][real], np.zeros(0, np.int64))
        levels.append(level)
        new = np.cumsum(real) - 1
        place = new[np.cumsum(begins[n]) - 1]
    _find_contexts(levels, num_words)
    return levels


def _unigrams(rows: NDArray[np.int32], counts: Ints, begins: list[NDArray[np.bool_]], num_words: int) -> _Counted:
    """Return all words by id. <unk> and <s> have the count 0."""
    at = np.flatnonzero(begins[1])
    occurrences, count = np.zeros(num_words, np.int64), np.zeros(num_words, np.int64)
    occurrences[rows[at, -1]] = np.add.reduceat(counts, at)
    count[rows[at, -1]] = np.add.reduceat(begins[2].astype(np.int64) if len(begins) > 2 else counts, at)
    nothing = np.zeros(num_words, np.int64)
    return _Counted(np.arange(num_words, dtype=np.int32)[:, None], count, occurrences, nothing, nothing)


def _find_contexts(levels: list[_Counted], num_words: int) -> None:
    """Set each n-gram's context: the index of its words but the last in the level below."""
    sorted_keys: list[tuple[Ints, Ints]] = []  # of levels 2, 3, ...
    for level in levels[1:]:
        found = level.rows[:, 0].astype(np.int64)
        for (keys, places), word in zip(sorted_keys, level.rows.T[1:-1], strict=True):
            found = places[np.searchsorted(keys, found * num_words + word)]
        level.context = found
        keys = found * num_words + level.rows[:, -1]
        places = np.argsort(keys, kind="stable")
        sorted_keys.append((keys[places], places))


def _interpolate(
    level: _Counted, lower: _Counted | None, amounts: Sequence[float], kept: NDArray[np.bool_], *, uniform: float
) -> None:
    """Set the probabilities of a level and the back-off weights of the one below."""
    num_contexts = 1 if lower is None else len(lower.rows)
    discount = np.array([0.0, *amounts])[np.minimum(level.count, 3)]
    total = np.bincount(level.context, level.count, minlength=num_contexts)
    saved = np.bincount(level.context, np.where(kept, discount, level.count), minlength=num_contexts)
    weight = np.divide(saved, total, out=np.ones(num_contexts), where=total > 0)
    below = np.full(len(level.rows), uniform) if lower is None else lower.probability[level.suffix]
    share = (level.count - discount) / total[level.context]
    level.probability = share + weight[level.context] * below
    if lower is not None:
        lower.backoff = weight


assert UNKNOWN == 0 and BEGIN == 1  # the rows of the unigrams are the ids
