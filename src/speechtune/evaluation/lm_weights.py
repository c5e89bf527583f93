"""Find the weights of a language model by which the fewest words of a validation split are wrong.

A search gives many texts of each utterance. For any weights it can be computed which of them would win, and thus how
many words would be wrong: minimum error rate training (Och 2003, "Minimum Error Rate Training in Statistical Machine
Translation"), here on a grid. Other weights find other texts, so search and grid alternate.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from speechtune.decoding.fusion import Fusion, Weights
from speechtune.evaluation.metrics.wer import word_edits

__all__ = ["Tuned", "tune"]

ALPHAS = np.arange(0, 2.01, 0.1)
BETAS = np.arange(-1, 4.01, 0.5)
UNKNOWNS = (-10.0, -5.0, -2.0, 0.0)
MAX_ROUNDS = 4

Beams = Mapping[str, float]  # text -> log probability by the model alone


@dataclass(frozen=True, slots=True)
class Tuned:
    """The best weights of all that were searched with, and the words that were wrong."""

    weights: Weights
    errors: int


def tune(
    search: Callable[[Weights], Sequence[Beams]],
    fusion: Fusion,
    references: Sequence[str],
    *,
    normalise: Callable[[str], str] = str,
    words_of: Callable[[str], str] = str,
) -> Tuned:
    """Alternate search and grid until the grid finds nothing new.

    Args:
        search: returns the texts of each utterance that a search with these weights keeps, best first.
        fusion: language model and hot words.
        references: one an utterance, in words as `words_of` returns them.
        normalise: makes of a text what the language model was built from.
        words_of: makes of a text what is scored, with spaces between its words.
    """
    pools = [_Pool(reference, fusion, normalise, words_of) for reference in references]
    weights, seen = fusion.weights, set()
    best = Tuned(weights, 10**12)
    for _ in range(MAX_ROUNDS):
        seen.add(weights)
        errors = 0
        for pool, beams in zip(pools, search(weights), strict=True):
            errors += pool.add(beams)
        if errors < best.errors:
            best = Tuned(weights, errors)
        weights = _best_on_grid(pools)
        if weights in seen:
            break
    return best


class _Pool:
    """All texts that were found of one utterance: what they score, and how many of their words are wrong."""

    def __init__(
        self, reference: str, fusion: Fusion, normalise: Callable[[str], str], words_of: Callable[[str], str]
    ) -> None:
        self.reference, self.fusion, self.normalise, self.words_of = reference, fusion, normalise, words_of
        self.rows: dict[str, tuple[float, ...]] = {}  # text -> log probability, features, errors

    def add(self, beams: Beams) -> int:
        """Add texts, best first; return the errors of the first."""
        for text, log_prob in beams.items():
            if text in self.rows and self.rows[text][0] >= log_prob:
                continue
            errors = word_edits(self.reference, self.words_of(text)).edits
            self.rows[text] = (log_prob, *self.fusion.features(self.normalise(text)), errors)
        return int(self.rows[next(iter(beams))][-1]) if beams else len(self.reference.split())


def _best_on_grid(pools: Sequence[_Pool]) -> Weights:
    """Return the weights with the fewest errors; of several, those in the middle."""
    grid = np.array([*itertools.product(ALPHAS, BETAS, UNKNOWNS)])
    errors = np.zeros(len(grid))
    for pool in pools:
        if pool.rows:
            rows = np.array(list(pool.rows.values()))
            scores = rows[:, :1] + rows[:, 4:5] + rows[:, 1:4] @ grid.T
            errors += rows[scores.argmax(axis=0), 5]
    best = grid[errors == errors.min()]
    middle = best[np.abs((best - best.mean(axis=0)) / grid.std(axis=0)).sum(axis=1).argmin()]
    return Weights(*(round(float(value), 3) for value in middle))
