"""Errors of case and punctuation, counted apart from those of words: for scores of texts as they are written."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from speechtune.evaluation.edits import align
from speechtune.evaluation.metrics.wer import words_in
from speechtune.types import Hypothesis

__all__ = ["bare", "written_errors"]


def bare(word: str) -> str:
    """Return a word without case, and without the punctuation around it; "U.S.-based," is "u.s.-based"."""
    start, end = 0, len(word)
    while start < end and unicodedata.category(word[start])[0] in "PS":
        start += 1
    while end > start and unicodedata.category(word[end - 1])[0] in "PS":
        end -= 1
    return word[start:end].casefold()


def written_errors(rows: Iterable[Hypothesis]) -> dict[str, Any]:
    """Return how many words are right but for their case or punctuation, and the word error rate without either.

    Words are aligned without case and punctuation; those that agree are then compared as they are written. Words of
    punctuation alone are left out of the alignment, and count as punctuation where the two texts have different ones.

    Returns:
        "case", "punctuation", "case_and_punctuation": words with errors of these only.
        "words": substituted, deleted and inserted words; "reference_words"; "rate" of these.
    """
    found: Counter[str] = Counter()
    for row in rows:
        reference, hypothesis = (words_in(text) for text in row.written or (row.reference, row.hypothesis))
        _count(reference, hypothesis, found)
    names = ("case", "punctuation", "case_and_punctuation", "words", "reference_words")
    counts: dict[str, Any] = {name: found[name] for name in names}
    return {**counts, "rate": counts["words"] / counts["reference_words"] if counts["reference_words"] else None}


def _count(reference: Sequence[str], hypothesis: Sequence[str], found: Counter[str]) -> None:
    spoken, heard = ([word for word in words if bare(word)] for words in (reference, hypothesis))
    signs = [Counter(word for word in words if not bare(word)) for words in (reference, hypothesis)]
    found["punctuation"] += sum(((signs[0] - signs[1]) | (signs[1] - signs[0])).values())
    found["reference_words"] += len(spoken)
    i = j = 0
    for op in align([bare(word) for word in spoken], [bare(word) for word in heard]):
        if op.kind == "hit":
            kind = _kind(spoken[i], heard[j])
            if kind:
                found[kind] += 1
        else:
            found["words"] += 1
        i += op.kind != "insertion"
        j += op.kind != "deletion"


def _kind(reference: str, hypothesis: str) -> str:
    """Return what two words that are equal without case and punctuation differ in; empty if nothing."""
    if reference == hypothesis:
        return ""
    if reference.casefold() == hypothesis.casefold():
        return "case"
    core_a, core_b = (_core(word) for word in (reference, hypothesis))
    return "punctuation" if core_a == core_b else "case_and_punctuation"


def _core(word: str) -> str:
    return "".join(char for char in word if unicodedata.category(char)[0] not in "PS")
