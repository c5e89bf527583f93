"""Alignment of a reference with a hypothesis at the smallest number of edits: the ground of WER, CER and PER.

rapidfuzz aligns; tokens that are no strings are numbered first, since it compares hashes and hash(-1) == hash(-2).
Where several alignments need equally few edits, the split into substitutions, deletions and insertions is rapidfuzz'
choice, as in jiwer.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

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
    for run in Levenshtein.opcodes(*_comparable(reference, hypothesis)):
        expected, found = reference[run.src_start : run.src_end], hypothesis[run.dest_start : run.dest_end]
        if run.tag == "equal":
            ops += [EditOp("hit", *pair) for pair in zip(expected, found, strict=True)]
        elif run.tag == "replace":
            ops += [EditOp("substitution", *pair) for pair in zip(expected, found, strict=True)]
        elif run.tag == "delete":
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
    reference, hypothesis = _comparable(reference, hypothesis)
    # Cheaper than opcodes: nothing to do for what is equal. And as tuples: no object an edit.
    tags = [tag for tag, _, _ in Levenshtein.editops(reference, hypothesis).as_list()]
    deletions, insertions = tags.count("delete"), tags.count("insert")
    substitutions = len(tags) - deletions - insertions
    return EditCounts(len(reference) - substitutions - deletions, substitutions, deletions, insertions)


def _comparable(
    reference: Sequence[Hashable], hypothesis: Sequence[Hashable]
) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
    """The same sequences for rapidfuzz, which compares hashes: strings as they are, others numbered."""
    if isinstance(reference, str) and isinstance(hypothesis, str):
        return reference, hypothesis
    if {str}.issuperset(map(type, reference)) and {str}.issuperset(map(type, hypothesis)):
        return reference, hypothesis
    numbers: dict[Hashable, int] = {}
    return (
        [numbers.setdefault(token, len(numbers)) for token in reference],
        [numbers.setdefault(token, len(numbers)) for token in hypothesis],
    )
