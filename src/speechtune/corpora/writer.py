"""Rows -> the Arrow file that `SplitTable` opens.

Text goes into Arrow in chunks, so a million rows never are objects at once; columns that repeat themselves (speaker,
accent) are stored as a dictionary.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from speechtune.audio.packed import Packed
from speechtune.audio.probe import Probe, describe
from speechtune.corpora.layout import BadRow, Row
from speechtune.files import replacing
from speechtune.types import Skipped

__all__ = ["TableWriter"]

log = logging.getLogger("speechtune")

CHUNK = 16_384  # rows
MAX_COLUMNS = 256  # of a corpus; JSON lines could bring a new name in each row

_OWN = ("#id", "#audio", "#key", "#speaker", "#language", "#duration_s", "#source", "#position", "#num_bytes")


class TableWriter:
    """Collects usable rows and what was skipped, then writes both.

    Args:
        split: named in what was skipped.
        root: audio paths are stored relative to it.
    """

    def __init__(self, split: str, root: Path) -> None:
        self.split = split
        self.num_rows = 0
        self.skipped: list[Skipped] = []
        self._root = str(root)
        self._rows: list[dict[str, Any]] = []
        self._chunks: dict[str, list[Any]] = {name: [] for name in _OWN}
        self._types: dict[str, Any] = {}  # pyarrow types
        self._chunk_sizes: list[int] = []
        self._sources: dict[tuple[str, str, str], int] = {}
        self._seen: set[int] = set()  # hashes of ids: a tenth of the memory of the ids
        self._ignored: set[str] = set()

    def leave_out(self, row: BadRow) -> None:
        """Count and keep a line that could not be parsed."""
        self.skipped.append(Skipped(self.split, _clean(row.id), _clean(row.file), row.reason, _clean(row.detail)))

    def add(self, row: Row, seen: Probe) -> None:
        """Keep a row whose audio was looked at, among the usable ones or those skipped."""
        assert not isinstance(row.audio, bytes), "bytes are for streams"
        file = row.file or describe(row.audio)
        if seen.reason:
            self.skipped.append(Skipped(self.split, _clean(row.id), _clean(file), seen.reason, _clean(seen.detail)))
            return
        fields: dict[str, Any] = dict(row.columns)
        if not _encodable([row.id, file, row.speaker, row.language, *fields, *fields.values()]):
            self.leave_out(BadRow(file, "text with half a surrogate pair", id=row.id))
            return
        if len(fields) + len(self._chunks) > MAX_COLUMNS + len(_OWN):
            fields = self._within_limit(fields)
        where = row.audio
        packed = where if isinstance(where, Packed) else None
        fields |= {
            "#id": self._unique(row.id),
            "#audio": file if packed else self._relative(str(where)),
            "#key": seen.key,
            "#speaker": row.speaker,
            "#language": row.language,
            "#duration_s": seen.duration_s,
            "#source": self._source(packed) if packed else -1,
            "#position": packed.position if packed else -1,
            "#num_bytes": packed.num_bytes if packed else -1,
        }
        self._rows.append(fields)
        self.num_rows += 1
        if len(self._rows) == CHUNK:
            self._flush()

    def _within_limit(self, fields: dict[str, Any]) -> dict[str, Any]:
        known = {name for name in fields if name in self._chunks}
        room = MAX_COLUMNS + len(_OWN) - len(self._chunks)
        kept = known | set([name for name in fields if name not in known][: max(0, room)])
        if not self._ignored and set(fields) - kept:
            log.warning("split %s has more than %d columns; the rest is ignored", self.split, MAX_COLUMNS)
        self._ignored |= set(list(set(fields) - kept)[:1])
        return {name: value for name, value in fields.items() if name in kept}

    def _unique(self, id: str) -> str:
        number, unique = 1, id
        while hash(unique) in self._seen:
            number += 1
            unique = f"{id}#{number}"
        self._seen.add(hash(unique))
        return unique

    def _relative(self, path: str) -> str:
        prefix = self._root + os.sep
        return path[len(prefix) :] if path.startswith(prefix) else path

    def _source(self, packed: Packed) -> int:
        return self._sources.setdefault((packed.kind, packed.source, packed.column), len(self._sources))

    def _flush(self, *, last: bool = False) -> None:
        import pyarrow as pa

        if not self._rows and not (last and not self._types):
            return  # an empty table still gets its columns
        names = dict.fromkeys([*self._chunks, *(name for row in self._rows for name in row)])
        for name in names:
            values = pa.array([row.get(name) for row in self._rows], _type(name))
            if name not in self._types:
                self._types[name] = values.dictionary_encode().type if self._repeats(name, values) else values.type
                self._chunks[name] = [pa.nulls(size, self._types[name]) for size in self._chunk_sizes]
            encoded = pa.types.is_dictionary(self._types[name])
            self._chunks[name].append(values.dictionary_encode() if encoded else values)
        self._chunk_sizes.append(len(self._rows))
        self._rows = []

    def _repeats(self, name: str, values: Any) -> bool:
        """Whether a text column is better stored as a dictionary, judged by its first chunk."""
        if name in ("#speaker", "#language"):
            return True
        import pyarrow as pa
        import pyarrow.compute as pc

        many = pa.types.is_string(values.type) and len(values) == CHUNK
        return many and pc.count_distinct(values).as_py() < len(values) // 2

    def write(self, table: Path, skipped: Path) -> None:
        """Write both files, whole or not at all.

        Raises:
            OSError: the cache is full or can't be written.
        """
        import pyarrow as pa

        self._flush(last=True)
        columns = {name: pa.chunked_array(self._chunks[name], type=self._types[name]) for name in self._types}
        facts = {
            "root": self._root,
            "sources": [{"kind": kind, "path": path, "column": column} for kind, path, column in self._sources],
        }
        data = pa.table(columns).replace_schema_metadata({"speechtune": json.dumps(facts)}).unify_dictionaries()
        with replacing(skipped, "w") as file:
            file.writelines(json.dumps(row.as_json(), ensure_ascii=False) + "\n" for row in self.skipped)
        with replacing(table) as file, pa.ipc.new_file(file, data.schema) as sink:
            sink.write_table(data)


def _type(name: str) -> Any:
    import pyarrow as pa

    if name == "#duration_s":
        return pa.float32()
    if name == "#source":
        return pa.int32()
    return pa.int64() if name in ("#position", "#num_bytes") else pa.string()


def _encodable(texts: list[str | None]) -> bool:
    try:
        for text in texts:
            if text:
                text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _clean(text: str) -> str:
    """Half surrogates, which can't be written to a file, made visible."""
    return text.encode("utf-8", "backslashreplace").decode()
