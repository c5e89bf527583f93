"""Prefix beam search for CTC: the most probable texts, over all their alignments, with a language model and hot words.

Sources: Graves & Jaitly 2014, section 3; Hannun et al. 2014, "First-Pass Large Vocabulary Continuous Speech Recognition
using Bi-Directional Recurrent DNNs", algorithm 1. A prefix is an object, so two ways to the same one meet; its external
score is computed once, when it is first reached. Probabilities are plain numbers, scaled in each frame.

Rejected: `ctc-beam-decoder` (a single author, few wheels, no source), `flashlight-text` (a closed vocabulary,
no hot words), `pyctcdecode` (needs numpy 1). This is fast enough because most frames have one or two possible labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechtune.decoding.fusion import FusedState, Fusion, Piece

__all__ = ["Beam", "BeamSearch", "align", "cut_at_blanks"]

MIN_LOG_PROB = -6.0  # of a label that is considered; the most probable one of a frame always is
MAX_GAP = 12.0  # prefixes whose score is so much below the best one's are dropped
MAX_FRAMES = 1500  # of one search; a longer recording is cut at its longest blanks: 30 s of the usual 20 ms
FLOOR = 1e-30  # probability below which a way to a prefix is no longer counted


@dataclass(frozen=True, slots=True)
class Beam:
    """One hypothesis.

    Args:
        labels: without blanks and repeats.
        text: what they spell.
        acoustic: log probability of the labels, over all alignments.
        score: acoustic, language model and hot words together.
    """

    labels: tuple[int, ...]
    text: str
    acoustic: float
    score: float


class _Prefix:
    """Labels so far; `blank` and `other`: the probabilities of the ways that end in a blank, or in the last label."""

    __slots__ = (
        *("blank", "children", "is_reached", "label", "new_blank"),
        *("new_other", "other", "parent", "rank", "state"),
    )

    def __init__(self, parent: _Prefix | None, label: int, state: FusedState | None) -> None:
        self.parent, self.label, self.state = parent, label, state
        self.rank = state.rank if state is not None else 0.0
        self.children: dict[int, _Prefix] = {}
        self.blank = self.other = self.new_blank = self.new_other = 0.0
        self.is_reached = False

    def labels(self) -> tuple[int, ...]:
        found, node = [], self
        while node.parent is not None:
            found.append(node.label)
            node = node.parent
        return tuple(reversed(found))


class BeamSearch:
    """Beam search over the labels of one CTC model. Picklable.

    Args:
        pieces: what each label adds to the text; the blank's is not used.
        blank: its label.
        fusion: language model and hot words; None for the acoustic model alone.
        num_beams: prefixes that are kept from frame to frame.
        min_log_prob, max_gap: see the constants; -inf and inf prune nothing.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        blank: int,
        *,
        fusion: Fusion | None = None,
        num_beams: int = 100,
        min_log_prob: float = MIN_LOG_PROB,
        max_gap: float = MAX_GAP,
    ) -> None:
        self.pieces, self.blank, self.fusion = list(pieces), blank, fusion
        self.num_beams, self.min_log_prob, self.max_gap = num_beams, min_log_prob, max_gap

    def __call__(self, log_probs: NDArray[np.floating[Any]]) -> list[Beam]:
        """Return the hypotheses of one utterance, best first, each text once.

        Args:
            log_probs: of each label at each frame, (num_frames, num_labels).
        """
        probs = np.exp(np.asarray(log_probs, np.float64))
        candidates = self._candidates(log_probs)
        root = _Prefix(None, -1, self.fusion.start() if self.fusion else None)
        root.blank = 1.0
        beams, scale = [root], 0.0
        for row, labels in zip(probs, candidates, strict=True):
            beams, best = self._step(beams, row.tolist(), labels)
            scale += math.log(best)
        return self._finished(beams, scale)

    def _candidates(self, log_probs: NDArray[np.floating[Any]]) -> list[list[int]]:
        """Return the labels but the blank that each frame may have."""
        possible = log_probs >= self.min_log_prob
        possible[np.arange(len(log_probs)), log_probs.argmax(axis=1)] = True
        possible[:, self.blank] = False
        found: list[list[int]] = [[] for _ in range(len(log_probs))]
        for frame, label in zip(*(index.tolist() for index in np.nonzero(possible)), strict=True):
            found[frame].append(label)
        return found

    def _step(self, beams: list[_Prefix], row: list[float], labels: list[int]) -> tuple[list[_Prefix], float]:
        """Go one frame on; return the prefixes that are kept, and what their probabilities were divided by."""
        p_blank, reached = row[self.blank], []
        for prefix in beams:
            total = prefix.blank + prefix.other
            if not prefix.is_reached:
                prefix.is_reached = True
                reached.append(prefix)
            prefix.new_blank += total * p_blank
            if prefix.label >= 0:
                prefix.new_other += prefix.other * row[prefix.label]
            children = prefix.children
            for label in labels:
                way = row[label] * (prefix.blank if label == prefix.label else total)
                if way < FLOOR:
                    continue
                child = children.get(label)
                if child is None:
                    child = children[label] = self._child(prefix, label)
                if not child.is_reached:
                    child.is_reached = True
                    reached.append(child)
                child.new_other += way
        return self._kept(beams, reached)

    def _child(self, prefix: _Prefix, label: int) -> _Prefix:
        state = self.fusion.extend(prefix.state, self.pieces[label]) if self.fusion and prefix.state else None
        return _Prefix(prefix, label, state)

    def _kept(self, beams: list[_Prefix], reached: list[_Prefix]) -> tuple[list[_Prefix], float]:
        scored = [
            (math.log(total) + prefix.rank, prefix)
            for prefix in reached
            if (total := prefix.new_blank + prefix.new_other) > FLOOR
        ]
        scored.sort(key=lambda pair: pair[0], reverse=True)
        least = scored[0][0] - self.max_gap
        kept = [prefix for score, prefix in scored[: self.num_beams] if score >= least]
        best = max(prefix.new_blank + prefix.new_other for prefix in kept)
        for prefix in beams:
            prefix.blank = prefix.other = 0.0
        for prefix in kept:
            prefix.blank, prefix.other = prefix.new_blank / best, prefix.new_other / best
        for prefix in reached:
            prefix.new_blank = prefix.new_other = 0.0
            prefix.is_reached = False
        return kept, best

    def _finished(self, beams: list[_Prefix], scale: float) -> list[Beam]:
        found: dict[str, Beam] = {}
        for prefix in beams:
            labels = prefix.labels()
            acoustic = math.log(prefix.blank + prefix.other) + scale
            external = self.fusion.finish(prefix.state) if self.fusion and prefix.state else 0.0
            beam = Beam(labels, self.text(labels), acoustic, acoustic + external)
            if beam.text not in found or found[beam.text].score < beam.score:
                found[beam.text] = beam
        return sorted(found.values(), key=lambda beam: -beam.score)

    def text(self, labels: Sequence[int]) -> str:
        """Return what labels spell."""
        pieces = [self.pieces[label] for label in labels]
        return " ".join("".join(f" {piece.text}" if piece.starts_word else piece.text for piece in pieces).split())


