"""Alignment of a reference with a hypothesis at the smallest number of edits: the ground of WER, CER and PER.

rapidfuzz aligns; tokens are strings, which it compares by their 64-bit hashes.
Where several alignments need equally few edits, the split into substitutions, deletions and insertions is rapidfuzz'
choice, as in jiwer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from rapidfuzz.distance import Levenshtein

from speechtune.types import EditCounts

__all__ = ["EditOp", "align", "count_edits"]


class EditOp(NamedTuple):
    """One step of an alignment, from left to right."""

    kind: Literal["hit", "substitution", "deletion", "insertion"]
    reference: str | None  # the token; None for an insertion
    hypothesis: str | None  # None for a deletion


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[EditOp]:
    """Turn `reference` into `hypothesis`, step by step.

    Args:
        reference: tokens, shape (N,): words, phones, or a string's characters.
        hypothesis: tokens, shape (M,).

    Returns:
        One operation a token: N + insertions of them.
    """
    ops: list[EditOp] = []
    for run in Levenshtein.opcodes(reference, hypothesis):
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


def count_edits(reference: Sequence[str], hypothesis: Sequence[str]) -> EditCounts:
    """Count the operations of `align`.

    Args:
        reference: tokens, shape (N,). May be empty: then every token of the hypothesis is an insertion.
        hypothesis: tokens, shape (M,).
    """
    edits = Levenshtein.editops(reference, hypothesis)
    if not edits:
        return EditCounts(len(reference))
    deletions = 0
    for kind, _, _ in edits.as_list():  # as tuples: cheaper than an object an edit
        if kind == "delete":
            deletions += 1
    insertions = deletions + len(hypothesis) - len(reference)
    substitutions = len(edits) - deletions - insertions
    return EditCounts(len(reference) - substitutions - deletions, substitutions, deletions, insertions)
