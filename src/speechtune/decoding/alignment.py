"""Words of a text to their places in a recording of hours, by a CTC model (Viterbi).

The text is a chain of words with gaps between them:

    gap 0 - word 0 - gap 1 - word 1 - ... - gap n

A word is its labels with optional blanks between them, as in CTC (Graves et al. 2006); a gap is blanks and delimiters.
What is said without being in the text is a *star* beside a gap, which matches any label: as in MMS (Pratap et al. 2023,
"Scaling Speech Technology to 1,000+ Languages", section 4), but for the price of STAR_PER_S, or it would take speech
that the text has. What is in the text without being said is skipped, from a gap to a later one, for SKIP_PER_LABEL.

Memory is linear: the scores of two frames, and those of every sqrt(T)-th, from which the block after it is computed
again on the way back. States whose score is MAX_GAP below the best one's are not followed.

Rejected: `torchaudio.functional.forced_align` (memory is frames times labels: 18 GB for an hour; nothing can be
skipped), `ctc-segmentation` (no wheels, the same memory in a band).

Legend: T frames, S states of the chain, W words.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Emissions", "Place", "align_words"]

STAR_ENTRY = 5.0  # price of a stretch that is not in the text, in nats
STAR_PER_S = 15.0
SKIP_PER_LABEL = 3.0  # price of text that is not said: a said word costs as much when half of it is misheard
MAX_GAP = 60_000.0  # 20,000 labels that are not said, about 20 minutes
NEVER = np.float32(-1e30)

STAY, FROM_PREVIOUS, OVER_BLANK, FROM_STAR = range(4)


@dataclass(frozen=True, slots=True)
class Emissions:
    """Log probabilities of the labels that a text has.

    Args:
        log_probs: (T, K) of K labels.
        best: (T,) of the most probable label of all.
        frame_s: seconds from one frame to the next.
    """

    log_probs: NDArray[np.float32]
    best: NDArray[np.float32]
    frame_s: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where a word is: its first frame, the one after its last, and the geometric mean of its labels' probabilities."""

    start: int
    end: int
    confidence: float


def align_words(
    emissions: Emissions, words: Sequence[Sequence[int]], *, blank: int, delimiter: int | None
) -> tuple[list[Place | None], NDArray[np.bool_]]:
    """Return the place of each word, None for words that are not said; and which frames are speech without text, (T,).

    Args:
        words: the labels of each, as columns of `emissions.log_probs`; none is empty.
        blank, delimiter: columns too.
    """
    if not words or not len(emissions.best):
        return [None] * len(words), np.zeros(len(emissions.best), bool)
    return _Viterbi(emissions, words, blank, delimiter).places()


