"""A split as a table that costs nothing to open: an Arrow file in the cache, memory-mapped, rows made on demand.

A million utterances are a file of some hundred MB that processes and loader workers share through the page cache; a
worker gets the file's path and the selected row numbers. Audio stays in the corpus.

Rejected: `datasets.Dataset` (1 s to import, 7 times as long for a row; docs/dependencies.md) and a list of
`Utterance`s (1 GB for a million, copied into each worker).

Our own columns begin with '#'; the others are the corpus' own, all text, under the names that it has on the hub.
"""

from __future__ import annotations

import itertools
import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechtune.audio.packed import Packed, open_arrow, packed_bytes
from speechtune.corpora.columns import likely_text_column
from speechtune.errors import CorpusError
from speechtune.files import read_jsonl
from speechtune.types import Skipped, Utterance

__all__ = ["IndexedSplit", "SplitTable", "corpus_columns", "describe_columns"]


@dataclass(frozen=True, slots=True)
class IndexedSplit:
    """An indexed split in the cache."""

    table: str  # path of the Arrow file
    skipped: str  # path of the JSON lines of skipped rows
    name: str
    label: str  # "common_voice/tr"
    id_prefix: str = ""  # keeps ids unique where splits are concatenated

    def read_skipped(self) -> list[Skipped]:
        """Return the rows that could not be used, found while indexing."""
        return [Skipped.from_json(row) for row in read_jsonl(Path(self.skipped))]


