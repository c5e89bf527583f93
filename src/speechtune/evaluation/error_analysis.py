"""Where the errors of an evaluation lie: in which words and letters, at which lengths, with which speakers.

Counts of whole utterances are those of the rows (`Hypothesis.words`); only confusions are aligned anew here.
"""

from __future__ import annotations

import itertools
import math
import statistics
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from speechtune.evaluation.metrics.edit import align
from speechtune.types import EditCounts, Hypothesis

__all__ = [
    "Confusions",
    "DiffPart",
    "Group",
    "by_duration",
    "by_num_errors",
    "by_speaker",
    "character_confusions",
    "diff",
    "word_confusions",
    "worst_first",
]

DURATION_EDGES_S = (0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, math.inf)


@dataclass(frozen=True, slots=True)
class DiffPart:
    """A stretch of an alignment; `kind` is "hit", "substitution", "deletion" or "insertion"."""

    kind: str
    reference: str  # "" for an insertion
    hypothesis: str  # "" for a deletion


@dataclass(frozen=True, slots=True)
class Group:
    """Utterances that have something in common."""

    name: str
    num_utterances: int
    words: EditCounts
    duration_s: float = math.nan  # sum over the utterances whose duration is known


@dataclass(frozen=True, slots=True)
class Confusions:
    """How often each token was taken for another one, missed, or heard where there was none."""

    substitutions: Counter[tuple[str, str]] = field(default_factory=Counter)  # (reference, hypothesis)
    deletions: Counter[str] = field(default_factory=Counter)
    insertions: Counter[str] = field(default_factory=Counter)

    def most_common(self, limit: int) -> dict[str, list[tuple[str, str, int]]]:
        """Per kind the (reference, hypothesis, count) met most often; ties in the order of the text.

        Those met once are skipped where others were met more often: they are noise.
        """
        triples = {
            "substitutions": [(ref, hyp, n) for (ref, hyp), n in self.substitutions.items()],
            "deletions": [(ref, "", n) for ref, n in self.deletions.items()],
            "insertions": [("", hyp, n) for hyp, n in self.insertions.items()],
        }
        result = {}
        for kind, found in triples.items():
            repeated = [triple for triple in found if triple[2] > 1]
            result[kind] = sorted(repeated or found, key=lambda t: (-t[2], t[0], t[1]))[:limit]
        return result


def diff(reference: str, hypothesis: str) -> list[DiffPart]:
    """Word by word; equal neighbours are joined into one part, so that a right sentence is a single part."""
    parts: list[DiffPart] = []
    for is_hit, steps in itertools.groupby(align(reference.split(), hypothesis.split()), lambda op: op.kind == "hit"):
        if is_hit:
            words = " ".join(str(op.reference) for op in steps)
            parts.append(DiffPart("hit", words, words))
        else:
            parts += [DiffPart(op.kind, str(op.reference or ""), str(op.hypothesis or "")) for op in steps]
    return parts


def word_confusions(rows: Iterable[Hypothesis]) -> Confusions:
    return _confusions((row.reference.split(), row.hypothesis.split()) for row in rows)


def character_confusions(rows: Iterable[Hypothesis]) -> Confusions:
    """Characters are composed code points, the spaces between words among them, as in the CER."""

    def characters(text: str) -> str:
        return unicodedata.normalize("NFC", text).strip()

    return _confusions((characters(row.reference), characters(row.hypothesis)) for row in rows)


def by_duration(rows: Iterable[Hypothesis]) -> list[Group]:
    """Groups by length of the utterance, shortest first, empty ones skipped; unknown durations are skipped."""

    def name(row: Hypothesis) -> tuple[float, str] | None:
        for low, high in itertools.pairwise(DURATION_EDGES_S):
            if low <= row.duration_s < high:
                return low, f"over {low:g} s" if math.isinf(high) else f"{low:g} to {high:g} s"
        return None

    return _grouped(rows, name)


def by_speaker(rows: Iterable[Hypothesis]) -> list[Group]:
    """One group a known speaker, highest word error rate first."""
    groups = _grouped(rows, lambda row: None if row.speaker is None else (0.0, row.speaker))
    return sorted(groups, key=lambda group: (-group.words.rate, group.name))


def by_num_errors(rows: Iterable[Hypothesis]) -> list[Group]:
    """Groups of 0, 1, 2, 3, 4 and more wrong words an utterance."""
    names = ["none", "1 word", "2 words", "3 words", "4 words"]
    return _grouped(rows, lambda row: (n := min(row.words.edits, 5), names[n] if n < 5 else "5 or more"))


def worst_first(rows: Iterable[Hypothesis]) -> list[Hypothesis]:
    """By number of word edits, then of character edits: what costs the corpus' WER most comes first."""
    return sorted(rows, key=lambda row: (-row.words.edits, -row.characters.edits, row.id, row.file))


def median_rate(groups: Sequence[Group]) -> float:
    """Median word error rate of the groups, nan without any."""
    return statistics.median(group.words.rate for group in groups) if groups else math.nan


def _grouped(rows: Iterable[Hypothesis], key: Callable[[Hypothesis], tuple[float, str] | None]) -> list[Group]:
    """By (place, name); rows whose key is None belong to no group."""
    members: dict[tuple[float, str], list[Hypothesis]] = {}
    for row in rows:
        place = key(row)
        if place is not None:
            members.setdefault(place, []).append(row)
    return [
        Group(
            name=place[1],
            num_utterances=len(group),
            words=EditCounts.total(row.words for row in group),
            duration_s=math.fsum(row.duration_s for row in group if not math.isnan(row.duration_s)),
        )
        for place, group in sorted(members.items(), key=lambda item: item[0])
    ]


def _confusions(pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> Confusions:
    found = Confusions()
    for reference, hypothesis in pairs:
        if reference == hypothesis:
            continue
        for kind, ref, hyp in align(reference, hypothesis):
            if kind == "substitution":
                found.substitutions[str(ref), str(hyp)] += 1
            elif kind == "deletion":
                found.deletions[str(ref)] += 1
            elif kind == "insertion":
                found.insertions[str(hyp)] += 1
    return found
