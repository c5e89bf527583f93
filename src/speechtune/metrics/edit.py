"""Alignment of a reference with a hypothesis at the smallest number of edits: the ground of WER, CER and PER.

rapidfuzz aligns; tokens are numbered first, since rapidfuzz compares hashes and Python's hash(-1) == hash(-2).
Where several alignments need equally few edits, the split into substitutions, deletions and insertions is rapidfuzz'
choice, as in jiwer.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from rapidfuzz.distance import Levenshtein

from speechtune.types import EditCounts

__all__ = ["EditOp", "align", "count_edits"]


class EditOp(NamedTuple):
    """One step of an alignment, from left to right."""

    kind: Literal["hit", "substitution", "deletion", "insertion"]
    reference: Hashable  # the token; None for an insertion
    hypothesis: Hashable  # the token; None for a deletion


def align(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> list[EditOp]:
    """Turn `reference` into `hypothesis`, step by step.

    Args:
        reference: tokens, shape (N,): words, phones, or a string's characters.
        hypothesis: tokens, shape (M,).

    Returns:
        One operation a token: N + insertions of them.
    """
    ops: list[EditOp] = []
    for tag, start, end, other_start, other_end in _opcodes(reference, hypothesis):
        expected, found = reference[start:end], hypothesis[other_start:other_end]
        if tag == "equal":
            ops += [EditOp("hit", *pair) for pair in zip(expected, found, strict=True)]
        elif tag == "replace":
            ops += [EditOp("substitution", *pair) for pair in zip(expected, found, strict=True)]
        elif tag == "delete":
            ops += [EditOp("deletion", token, None) for token in expected]
        else:
            ops += [EditOp("insertion", None, token) for token in found]
    return ops


def count_edits(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> EditCounts:
    """Count the operations of `align`.

    Args:
        reference: tokens, shape (N,). May be empty: then every token of the hypothesis is an insertion.
        hypothesis: tokens, shape (M,).
    """
    counts = {"equal": 0, "replace": 0, "delete": 0, "insert": 0}
    for tag, start, end, other_start, other_end in _opcodes(reference, hypothesis):
        counts[tag] += other_end - other_start if tag == "insert" else end - start
    return EditCounts(counts["equal"], counts["replace"], counts["delete"], counts["insert"])


def _opcodes(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> Iterable[Any]:
    """Runs (equal, replace, delete or insert; start and end in the reference; start and end in the hypothesis)."""
    if not (isinstance(reference, str) and isinstance(hypothesis, str)):
        numbers: dict[Hashable, int] = {}
        reference = [numbers.setdefault(token, len(numbers)) for token in reference]
        hypothesis = [numbers.setdefault(token, len(numbers)) for token in hypothesis]
    return Levenshtein.opcodes(reference, hypothesis)