class _Viterbi:
    def __init__(self, emissions: Emissions, words: Sequence[Sequence[int]], blank: int, delimiter: int | None) -> None:
        self.num_frames, num_columns = emissions.log_probs.shape
        gap = emissions.log_probs[:, blank]
        if delimiter is not None:
            gap = np.maximum(gap, emissions.log_probs[:, delimiter])
        self.log_probs = emissions.log_probs
        self.gap_scores = gap
        self.star_scores = emissions.best - np.float32(STAR_PER_S * emissions.frame_s)
        lengths = np.array([len(word) for word in words])
        # gap, label, (blank, label), ...: a word of n labels takes 2 n states with the gap before it
        self.gaps = np.concatenate([[0], np.cumsum(2 * lengths)])
        self.num_states = int(self.gaps[-1]) + 1
        self.columns = np.full(self.num_states, blank)
        is_label = np.ones(self.num_states, bool)
        is_label[self.gaps] = False
        is_label[self.gaps[np.repeat(np.arange(len(words)), lengths - 1)] + 2 * _places(lengths - 1) + 2] = False
        self.columns[is_label] = np.concatenate([np.asarray(word) for word in words])
        self.columns[self.gaps] = num_columns  # of the row with the gap's score appended
        self.labels = is_label
        over = np.zeros(self.num_states, bool)
        over[2:] = is_label[2:] & is_label[:-2] & (self.columns[2:] != self.columns[:-2])
        over[self.gaps[:-1] + 1] = False  # the state two before a word's first label is in the word before
        self.may_skip_blank = over
        self.prices = np.concatenate([[0.0], np.cumsum(SKIP_PER_LABEL * lengths)])
        self.block = max(1, math.isqrt(self.num_frames))

    def places(self) -> tuple[list[Place | None], NDArray[np.bool_]]:
        path = self._path()
        words = np.searchsorted(self.gaps, path, side="right") - 1
        found: list[Place | None] = [None] * (len(self.gaps) - 1)
        spoken = np.flatnonzero((path >= 0) & self.labels[path])
        scores = self.log_probs[spoken, self.columns[path[spoken]]]
        for first, last in _equal_runs(words[spoken]):
            frames, states = spoken[first:last], path[spoken[first:last]]
            best = [scores[first + i : first + j].max() for i, j in _equal_runs(states)]
            found[words[frames[0]]] = Place(int(frames[0]), int(frames[-1]) + 1, float(np.exp(np.mean(best))))
        return found, path < 0

    def _path(self) -> NDArray[np.int64]:
        """Return the state of each frame, (T,); -1 for a star."""
        chain = np.full(self.num_states, NEVER)
        star = np.full(len(self.gaps), NEVER)
        chain[self.gaps] = -self.prices
        saved: list[tuple[int, int, NDArray[np.float32], NDArray[np.float32]]] = []
        for start in range(0, self.num_frames, self.block):
            first, last = self._followed(chain, star)
            saved.append(
                (first, last, chain[self.gaps[first] : self.gaps[last] + 1].copy(), star[first : last + 1].copy())
            )
            chain[: self.gaps[first]] = NEVER
            chain[self.gaps[last] + 1 :] = NEVER
            star[:first] = star[last + 1 :] = NEVER
            for _ in self._steps(start, first, last, chain, star):
                pass
        path = np.empty(self.num_frames, np.int64)
        state, in_star = self._end(chain, star)
        for number in reversed(range(len(saved))):
            first, last, part, star_part = saved.pop()
            chain[self.gaps[first] : self.gaps[last] + 1] = part
            star[first : last + 1] = star_part
            state, in_star = self._back(number * self.block, first, last, chain, star, path, state, in_star)
        return path

    def _followed(self, chain: NDArray[np.float32], star: NDArray[np.float32]) -> tuple[int, int]:
        """Return the first and last gap between which states are followed in the next block. Scores become relative."""
        best = max(chain.max(), star.max())
        np.maximum(chain - best, NEVER, out=chain)
        np.maximum(star - best, NEVER, out=star)
        near = np.flatnonzero(chain > -MAX_GAP)
        near_star = np.flatnonzero(star > -MAX_GAP)
        first = int(np.searchsorted(self.gaps, near[0], side="right")) - 1 if len(near) else len(self.gaps)
        state = (int(near[-1]) if len(near) else 0) + 2 * self.block
        last = min(int(np.searchsorted(self.gaps, state)), len(self.gaps) - 1)
        if len(near_star):
            first, last = min(first, int(near_star[0])), max(last, int(near_star[-1]))
        return first, last

    def _steps(
        self, start: int, first: int, last: int, chain: NDArray[np.float32], star: NDArray[np.float32]
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int64]]]:
        """Go over a block's frames; yield where each state, star and gap came from. Scores change in place."""
        low, high = int(self.gaps[first]), int(self.gaps[last]) + 1
        scores, stars = chain[low:high], star[first : last + 1]
        gaps, prices = self.gaps[first : last + 1] - low, self.prices[first : last + 1]
        columns, may_skip = self.columns[low:high], self.may_skip_blank[low:high]
        over = np.flatnonzero(may_skip)
        over = over[over >= 2]
        numbers = np.arange(len(gaps))
        row = np.empty(self.log_probs.shape[1] + 1, np.float32)
        for frame in range(start, min(start + self.block, self.num_frames)):
            row[:-1], row[-1] = self.log_probs[frame], self.gap_scores[frame]
            new, came = scores.copy(), np.zeros(len(scores), np.uint8)
            better = scores[:-1] > new[1:]
            np.copyto(new[1:], scores[:-1], where=better)
            came[1:] = better
            jumped = scores[over - 2]
            better = jumped > new[over]
            new[over[better]], came[over[better]] = jumped[better], OVER_BLANK
            better = stars > new[gaps]
            new[gaps[better]], came[gaps[better]] = stars[better], FROM_STAR
            entered = scores[gaps] - np.float32(STAR_ENTRY)
            star_came = entered > stars
            np.maximum(stars, entered, out=stars)
            stars += self.star_scores[frame]
            new += row[columns]
            paid = new[gaps] + prices
            best = np.maximum.accumulate(paid)
            source = np.maximum.accumulate(np.where(paid >= best, numbers, 0))
            new[gaps] = best - prices
            np.maximum(new, NEVER, out=scores)
            np.maximum(stars, NEVER, out=stars)
            yield came, star_came, source

    def _end(self, chain: NDArray[np.float32], star: NDArray[np.float32]) -> tuple[int, bool]:
        """Return the last frame's state (of a star, its gap), and whether it is a star."""
        left = self.prices[-1] - self.prices
        ends = {"gap": chain[self.gaps], "star": star, "label": np.append(NEVER, chain[self.gaps[1:] - 1])}
        name = max(ends, key=lambda end: float((ends[end] - left).max()))
        gap = int(self.gaps[int((ends[name] - left).argmax())])
        return gap - (name == "label"), name == "star"

    def _back(
        self,
        start: int,
        first: int,
        last: int,
        chain: NDArray[np.float32],
        star: NDArray[np.float32],
        path: NDArray[np.int64],
        state: int,
        in_star: bool,
    ) -> tuple[int, bool]:
        """Write a block's path from its last frame to its first; return the state before it."""
        steps = list(self._steps(start, first, last, chain, star))
        low = int(self.gaps[first])
        for frame in reversed(range(start, start + len(steps))):
            came, star_came, source = steps[frame - start]
            if in_star:
                path[frame] = -1
                in_star = not star_came[np.searchsorted(self.gaps, state) - first]
                continue
            gap = int(np.searchsorted(self.gaps, state))
            if self.gaps[gap] == state:
                state = int(self.gaps[first + source[gap - first]])
            path[frame] = state
            code = int(came[state - low])
            in_star = code == FROM_STAR
            state -= code if code in (FROM_PREVIOUS, OVER_BLANK) else 0
        return state, in_star


def _places(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0, 1, ... n - 1 for each count n, joined."""
    ends = np.cumsum(counts)
    return np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - counts, counts)


def _equal_runs(values: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield (first, one after the last) of each run of equal values."""
    if not len(values):
        return
    bounds = np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1, [len(values)]]).tolist()
    yield from itertools.pairwise(bounds)
