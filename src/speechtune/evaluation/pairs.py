"""Statistics of two systems on the same utterances, and the sentence that follows from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from speechtune.evaluation.comparison import ChangedUtterance, Pair, SliceDifference
from speechtune.evaluation.metrics.wer import words_in
from speechtune.evaluation.significance import (
    Difference,
    holm,
    mapsswe,
    num_groups_needed,
    paired_bootstrap,
    segment_errors,
)
from speechtune.evaluation.slices import slices_of
from speechtune.terminal.formatting import percent, points, probability
from speechtune.types import EditCounts, Hypothesis

__all__ = ["compare_pairs"]

ALPHA = 0.05
MAX_CHANGED = 500  # utterances listed as better, and as worse
SLICE_RESAMPLES = 2_000
MANY = 10**6  # utterances that nobody has


def compare_pairs(rows: Sequence[Sequence[Hypothesis]], names: Sequence[str]) -> list[Pair]:
    """Compare each system with the first, on the same utterances.

    Args:
        rows: of each system, in the same order of utterances, shape (systems, N).
        names: of the systems.
    """
    pairs = [_pair(rows[0], rows[b], b) for b in range(1, len(rows))]
    corrected = holm([pair.differences["wer"].p_value for pair in pairs])
    found = []
    for pair, p_value in zip(pairs, corrected, strict=True):
        pair = replace(pair, p_corrected=p_value, is_significant=p_value < ALPHA)
        same = all(a.hypothesis == b.hypothesis for a, b in zip(rows[0], rows[pair.b], strict=True))
        rates = [EditCounts.total(row.words for row in rows[place]).rate for place in (0, pair.b)]
        sentence = _sentence(pair, names[0], names[pair.b], rates, len(rows[0]), num_pairs=len(pairs), same_text=same)
        found.append(replace(pair, sentence=sentence))
    return found


def _pair(a: Sequence[Hypothesis], b: Sequence[Hypothesis], place: int) -> Pair:
    """Return everything but what depends on the other pairs."""
    differences = {
        "wer": _difference([row.words for row in a], [row.words for row in b], a),
        "cer": _difference([row.characters for row in a], [row.characters for row in b], a),
    }
    both = list(zip(a, b, strict=True))
    segments = [
        segment
        for one, other in both
        if one.words.edits or other.words.edits
        for segment in segment_errors(words_in(one.reference), words_in(one.hypothesis), words_in(other.hypothesis))
    ]
    changed = sorted(
        (_changed(one, other) for one, other in both if one.words.edits != other.words.edits),
        key=lambda row: (-abs(row.errors_b - row.errors_a), -max(row.errors_a, row.errors_b), row.id),
    )
    better, worse = ([row for row in changed if (row.errors_b < row.errors_a) is is_less] for is_less in (True, False))
    return Pair(
        a=0,
        b=place,
        sentence="",
        is_significant=False,
        differences=differences,
        p_corrected=math.nan,
        mapsswe=mapsswe(segments),
        num_needed=num_groups_needed(differences["wer"]),
        num_better=len(better),
        num_worse=len(worse),
        num_equal=len(both) - len(changed),
        slices=_slices(a, b),
        better=better[:MAX_CHANGED],
        worse=worse[:MAX_CHANGED],
    )


def _difference(
    a: Sequence[EditCounts], b: Sequence[EditCounts], rows: Sequence[Hypothesis], *, num_resamples: int = 10_000
) -> Difference:
    return paired_bootstrap(
        [count.edits for count in a],
        [count.edits for count in b],
        [count.reference_length for count in a],
        speakers=[row.speaker for row in rows],
        num_resamples=num_resamples,
    )


def _slices(a: Sequence[Hypothesis], b: Sequence[Hypothesis]) -> list[SliceDifference]:
    """Return the differences in groups of utterances, their p-values corrected for the number of groups of a kind."""
    found: list[SliceDifference] = []
    for part in slices_of(a):
        own, others = [a[place] for place in part.rows], [b[place] for place in part.rows]
        one, other = [row.words for row in own], [row.words for row in others]
        found.append(
            SliceDifference(
                by=part.by,
                name=part.name,
                utterances=len(own),
                words=sum(count.reference_length for count in one),
                rate_a=EditCounts.total(one).rate,
                rate_b=EditCounts.total(other).rate,
                difference=_difference(one, other, own, num_resamples=SLICE_RESAMPLES),
            )
        )
    corrected: list[float] = []
    for by in dict.fromkeys(part.by for part in found):
        corrected += holm([part.difference.p_value for part in found if part.by == by])
    return [
        replace(part, difference=replace(part.difference, p_value=p_value))
        for part, p_value in zip(found, corrected, strict=True)
    ]


def _changed(a: Hypothesis, b: Hypothesis) -> ChangedUtterance:
    return ChangedUtterance(
        a.id, a.reference, a.hypothesis, b.hypothesis, a.words.edits, b.words.edits, a.duration_s, a.speaker, a.file
    )


def _sentence(
    pair: Pair, a: str, b: str, rates: Sequence[float], num_utterances: int, *, num_pairs: int, same_text: bool
) -> str:
    """Return what follows, in one sentence: how large the difference is, and whether it may be chance."""
    wer = pair.differences["wer"]
    size = wer.difference
    count = f"{num_utterances:,} utterance{'s' * (num_utterances != 1)}"
    if same_text:
        return f"{a} and {b} wrote the same text for all {count}."
    if math.isnan(size):
        return "The references hold no words, so there is nothing to compare."
    if size == 0:
        return f"{a} and {b} make equally many word errors ({percent(rates[0])}) on these {count}."
    word, comparative = ("fewer", "better") if size < 0 else ("more", "worse")
    head = (
        f"{b} makes {points(abs(size)).lstrip('+')} points {word} word errors than {a} "
        f"({percent(rates[1])} instead of {percent(rates[0])})"
    )
    if math.isnan(wer.low):
        return f"{head}; {wer.groups} utterances are too few to tell whether that is chance."
    head += f", 95 % interval {points(wer.low)} to {points(wer.high)}"
    after = f" after Holm's correction for {num_pairs} comparisons" if num_pairs > 1 else ""
    basis = f"{count} of {wer.groups:,} speakers" if wer.unit == "speakers" else count
    if pair.is_significant:
        p_text = probability(pair.p_corrected)
        p_text = p_text if p_text.startswith("<") else f"= {p_text}"
        return f"{head}: {comparative} (p {p_text}{after}) on these {basis}."
    return f"{head}: not shown to be {comparative} on these {basis}{after}; {_needed_text(pair)}."


def _needed_text(pair: Pair) -> str:
    """Return how much more speech would probably settle it."""
    unit = pair.differences["wer"].unit
    if pair.num_needed is None or pair.num_needed > MANY:
        return f"more {unit} than anyone has would be needed"
    if pair.num_needed <= pair.differences["wer"].groups:
        return f"more {unit} would show it"  # significant alone, not among several comparisons
    return f"about {pair.num_needed:,} {unit} would be needed"
