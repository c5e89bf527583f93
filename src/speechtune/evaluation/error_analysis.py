"""Error analysis: the words, characters, lengths and speakers with the most errors.

Counts of whole utterances are those of the rows (`Hypothesis.words`); only confusions are aligned here.
"""

from __future__ import annotations

import bisect
import itertools
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from speechtune.evaluation.confidence import confidence_interval
from speechtune.evaluation.edits import EditOp, align
from speechtune.evaluation.metrics.cer import characters_of
from speechtune.types import EditCounts, Hypothesis

__all__ = [
    "Group",
    "by_duration",
    "by_num_errors",
    "by_speaker",
    "character_confusions",
    "diff",
    "group_of",
    "median_rate",
    "most_common",
    "word_confusions",
    "worst_first",
]

DURATION_EDGES_S = (0, 2, 4, 6, 8, 10, 15, 20, 30)
NUM_ERRORS = ("none", "1 word", "2 words", "3 words", "4 words", "5 or more")


@dataclass(frozen=True, slots=True)
class Group:
    """Utterances that have something in common."""

    name: str
    num_utterances: int
    words: EditCounts
    low: float = math.nan  # 95 % interval of the word error rate, over the group's speakers or utterances
    high: float = math.nan


def diff(reference: str, hypothesis: str) -> list[EditOp]:
    """Align word by word; neighbouring hits are joined, so that a correct sentence is a single part."""
    parts: list[EditOp] = []
    for is_hit, steps in itertools.groupby(align(reference.split(), hypothesis.split()), lambda op: op.kind == "hit"):
        if is_hit:
            words = " ".join(op.reference for op in steps)
            parts.append(EditOp("hit", words, words))
        else:
            parts += steps
    return parts


def word_confusions(rows: Iterable[Hypothesis]) -> Counter[EditOp]:
    """Count each substitution, deletion and insertion of a word."""
    return _confusions((row.reference.split(), row.hypothesis.split()) for row in rows)


def character_confusions(rows: Iterable[Hypothesis]) -> Counter[EditOp]:
    """Count those of a character, spaces between words among them, as in the CER."""
    return _confusions((characters_of(row.reference), characters_of(row.hypothesis)) for row in rows)


def _confusions(pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> Counter[EditOp]:
    return Counter(op for ref, hyp in pairs if ref != hyp for op in align(ref, hyp) if op.kind != "hit")


def most_common(confusions: Counter[EditOp], limit: int) -> dict[str, list[tuple[str, str, int]]]:
    """Return per kind the most frequent (reference, hypothesis, count); ties in the order of the text.

    Those that occurred once are noise: they are listed only where none of their kind occurred again.
    """
    result = {}
    for kind in ("substitution", "deletion", "insertion"):
        found = [(op.reference, op.hypothesis, n) for op, n in confusions.items() if op.kind == kind]
        repeated = [triple for triple in found if triple[2] > 1]
        result[kind] = sorted(repeated or found, key=lambda t: (-t[2], t[0], t[1]))[:limit]
    return result


def by_duration(rows: Iterable[Hypothesis]) -> list[Group]:
    """Group by length of the utterance, shortest first; utterances of unknown duration are in no group."""
    edges = DURATION_EDGES_S
    names = [f"{low} to {high} s" for low, high in itertools.pairwise(edges)] + [f"over {edges[-1]} s"]
    known = [row for row in rows if not math.isnan(row.duration_s)]
    places = [bisect.bisect_right(edges, row.duration_s) - 1 for row in known]
    return _grouped(known, places, names)


def by_speaker(rows: Iterable[Hypothesis]) -> list[Group]:
    """Group by known speaker, highest word error rate first."""
    known = [row for row in rows if row.speaker is not None]
    names = sorted({str(row.speaker) for row in known})
    number = {name: place for place, name in enumerate(names)}
    groups = _grouped(known, [number[str(row.speaker)] for row in known], names)
    return sorted(groups, key=lambda group: (-group.words.rate, group.name))


def by_num_errors(rows: Iterable[Hypothesis]) -> list[Group]:
    """Group by wrong words in an utterance: 0, 1, 2, 3, 4, more."""
    rows = list(rows)
    return _grouped(rows, [min(row.words.edits, len(NUM_ERRORS) - 1) for row in rows], NUM_ERRORS)


def worst_first(rows: Iterable[Hypothesis]) -> list[Hypothesis]:
    """Sort by number of word edits, then of character edits: what costs the corpus' WER most comes first."""
    return sorted(rows, key=lambda row: (-row.words.edits, -row.characters.edits, row.id, row.file))


def median_rate(groups: Sequence[Group]) -> float:
    """Return the median word error rate of the groups, nan without any."""
    return statistics.median(group.words.rate for group in groups) if groups else math.nan


def _grouped(rows: Sequence[Hypothesis], places: Sequence[int], names: Sequence[str]) -> list[Group]:
    """Return the groups that have members, by their place in `names`."""
    members: dict[int, list[Hypothesis]] = {}
    for row, place in zip(rows, places, strict=True):
        members.setdefault(place, []).append(row)
    return [group_of(names[place], found) for place, found in sorted(members.items())]


def group_of(name: str, rows: Sequence[Hypothesis]) -> Group:
    """Return a group with its interval, which a single utterance has none of."""
    counts = [row.words for row in rows]
    bounds = confidence_interval(counts, [row.speaker or None for row in rows]) if len(rows) > 1 else None
    ends = (math.nan, math.nan) if bounds is None else (bounds.low, bounds.high)
    return Group(name, len(rows), EditCounts.total(counts), *ends)
