"""Utterances of shards or a hub dataset in order, divided among readers without overlap."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

from speechtune.audio.packed import Packed
from speechtune.audio.probe import header_duration, is_plausible
from speechtune.corpora.columns import likely_text_column
from speechtune.corpora.layout import BadRow, Row, Shard
from speechtune.corpora.table import describe_columns
from speechtune.errors import AudioError, CorpusError
from speechtune.types import Skipped, Utterance

__all__ = ["UtteranceStream"]


class UtteranceStream:
    """Iterate over the utterances of all shards, or over one reader's share of them.

    Args:
        shards: where records come from.
        text_column: of the transcript; None takes the likeliest of the first record.
        label: names the corpus in messages.
        split: names the split in messages.
    """

    def __init__(
        self, shards: Sequence[Shard], *, text_column: str | None = None, label: str = "stream", split: str = "train"
    ) -> None:
        self.shards = shards
        self.text_column = text_column
        self.label = label
        self.split = split
        self.skipped: list[Skipped] = []  # by this reader so far
        self._reader, self._num_readers, self._by_record = 0, 1, False
        self._column_checked = False

    def share(self, reader: int, num_readers: int, *, by_record: bool = False) -> UtteranceStream:
        """Return the share of one reader (a rank's loader worker). Shares are disjoint and together complete.

        Readers get whole shards where there are enough of them, else every n-th record of each shard.

        Args:
            reader: number of this reader, 0 to num_readers - 1.
            num_readers: ranks times workers.
            by_record: always divide by record, so that readers stay equally far into the stream.
        """
        assert 0 <= reader < num_readers
        other = copy.copy(self)
        other._reader, other._num_readers, other.skipped = reader, num_readers, []
        other._by_record = by_record or len(self.shards) < num_readers
        return other

    def __iter__(self) -> Iterator[Utterance]:
        """Yield this reader's utterances; unusable records are added to `skipped`.

        Raises:
            CorpusError: a shard is torn, or there is no such text column.
        """
        readers = self._num_readers
        for number, shard in enumerate(self.shards):
            if self._by_record:
                rows = shard(part=(self._reader + number) % readers, num_parts=readers)
            elif number % readers == self._reader:
                rows = shard(part=0, num_parts=1)
            else:
                continue
            for row in rows:
                if utterance := self._utterance(row):
                    yield utterance

    def _utterance(self, row: Row | BadRow) -> Utterance | None:
        if isinstance(row, BadRow):
            self.skipped.append(Skipped(self.split, row.id, row.file, row.reason, row.detail))
            return None
        column = self._checked_column(row)
        try:
            audio, key, duration_s = _audio(row)
        except AudioError as error:
            self.skipped.append(Skipped(self.split, row.id, row.file, error.reason, " ".join(str(error).split())))
            return None
        text = row.columns.get(column) or ""
        return Utterance(row.id, audio, key, text, duration_s, row.file, row.speaker, row.language)

    def _checked_column(self, row: Row) -> str:
        if self.text_column is None:
            self.text_column = likely_text_column(row.columns) or "text"
        if self.text_column not in row.columns and not self._column_checked:
            raise CorpusError(describe_columns(self.label, self.split, self.text_column, list(row.columns)))
        self._column_checked = True  # later records may lack it, like an empty cell
        return self.text_column


def _audio(row: Row) -> tuple[str | bytes, str, float]:
    """Return (path or bytes, key, seconds); only the header is read.

    Raises:
        AudioError: it cannot be used.
    """
    from speechtune.audio.opening import bytes_key, file_key
    from speechtune.audio.packed import packed_bytes

    audio = packed_bytes(row.audio) if isinstance(row.audio, Packed) else row.audio
    key = row.key or (row.audio.key if isinstance(row.audio, Packed) else "")
    if not key:
        key = bytes_key(audio) if isinstance(audio, bytes) else file_key(audio)
    plausible = isinstance(audio, bytes) and is_plausible(row.duration_s, len(audio))
    return audio, key, row.duration_s if plausible else header_duration(audio, row.duration_s, name=row.file)
