"""Groups of utterances that have something in common: length, speaker, and any column that the corpus has."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from speechtune.evaluation.error_analysis import DURATION_EDGES_S
from speechtune.types import Hypothesis

__all__ = ["Slice", "duration_name", "slices_of"]

MAX_GROUPS = 20  # of one kind, those with the most utterances: a corpus has thousands of speakers


@dataclass(frozen=True, slots=True)
class Slice:
    """Some rows of an evaluation: `by` "length", "speaker" or a column's name; `rows` are their places."""

    by: str
    name: str
    rows: list[int]


def slices_of(rows: Sequence[Hypothesis]) -> list[Slice]:
    """Return the groups of utterances by length and by speaker; kinds with a single group are left out."""
    kinds: list[tuple[str, Callable[[Hypothesis], str | None]]] = [
        ("length", lambda row: duration_name(row.duration_s)),
        ("speaker", lambda row: row.speaker),
    ]
    found = []
    for by, name_of in kinds:
        members: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            name = name_of(row)
            if name:
                members.setdefault(name, []).append(place)
        if len(members) > 1:
            found += [Slice(by, name, members[name]) for name in _chosen(by, members)]
    return found


def _chosen(by: str, members: dict[str, list[int]]) -> list[str]:
    """Return the names to show: lengths in their order, others with the most utterances first."""
    if by == "length":
        return sorted(members, key=lambda name: (name.startswith("over"), int(name.removeprefix("over ").split()[0])))
    sizes = Counter({name: len(places) for name, places in members.items()})
    return [name for name, _ in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:MAX_GROUPS]]


def duration_name(duration_s: float) -> str | None:
    """4.5 -> "4 to 6 s"; None where it is not known."""
    if duration_s != duration_s:
        return None
    edges = DURATION_EDGES_S
    names = [f"{low} to {high} s" for low, high in itertools.pairwise(edges)] + [f"over {edges[-1]} s"]
    return names[bisect.bisect_right(edges, duration_s) - 1]
