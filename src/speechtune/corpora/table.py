"""One split as a table that costs nothing to open: an Arrow file in the cache, memory-mapped, rows made on demand.

A million utterances are a file of some hundred MB that processes and loader workers share through the page cache; what
travels to a worker is the file's path and the chosen row numbers. Audio stays where it lies.

Rejected: a `datasets.Dataset` (its cache copies a table at every change of an option) and a list of `Utterance`s
(a million of them take 1 GB and are copied into each worker).

Our own columns begin with '#'; the others are the corpus' own, all text, under the names that it has on the hub.
"""

from __future__ import annotations

import bisect
import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechtune.audio.packed import Packed, open_arrow, packed_bytes
from speechtune.errors import CorpusError
from speechtune.types import Skipped, Utterance

__all__ = ["Part", "SplitTable", "describe_columns", "own_columns"]


@dataclass(frozen=True, slots=True)
class Part:
    """An indexed split in the cache."""

    table: str  # path of the Arrow file
    skipped: str  # path of the JSON lines of what was skipped
    split: str
    label: str  # "common_voice/tr"
    id_prefix: str = ""  # keeps ids apart where splits are summed

    def read_skipped(self) -> list[Skipped]:
        """What could not be used, found while indexing."""
        rows = []
        for line in Path(self.skipped).read_text(encoding="utf-8").split("\n"):  # splitlines would split at U+2028
            if not line:
                continue
            fields = json.loads(line)
            if fields["duration_s"] is None:
                fields["duration_s"] = math.nan
            rows.append(Skipped(**fields))
        return rows