class SplitTable:
    """Utterances of one or several splits, in the corpus' order or a selected one.

    Args:
        splits: indexed splits, one after the other.
        text_column: the corpus' column that holds the transcript.
        indices: selected rows, shape (N,), counted over all splits; None takes all.
        corrections: row, counted over all splits -> transcript that replaces the corpus' own.
        removed: utterances that a person removed; `skipped` has them.

    Raises:
        CorpusError: a split has no such text column.
    """

    def __init__(
        self,
        splits: Sequence[IndexedSplit],
        text_column: str,
        *,
        indices: NDArray[np.int64] | Sequence[int] | None = None,
        corrections: Mapping[int, str] | None = None,
        removed: Sequence[Skipped] = (),
    ) -> None:
        self._splits = tuple(splits)
        self.text_column = text_column
        self._indices = None if indices is None else np.asarray(indices, dtype=np.int64)
        self._corrections, self._removed = dict(corrections or {}), tuple(removed)
        self._open()
        for split in self._splits:
            columns = corpus_columns(open_arrow(split.table))
            if text_column not in columns:
                raise CorpusError(describe_columns(split.label, split.name, text_column, columns))
        if self._indices is not None and len(self._indices):
            assert self._indices.min() >= 0 and self._indices.max() < len(self._table), "row numbers out of range"

    def _open(self) -> None:
        import pyarrow as pa

        tables = [open_arrow(split.table) for split in self._splits]
        self._starts = [0, *itertools.accumulate(map(len, tables))]
        self._table = pa.concat_tables(tables, promote_options="default")
        self._cells = {name: self._table[name] for name in self._table.column_names}
        self._durations_s: NDArray[np.float32] | None = None

    def __getstate__(self) -> dict[str, Any]:
        names = ("_splits", "text_column", "_indices", "_corrections", "_removed")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return len(self._table) if self._indices is None else len(self._indices)

    def __getitem__(self, index: int) -> Utterance:
        """Return an utterance. Audio inside a larger file is read here; of other audio, the path is passed on.

        Raises:
            AudioError: bytes inside a larger file can't be read.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        row = index % len(self) if self._indices is None else int(self._indices[index])
        cell = lambda name: self._cells[name][row].as_py()  # noqa: E731
        folder, file, position = os.fsdecode(cell("#folder")), os.fsdecode(cell("#audio")), cell("#position")
        audio: str | bytes
        if position < 0:
            audio = file = os.path.join(folder, file)  # noqa: PTH118 - a tenth of Path's cost
        else:
            audio = packed_bytes(Packed(cell("#kind"), folder, position, cell("#num_bytes"), cell("#column")))
        return Utterance(
            id=self._splits[bisect_right(self._starts, row) - 1].id_prefix + cell("#id"),
            audio=audio,
            audio_key=cell("#key"),
            text=self._corrections.get(row) or cell(self.text_column) or "",
            duration_s=cell("#duration_s"),
            file=file,
            speaker=cell("#speaker"),
            language=cell("#language"),
        )

    # Whole columns

    @property
    def split(self) -> str:
        """`train` or `train+validation`."""
        return "+".join(dict.fromkeys(split.name for split in self._splits))

    @property
    def columns(self) -> tuple[str, ...]:
        """The corpus' own columns, in its order."""
        return corpus_columns(self._table)

    @property
    def durations_s(self) -> NDArray[np.float32]:
        """Seconds, shape (N,); nan where unknown."""
        if self._durations_s is None:
            durations_s = self._table["#duration_s"].to_numpy()
            self._durations_s = durations_s if self._indices is None else durations_s[self._indices]
        return self._durations_s

    @property
    def texts(self) -> list[str]:
        """Transcripts as the corpus has them, or corrected; an absent one is empty."""
        texts = [text or "" for text in self.column(self.text_column)]
        if self._corrections:
            rows = range(len(texts)) if self._indices is None else self._indices.tolist()
            texts = [self._corrections.get(row, text) for row, text in zip(rows, texts, strict=True)]
        return texts

    @property
    def ids(self) -> list[str]:
        """Unique in this table."""
        prefixes = np.repeat([split.id_prefix for split in self._splits], np.diff(self._starts))
        prefixes = prefixes if self._indices is None else prefixes[self._indices]
        return [prefix + id for prefix, id in zip(prefixes.tolist(), self.column("#id"), strict=True)]

    @property
    def files(self) -> list[str]:
        """Name of each recording, as in an `Utterance`'s `file`."""
        rows = zip(self.column("#folder"), self.column("#audio"), self.column("#position"), strict=True)
        return [
            os.path.join(os.fsdecode(folder), os.fsdecode(file)) if position < 0 else os.fsdecode(file)  # noqa: PTH118
            for folder, file, position in rows
        ]

    @property
    def num_corrected(self) -> int:
        """Number of transcripts that differ from the corpus'."""
        return len(self._corrections)

    @property
    def removed(self) -> tuple[Skipped, ...]:
        """Utterances that a person removed."""
        return self._removed

    @property
    def speakers(self) -> list[str | None]:
        """One per row; None where the corpus doesn't say."""
        return self.column("#speaker")

    def column(self, name: str) -> list[Any]:
        """Return all values of a column of the corpus; None where a row has none, or a split lacks the column.

        Raises:
            CorpusError: no split has it.
        """
        import pyarrow as pa

        if name not in self._table.column_names:
            raise CorpusError(describe_columns(self._splits[0].label, self.split, name, self.columns))
        values = self._table[name]
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if self._indices is not None:
            values = values.take(pa.array(self._indices))
        return values.to_pylist()

    @property
    def skipped(self) -> list[Skipped]:
        """Rows of these splits that could not be used, found while indexing, and those that a person removed.

        `select` doesn't change it.
        """
        splits = {split.skipped: split for split in self._splits}
        return [*(row for split in splits.values() for row in split.read_skipped()), *self._removed]

    # Other tables from this one

    def select(self, indices: NDArray[np.int64] | Sequence[int]) -> SplitTable:
        """Return the rows with these numbers (shape (M,)), in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        if self._indices is not None:
            chosen = self._indices[chosen]
        return SplitTable(
            self._splits, self.text_column, indices=chosen, corrections=self._corrections, removed=self._removed
        )

    def corrected(self, texts: Mapping[int, str], *, removed: Sequence[int] = ()) -> SplitTable:
        """Return the same rows with other transcripts, and without some of them.

        Args:
            texts: row -> transcript.
            removed: rows.
        """
        ids, files, gone = self.ids, self.files, frozenset(removed)
        records = [
            Skipped(self.split, ids[row], files[row], "removed", "--corrections", float(self.durations_s[row]))
            for row in sorted(gone)
        ]
        rows = np.arange(len(self._table)) if self._indices is None else self._indices
        kept = [row for row in range(len(self)) if row not in gone]
        whole = self._indices is None and not gone
        return SplitTable(
            self._splits,
            self.text_column,
            indices=None if whole else rows[kept],
            corrections=self._corrections | {int(rows[row]): text for row, text in texts.items()},
            removed=[*self._removed, *records],
        )

    @classmethod
    def concat(cls, tables: Sequence[SplitTable]) -> SplitTable:
        """Concatenate tables. Ids that occur twice are prefixed with their split's name, from the second table on."""
        assert tables, "nothing to concatenate"
        assert not any(table._corrections or table._removed for table in tables), "corrected before they were joined"
        if len(tables) == 1:
            return tables[0]
        clash = _ids_clash([open_arrow(split.table) for table in tables for split in table._splits])
        splits: list[IndexedSplit] = []
        chosen: list[NDArray[np.int64]] = []
        start = 0
        for number, table in enumerate(tables):
            for split in table._splits:
                prefixed = clash and number > 0
                splits.append(replace(split, id_prefix=f"{split.name}/{number}/") if prefixed else split)
            rows = np.arange(len(table._table)) if table._indices is None else table._indices
            chosen.append(rows + start)
            start += len(table._table)
        whole = all(table._indices is None for table in tables)
        return cls(splits, tables[0].text_column, indices=None if whole else np.concatenate(chosen))


def corpus_columns(table: Any) -> tuple[str, ...]:
    """Return the corpus' columns of an index table (pyarrow.Table)."""
    return tuple(name for name in table.column_names if not name.startswith("#"))


def _ids_clash(tables: Sequence[Any]) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = pa.chunked_array([chunk for table in tables for chunk in table["#id"].chunks], type=pa.string())
    return bool(pc.count_distinct(ids).as_py() < len(ids))


def describe_columns(label: str, split: str, wanted: str, columns: Sequence[str]) -> str:
    """Return the message for a missing column: where, what there is, what to try."""
    text = f"{label}, split {split}: no column '{wanted}'.\nColumns: {', '.join(columns) or 'none'}."
    likely = likely_text_column(columns)
    return f"{text}\nTry --text_column_name {likely}" if likely else text
