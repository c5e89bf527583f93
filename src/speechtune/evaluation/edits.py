"""Alignment of a reference with a hypothesis at the smallest number of edits, by rapidfuzz.

Where several alignments need equally few edits, the split into substitutions, deletions and insertions is rapidfuzz'
choice, as in jiwer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

from speechtune.types import EditCounts

__all__ = ["EditOp", "align", "count_edits"]

_KINDS = {"equal": "hit", "replace": "substitution", "delete": "deletion", "insert": "insertion"}


class EditOp(NamedTuple):
    """One step of an alignment, from left to right."""

    kind: str  # "hit", "substitution", "deletion" or "insertion"
    reference: str  # the token; "" for an insertion
    hypothesis: str  # "" for a deletion


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[EditOp]:
    """Return the operations that turn `reference` into `hypothesis`, one a token: N + insertions of them.

    Args:
        reference: tokens, shape (N,): words, phones, or a string's characters.
        hypothesis: tokens, shape (M,).
    """
    ops: list[EditOp] = []
    for run in Levenshtein.opcodes(reference, hypothesis):
        expected, found = reference[run.src_start : run.src_end], hypothesis[run.dest_start : run.dest_end]
        length = max(len(expected), len(found))  # one of the two is empty in a deletion or an insertion
        pairs = zip(expected or [""] * length, found or [""] * length, strict=True)
        ops += [EditOp(_KINDS[run.tag], *pair) for pair in pairs]
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
    deletions = sum(kind == "delete" for kind, _, _ in edits.as_list())  # as tuples: cheaper than an object an edit
    insertions = deletions + len(hypothesis) - len(reference)
    substitutions = len(edits) - deletions - insertions
    return EditCounts(len(reference) - substitutions - deletions, substitutions, deletions, insertions)