class SplitTable:
    """Utterances of one or several splits, in the corpus' order or a chosen one.

    Args:
        parts: indexed splits, one after the other.
        text_column: the corpus' column that holds the transcript.
        indices: chosen rows, shape (N,), counted over all parts; None takes all.

    Raises:
        CorpusError: a part has no such text column.
    """

    def __init__(
        self, parts: Sequence[Part], text_column: str, *, indices: NDArray[np.int64] | Sequence[int] | None = None
    ) -> None:
        self._parts = tuple(parts)
        self._text_column = text_column
        self._indices = None if indices is None else np.asarray(indices, dtype=np.int64)
        self._open()
        for part, table in zip(self._parts, self._tables, strict=True):
            if text_column not in table.column_names:
                raise CorpusError(describe_columns(part.label, part.split, text_column, own_columns(table)))
        if self._indices is not None and len(self._indices):
            assert self._indices.min() >= 0 and self._indices.max() < self._starts[-1], "row numbers out of range"

    def _open(self) -> None:
        self._tables = [open_arrow(part.table) for part in self._parts]
        names = ("#id", "#audio", "#key", "#duration_s", "#speaker", "#language", "#source", self._text_column)
        self._cells = [{name: t[name] for name in names if name in t.column_names} for t in self._tables]
        self._starts = [0, *itertools.accumulate(len(table) for table in self._tables)]
        self._facts = [json.loads(table.schema.metadata[b"speechtune"]) for table in self._tables]
        self._durations_s: NDArray[np.float32] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_parts": self._parts, "_text_column": self._text_column, "_indices": self._indices}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return self._starts[-1] if self._indices is None else len(self._indices)

    def __repr__(self) -> str:
        return f"SplitTable({self._parts[0].label if self._parts else ''} {self.split}: {len(self)} utterances)"

    def __getitem__(self, index: int) -> Utterance:
        """The utterance; audio that lies inside a larger file is fetched here, a path is only passed on.

        Raises:
            AudioError: bytes inside a larger file can't be had.
        """
        part, row = self._place(index)
        cells = self._cells[part]
        source = cells["#source"][row].as_py()
        file = cells["#audio"][row].as_py()
        audio: str | bytes
        if source < 0:
            audio = file = os.path.join(self._facts[part]["root"], file)  # noqa: PTH118 - a tenth of Path's cost
        else:
            audio = packed_bytes(self._packed(part, row, source))
        return Utterance(
            id=self._parts[part].id_prefix + cells["#id"][row].as_py(),
            audio=audio,
            audio_key=cells["#key"][row].as_py(),
            text=cells[self._text_column][row].as_py() or "",
            duration_s=cells["#duration_s"][row].as_py(),
            file=file,
            speaker=cells["#speaker"][row].as_py(),
            language=cells["#language"][row].as_py(),
        )

    def _place(self, index: int) -> tuple[int, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        index = int(index) % len(self)
        row = index if self._indices is None else int(self._indices[index])
        part = bisect.bisect_right(self._starts, row) - 1
        return part, row - self._starts[part]

    def _packed(self, part: int, row: int, source: int) -> Packed:
        table, kept = self._tables[part], self._facts[part]["sources"][source]
        return Packed(
            kept["kind"],
            kept["path"],
            table["#position"][row].as_py(),
            table["#num_bytes"][row].as_py(),
            kept["column"],
        )

    # Whole columns

    @property
    def split(self) -> str:
        """`train` or `train+validation`."""
        return "+".join(dict.fromkeys(part.split for part in self._parts))

    @property
    def columns(self) -> tuple[str, ...]:
        """The corpus' own columns, in its order."""
        return tuple(dict.fromkeys(name for table in self._tables for name in own_columns(table)))

    @property
    def text_column(self) -> str:
        """Where `texts` and `Utterance.text` come from."""
        return self._text_column

    @property
    def durations_s(self) -> NDArray[np.float32]:
        """Seconds, shape (N,); nan where unknown."""
        if self._durations_s is None:
            arrays = [table["#duration_s"].to_numpy() for table in self._tables]
            everything = np.concatenate([np.zeros(0, np.float32), *arrays]).astype(np.float32, copy=False)
            self._durations_s = everything if self._indices is None else everything[self._indices]
        return self._durations_s

    @property
    def texts(self) -> list[str]:
        """Transcripts as the corpus has them; an absent one is empty."""
        return [text or "" for text in self.column(self._text_column)]

    @property
    def ids(self) -> list[str]:
        """Unique in this table."""
        if not any(part.id_prefix for part in self._parts):
            return self.column("#id")
        prefixes = np.repeat([part.id_prefix for part in self._parts], np.diff(self._starts)).tolist()
        if self._indices is not None:
            prefixes = [prefixes[row] for row in self._indices]
        return [prefix + id for prefix, id in zip(prefixes, self.column("#id"), strict=True)]

    @property
    def speakers(self) -> list[str | None]:
        """One a row; None where the corpus doesn't say."""
        return self.column("#speaker")

    def column(self, name: str) -> list[Any]:
        """All values of a column of the corpus; None where a row has none, or a part lacks the column.

        Raises:
            CorpusError: no part has it.
        """
        if not name.startswith("#") and name not in self.columns:
            raise CorpusError(describe_columns(self._label, self.split, name, self.columns))
        values: list[Any] = []
        for table in self._tables:
            values += table[name].to_pylist() if name in table.column_names else [None] * len(table)
        return values if self._indices is None else [values[row] for row in self._indices]

    @property
    def _label(self) -> str:
        return self._parts[0].label if self._parts else ""

    @property
    def skipped(self) -> list[Skipped]:
        """Rows of these splits that could not be used, found while indexing. `select` doesn't change it."""
        parts = {part.skipped: part for part in self._parts}
        return [row for part in parts.values() for row in part.read_skipped()]

    # Other tables from this one

    def select(self, indices: NDArray[np.int64] | Sequence[int]) -> SplitTable:
        """The rows with these numbers (shape (M,)), in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        if self._indices is not None:
            chosen = self._indices[chosen]
        return SplitTable(self._parts, self._text_column, indices=chosen)

    def with_text_column(self, name: str) -> SplitTable:
        """The same rows with another transcript column, e.g. `phones` of TIMIT."""
        return SplitTable(self._parts, name, indices=self._indices)

    @classmethod
    def concat(cls, tables: Sequence[SplitTable]) -> SplitTable:
        """One table after the other. Ids that occur twice get their split's name in front, from the second table on."""
        assert tables, "nothing to concatenate"
        if len(tables) == 1:
            return tables[0]
        starts = np.cumsum([0, *(table._starts[-1] for table in tables)])
        indices: NDArray[np.int64] | None = None
        if any(table._indices is not None for table in tables):
            chosen = [np.arange(t._starts[-1]) if t._indices is None else t._indices for t in tables]
            indices = np.concatenate([rows + start for rows, start in zip(chosen, starts[:-1], strict=True)])
        clash = _ids_clash([arrow for table in tables for arrow in table._tables])
        parts: list[Part] = []
        for number, table in enumerate(tables):
            prefixed = clash and number > 0
            parts += [
                replace(part, id_prefix=f"{part.split}/{number}/" if prefixed else part.id_prefix)
                for part in table._parts
            ]
        return cls(parts, tables[0]._text_column, indices=indices)


def own_columns(table: Any) -> list[str]:
    """The corpus' columns of an index table (pyarrow.Table)."""
    return [name for name in table.column_names if not name.startswith("#")]


def _ids_clash(tables: Sequence[Any]) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = pa.chunked_array([chunk for table in tables for chunk in table["#id"].chunks], type=pa.string())
    return bool(pc.count_distinct(ids).as_py() < len(ids))


def describe_columns(label: str, split: str, wanted: str, columns: Sequence[str]) -> str:
    """The message for a column that isn't there: where, what is there, what to try."""
    text = f"{label}, split {split}: no column '{wanted}'.\nColumns: {', '.join(columns) or 'none'}."
    likely = [name for name in LIKELY_TEXT_COLUMNS if name in columns]
    return f"{text}\nTry --text_column_name {likely[0]}" if likely else text


LIKELY_TEXT_COLUMNS: Mapping[str, None] = dict.fromkeys(
    ("sentence", "text", "transcription", "transcript", "normalized_text", "raw_transcription", "raw_text")
)