def align(log_probs: NDArray[np.floating[Any]], labels: Sequence[int], blank: int) -> NDArray[np.int64]:
    """Return the most probable label of each frame, (num_frames,), of those paths that spell `labels` (Viterbi).

    The number of frames must be that of the labels, and of blanks between equal ones, at least.
    """
    states = np.full(2 * len(labels) + 1, blank, np.int64)
    states[1::2] = labels
    may_skip = np.zeros(len(states), bool)
    may_skip[3::2] = states[3::2] != states[1:-2:2]
    scores = np.full(len(states), -np.inf)
    scores[0] = 0.0  # before the first frame; from here a path enters the first blank or the first label
    came_from = np.zeros((len(log_probs), len(states)), np.int8)
    for frame, row in enumerate(np.asarray(log_probs, np.float64)[:, states]):
        ways = np.full((3, len(states)), -np.inf)
        ways[0] = scores
        ways[1, 1:] = scores[:-1]
        ways[2, 2:] = np.where(may_skip[2:], scores[:-2], -np.inf)
        came_from[frame] = ways.argmax(axis=0)
        scores = ways.max(axis=0) + row
    state = len(states) - 1
    if len(states) > 1 and scores[-2] > scores[-1]:
        state -= 1
    path = np.empty(len(log_probs), np.int64)
    for frame in range(len(log_probs) - 1, -1, -1):
        path[frame] = states[state]
        state -= int(came_from[frame, state])
    return path


def cut_at_blanks(log_probs: NDArray[np.floating[Any]], blank: int, max_frames: int = MAX_FRAMES) -> list[int]:
    """Return where to cut a long recording for searches of at most `max_frames`: 0, ..., num_frames.

    Cuts are in the middle of the longest run of blanks in the second half of what is left, so that no word is cut.
    """
    cuts = [0]
    is_blank = np.asarray(log_probs).argmax(axis=1) == blank
    while len(log_probs) - cuts[-1] > max_frames:
        low, high = cuts[-1] + max_frames // 2, cuts[-1] + max_frames
        edges = np.flatnonzero(np.diff(np.concatenate([[0], is_blank[low:high].astype(np.int8), [0]])))
        starts, ends = edges[::2], edges[1::2]
        longest = int((ends - starts).argmax()) if len(starts) else -1
        cuts.append(low + int(starts[longest] + ends[longest]) // 2 if longest >= 0 else high)
    return [*cuts, len(log_probs)]
