"""Utterances one after the other, shared among readers without overlap, from any position on.

A position is (shard, record in the shard). Readers get whole shards where there are enough of them, else every n-th
record of each: `by="record"` forces that, so that positions mean the same for any number of readers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from speechtune.audio.packed import Packed
from speechtune.audio.probe import describe
from speechtune.corpora.columns import TEXT_COLUMNS
from speechtune.corpora.layout import BadRow, Found, Layout, Reading, Row, StreamSource
from speechtune.corpora.table import describe_columns
from speechtune.errors import AudioError, CorpusError
from speechtune.types import Skipped, Utterance

__all__ = ["LayoutSource", "Position", "UtteranceStream"]


class Position(NamedTuple):
    """Of a record: counted from 0. JSON writes it as [shard, record]."""

    shard: int
    record: int


class UtteranceStream:
    """Reads a source in order. Iterating gives utterances; `rows` gives their positions too.

    Args:
        source: where records come from.
        text_column: of the transcript; None takes the likeliest of the first record's.
        consumer: this reader's number, 0 to num_consumers - 1.
        num_consumers: readers that share the source: ranks times workers.
        by: "shard", "record", or "auto": by shard where every reader gets at least one.
        label: names the corpus in messages.
        split: names the split in messages.
    """

    def __init__(
        self,
        source: StreamSource,
        *,
        text_column: str | None = None,
        consumer: int = 0,
        num_consumers: int = 1,
        by: str = "auto",
        label: str = "stream",
        split: str = "train",
    ) -> None:
        assert 0 <= consumer < num_consumers and by in ("auto", "shard", "record")
        self.source = source
        self.text_column = text_column
        self.consumer = consumer
        self.num_consumers = num_consumers
        self.by = by
        self.label = label
        self.split = split
        self.skipped: list[Skipped] = []  # met so far by this reader

    def share(self, consumer: int, num_consumers: int, *, by: str = "auto") -> UtteranceStream:
        """The part of reader `consumer` among `num_consumers`. The shares are disjoint and together are the whole."""
        other = copy.copy(self)
        other.consumer, other.num_consumers, other.by, other.skipped = consumer, num_consumers, by, []
        assert 0 <= consumer < num_consumers
        return other

    def __iter__(self) -> Iterator[Utterance]:
        for _, utterance in self.rows():
            yield utterance

    def rows(self, start: Position | tuple[int, int] = (0, 0)) -> Iterator[tuple[Position, Utterance]]:
        """(position, utterance) of this reader's records from `start` on, in order.

        To go on after an utterance at (s, r), start at (s, r + 1).

        Raises:
            CorpusError: a shard is torn, or there is no such text column.
        """
        start = Position(*start)
        enough = self.source.num_shards >= self.num_consumers and not isinstance(self.source, LayoutSource)
        by_shard = self.by == "shard" or (self.by == "auto" and enough)
        for shard in range(start.shard, self.source.num_shards):
            if by_shard and shard % self.num_consumers != self.consumer:
                continue
            first = start.record if shard == start.shard else 0
            for record, row in self.source.rows(shard, first, self._wanted(shard, by_shard)):
                if utterance := self._utterance(row):
                    yield Position(shard, record), utterance

    def _wanted(self, shard: int, by_shard: bool) -> Wanted:
        return Wanted(1, 0) if by_shard else Wanted(self.num_consumers, (self.consumer + shard) % self.num_consumers)

    def _utterance(self, row: Row | BadRow) -> Utterance | None:
        if isinstance(row, BadRow):
            self.skipped.append(Skipped(self.split, row.id, row.file, row.reason, row.detail))
            return None
        file = row.file or (describe(row.audio) if not isinstance(row.audio, bytes) else "")
        column = self._checked_column(row)
        try:
            audio, key, duration_s = _audio(row, file)
        except AudioError as error:
            self.skipped.append(Skipped(self.split, row.id, file, error.reason, " ".join(str(error).split())))
            return None
        text = row.columns.get(column) or ""
        return Utterance(row.id, audio, key, text, duration_s, file, row.speaker, row.language)

    def _checked_column(self, row: Row) -> str:
        if self.text_column is None:
            self.text_column = next((name for name in TEXT_COLUMNS if name in row.columns), "text")
        if self.text_column not in row.columns and not getattr(self, "_met", False):
            raise CorpusError(describe_columns(self.label, self.split, self.text_column, list(row.columns)))
        self._met = True  # later records may lack it, like an empty cell
        return self.text_column


class LayoutSource:
    """A corpus in files as a stream: its rows in order, one shard a split. Splits differ in size: shared by record."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def open(self, found: Found, splits: Sequence[str], reading: Reading) -> LayoutSource:
        """For these splits, one after the other."""
        self._found, self._splits, self._reading = found, list(splits), reading
        return self

    @property
    def num_shards(self) -> int:
        return len(self._splits)

    def rows(self, shard: int, start: int, wanted: Callable[[int], bool]) -> Iterator[tuple[int, Row | BadRow]]:
        for number, row in enumerate(self._layout.read(self._found, self._splits[shard], self._reading)):
            if number >= start and wanted(number):
                yield number, row


class Wanted:
    """Every n-th number. A class, not a closure, so that it travels to workers."""

    def __init__(self, every: int, rest: int) -> None:
        self.every = every
        self.rest = rest

    def __call__(self, number: int) -> bool:
        return number % self.every == self.rest


def _audio(row: Row, file: str) -> tuple[str | bytes, str, float]:
    """(path or bytes, key, seconds); only the header is read.

    Raises:
        AudioError: it can't be used.
    """
    from speechtune.audio.decode import bytes_key, file_key, read_header
    from speechtune.audio.packed import packed_bytes

    audio = packed_bytes(row.audio) if isinstance(row.audio, Packed) else row.audio
    key = row.key or (row.audio.key if isinstance(row.audio, Packed) else "")
    if not key:
        key = bytes_key(audio) if isinstance(audio, bytes) else file_key(audio)
    known = row.duration_s > 0 and math.isfinite(row.duration_s)
    return audio, key, row.duration_s if known else read_header(audio, name=file).duration_s
