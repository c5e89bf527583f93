"""What an evaluation shows beside its rates, `analysis` of eval_results.json: where errors are, and of what kind."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from speechtune.evaluation.confidence import confidence_interval
from speechtune.evaluation.edits import align
from speechtune.evaluation.evaluate import Evaluation
from speechtune.evaluation.metrics.wer import words_in
from speechtune.evaluation.slices import slices_of
from speechtune.evaluation.written_form import written_errors
from speechtune.types import EditCounts, Hypothesis

__all__ = ["analyse", "by_frequency", "by_position", "empty_outputs", "is_loop", "repeated_loops"]

MIN_REPEATS = 4  # of a phrase, one after another, that make a loop
MAX_PHRASE = 6  # words of a phrase that is looked for
MAX_LISTED = 20  # ids
RARE_BELOW = 10  # occurrences in the training text
PARTS = ("first third", "middle third", "last third")
MIN_POSITION_WORDS = 3  # of a reference that has thirds


def analyse(
    evaluation: Evaluation, *, training_words: Mapping[str, int] | None = None, as_written: bool = False
) -> dict[str, Any]:
    """Return the analysis of an evaluation, for its results file.

    Args:
        evaluation: with hypotheses.
        training_words: how often each word is in the training text, normalised as the references.
        as_written: case and punctuation are scored, so their errors are counted apart.
    """
    rows = evaluation.hypotheses
    analysis: dict[str, Any] = {
        "empty_outputs": empty_outputs(rows),
        "repeated_loops": repeated_loops(rows),
        "groups": [_group(part.by, part.name, [rows[place] for place in part.rows]) for part in slices_of(rows)],
        "by_position": by_position(rows),
    }
    if evaluation.audio_s and evaluation.runtime_s:
        analysis["real_time_factor"] = round(evaluation.runtime_s / evaluation.audio_s, 5)
    if training_words:
        analysis["by_training_frequency"] = by_frequency(rows, training_words)
    if as_written:
        analysis["case_and_punctuation"] = written_errors(rows)
    return analysis


def empty_outputs(rows: Iterable[Hypothesis]) -> dict[str, Any]:
    """Return how many utterances with words were recognised as nothing, and the words that were lost so."""
    found = [row for row in rows if row.reference.strip() and not row.hypothesis.strip()]
    words = sum(row.words.reference_length for row in found)
    return {"utterances": len(found), "words": words, "ids": [row.id for row in found[:MAX_LISTED]]}


def repeated_loops(rows: Iterable[Hypothesis]) -> dict[str, Any]:
    """Return how many hypotheses repeat a phrase again and again where the reference does not."""
    found = [row for row in rows if is_loop(row.hypothesis) and not is_loop(row.reference)]
    words = sum(row.words.insertions for row in found)
    return {"utterances": len(found), "inserted_words": words, "ids": [row.id for row in found[:MAX_LISTED]]}


def is_loop(text: str) -> bool:
    """Whether up to `MAX_PHRASE` words follow each other `MIN_REPEATS` times or more."""
    words = text.split()
    for size in range(1, MAX_PHRASE + 1):
        run = 0  # words in a row that equal the word one phrase earlier
        for place in range(size, len(words)):
            run = run + 1 if words[place] == words[place - size] else 0
            if run >= size * (MIN_REPEATS - 1):
                return True
    return False


def by_position(rows: Iterable[Hypothesis]) -> list[dict[str, Any]]:
    """Return the word errors in the first, middle and last third of utterances with three words or more.

    An insertion belongs to the word before it.
    """
    words, errors = Counter[int](), Counter[int]()
    for row in rows:
        reference = words_in(row.reference)
        if len(reference) < MIN_POSITION_WORDS:
            continue
        place = -1
        for op in align(reference, words_in(row.hypothesis)):
            place += op.kind != "insertion"
            third = max(place, 0) * len(PARTS) // len(reference)
            words[third] += op.kind != "insertion"
            errors[third] += op.kind != "hit"
    return [_rate(name, words[third], errors[third]) for third, name in enumerate(PARTS) if words[third]]


def by_frequency(rows: Iterable[Hypothesis], training_words: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return how many reference words were substituted or deleted, by how often training saw them.

    Inserted words are in no reference, so they are not counted.
    """
    words, errors = Counter[str](), Counter[str]()
    for row in rows:
        for op in align(words_in(row.reference), words_in(row.hypothesis)):
            if op.kind != "insertion":
                name = _frequency_name(training_words.get(op.reference, 0))
                words[name] += 1
                errors[name] += op.kind != "hit"
    names = (_frequency_name(count) for count in (RARE_BELOW, 1, 0))
    return [_rate(name, words[name], errors[name]) for name in names if words[name]]


def _frequency_name(count: int) -> str:
    if not count:
        return "unseen"
    return f"rare, under {RARE_BELOW} times" if count < RARE_BELOW else f"{RARE_BELOW} times or more"


def _rate(name: str, words: int, errors: int) -> dict[str, Any]:
    return {"name": name, "words": words, "errors": errors, "rate": errors / words}


def _group(by: str, name: str, rows: Sequence[Hypothesis]) -> dict[str, Any]:
    """Return the word error rate of a group with its interval, which a single utterance has none of."""
    counts = [row.words for row in rows]
    total = EditCounts.total(counts)
    bounds = confidence_interval(counts, [row.speaker or None for row in rows]) if len(rows) > 1 else None
    return {
        "by": by,
        "name": name,
        "utterances": len(rows),
        "words": total.reference_length,
        "errors": total.edits,
        "rate": total.rate,
        "low": bounds.low if bounds else math.nan,
        "high": bounds.high if bounds else math.nan,
    }
