"""Groups of utterances that have something in common: length, speaker, and any column that the corpus has."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from speechtune.corpora.columns import DURATION_COLUMNS, ID_COLUMNS, SPEAKER_COLUMNS, TEXT_COLUMNS
from speechtune.corpora.table import SplitTable
from speechtune.evaluation.error_analysis import DURATION_EDGES_S
from speechtune.types import Hypothesis

__all__ = ["Slice", "duration_name", "slices_of", "with_columns"]

NO_GROUPS = (
    "length",
    "up_votes",
    "down_votes",
    *TEXT_COLUMNS,
    *ID_COLUMNS,
    *SPEAKER_COLUMNS,
    *DURATION_COLUMNS,
)  # what a column of this name is
MAX_VALUES = 20  # of a column that tells groups apart
MAX_GROUPS = 20  # of one kind, those with the most utterances: a corpus has thousands of speakers


@dataclass(frozen=True, slots=True)
class Slice:
    """Some rows of an evaluation: `by` "length", "speaker" or a column's name; `rows` are their places."""

    by: str
    name: str
    rows: list[int]


def slices_of(rows: Sequence[Hypothesis]) -> list[Slice]:
    """Return the groups by length, speaker and each column of the corpus; those that say nothing are left out."""
    kinds: list[tuple[str, Callable[[Hypothesis], str | None]]] = [
        ("length", lambda row: duration_name(row.duration_s)),
        ("speaker", lambda row: row.speaker),
    ]
    columns = dict.fromkeys(name for row in rows for name in row.columns)
    kinds += [(name, partial(_value, name)) for name in columns]
    found = []
    for by, name_of in kinds:
        members: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            name = name_of(row)
            if name:
                members.setdefault(name, []).append(place)
        if len(members) > 1 and len(members) < sum(map(len, members.values())):  # each of a single one says nothing
            found += [Slice(by, name, members[name]) for name in _chosen(by, members)]
    return found


def _chosen(by: str, members: dict[str, list[int]]) -> list[str]:
    """Return the names to show: lengths in their order, others with the most utterances first."""
    if by == "length":
        return sorted(members, key=lambda name: (name.startswith("over"), int(name.removeprefix("over ").split()[0])))
    sizes = Counter({name: len(places) for name, places in members.items()})
    return [name for name, _ in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:MAX_GROUPS]]


def _value(name: str, row: Hypothesis) -> str | None:
    return row.columns.get(name)


def with_columns(rows: Sequence[Hypothesis], table: SplitTable) -> list[Hypothesis]:
    """Return the rows with the columns of their corpus that tell groups apart, such as gender, accent and age.

    Those are columns with 2 to `MAX_VALUES` different values among these utterances, most of which share theirs.
    """
    places = {id: place for place, id in enumerate(table.ids)}
    found: list[dict[str, str]] = [{} for _ in rows]
    for name in table.columns:
        if name in (table.text_column, *NO_GROUPS):
            continue
        values = table.column(name)
        own = [str(values[places[row.id]] or "").strip() if row.id in places else "" for row in rows]
        different = {value for value in own if value}
        if not 2 <= len(different) <= min(MAX_VALUES, len(rows) // 2):
            continue
        for columns, value in zip(found, own, strict=True):
            if value:
                columns[name] = value
    return [replace(row, columns=columns) if columns else row for row, columns in zip(rows, found, strict=True)]


def duration_name(duration_s: float) -> str | None:
    """4.5 -> "4 to 6 s"; None where it is not known."""
    if duration_s != duration_s:
        return None
    edges = DURATION_EDGES_S
    names = [f"{low} to {high} s" for low, high in itertools.pairwise(edges)] + [f"over {edges[-1]} s"]
    return names[bisect.bisect_right(edges, duration_s) - 1]
