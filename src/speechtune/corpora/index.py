"""The index of a split: its rows, durations and unusable rows, read once and kept in cache/index/<fingerprint>/.

    index.json             what the rows depend on (tables and folders with size and mtime); names and checksums of:
    table-<state>.arrow    the usable rows (table.py)
    skipped-<state>.jsonl  the others, with reasons

The second start looks at the tables and at the folders that hold the audio, not at the clips: an edited table, an added
or removed clip is noticed (its folder changes), a clip whose content is replaced in place is not, until
`--overwrite_cache`. One process builds, the others of the machine wait for it; index.json is written last, so that a
kill leaves the old index or none.
"""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from speechtune.audio.packed import Packed, open_arrow
from speechtune.audio.probe import Probe, Task, describe, probe_all
from speechtune.corpora.cache import cache_problem, fingerprint, lock, stamp, sweep
from speechtune.corpora.layout import BadRow, Found, Layout, Reading, Row
from speechtune.corpora.table import IndexedSplit
from speechtune.errors import CorpusError
from speechtune.files import as_jsonl, crc32, replacing
from speechtune.terminal.progress import progress_bar
from speechtune.types import Skipped

__all__ = ["TableWriter", "index_split"]

log = logging.getLogger("speechtune")

INDEX_VERSION = 2
MAX_FOLDERS = 10_000  # that are looked at on the second start
CHUNK = 16_384  # rows that are Python objects at once
MAX_COLUMNS = 256  # of a corpus; JSON lines could bring a new name in each row


def index_split(
    layout: Layout,
    found: Found,
    split: str,
    reading: Reading,
    *,
    label: str,
    max_workers: int | None = None,
    progress: bool = True,
    newer_than_s: float = 0.0,
) -> IndexedSplit:
    """Return the split's index: from the cache if it is up to date, else built now.

    Args:
        layout: reads the rows.
        found: the corpus.
        split: canonical name.
        reading: options, and the cache folder.
        label: `common_voice/tr`, for messages.
        max_workers: processes that read headers; None takes one per core.
        progress: show it.
        newer_than_s: an index built before this Unix time is rebuilt (`--overwrite_cache`).

    Raises:
        CorpusError: the corpus' table or the cache can't be read or written.
    """
    places = sorted(str(place) for place in found.splits.get(split, ()))
    key = fingerprint(
        INDEX_VERSION, layout.name, layout.version, str(found.root), found.config, split, places,
        reading.audio_column, reading.allow_outside_audio,
    )  # fmt: skip
    folder = reading.cache / "index" / key
    what = f"{label}, split {split}"
    if current := _current(folder, split, label, newer_than_s):
        return current
    try:
        with lock(folder, f"indexing {what}"):
            if current := _current(folder, split, label, newer_than_s):
                return current  # another process has just built it
            sweep(folder)
            writer = TableWriter(split, found.root)
            with progress_bar(f"indexing {what}", unit="clips", shown=progress) as update:
                _read_rows(layout, found, reading, writer, max_workers, update)
            return writer.write(folder, label, sorted(reading.depends.values()))
    except OSError as error:
        raise cache_problem(folder, error) from error


def _current(folder: Path, split: str, label: str, newer_than_s: float) -> IndexedSplit | None:
    """Return the index in `folder` if it is whole and nothing that it depends on has changed."""
    try:
        file = folder / "index.json"
        if file.stat().st_mtime < newer_than_s:
            return None
        index = json.loads(file.read_bytes())
        if any(stamp(Path(known[0])) != known for known in index["depends"]):
            return None
        table, skipped = (folder / name for name in index["files"])
        if [crc32(table), crc32(skipped)] == index["crc32"]:
            return IndexedSplit(str(table), str(skipped), split, label)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError):
        pass
    log.warning("%s, split %s: the index in %s is damaged; building it again", label, split, folder)
    return None


def _read_rows(
    layout: Layout,
    found: Found,
    reading: Reading,
    writer: TableWriter,
    max_workers: int | None,
    update: Callable[[float, float], None],
) -> None:
    waiting: deque[Row | BadRow] = deque()  # until their audio, or that of the rows before them, was looked at

    def tasks() -> Iterator[Task]:
        try:
            for row in layout.read(found, writer.split, reading):
                waiting.append(row)
                if isinstance(row, Row):
                    assert not isinstance(row.audio, bytes), "bytes are for streams"
                    yield Task(row.audio, row.duration_s)
        except OSError as error:  # of the corpus, not of the cache
            raise CorpusError(f"{error.filename or found.root}: can't be read: {error.strerror or error}.") from error

    for done, seen in enumerate(probe_all(tasks(), max_workers=max_workers), 1):
        while isinstance(row := waiting.popleft(), BadRow):
            writer.skip(row)
        writer.add(row, seen)
        if isinstance(row.audio, str) and len(reading.depends) < MAX_FOLDERS:
            reading.seen(Path(row.audio).parent)
        if done % 256 == 0:
            update(done, reading.expected)
    for bad in waiting:
        assert isinstance(bad, BadRow), "every task has its answer"
        writer.skip(bad)


class TableWriter:
    """Collects the usable rows and the skipped ones, then writes the index.

    Texts go into Arrow in chunks, so that a million rows are never Python objects at once. Columns of the corpus are
    dictionaries of the chunk's values: speakers and accents repeat.

    Args:
        split: named in `Skipped`.
        root: audio paths are stored relative to it.
    """

    def __init__(self, split: str, root: Path) -> None:
        self.split = split
        self.skipped: list[Skipped] = []
        self._root = os.fsencode(root)
        self._rows: list[dict[str, Any]] = []
        self._chunks: list[Any] = []  # pyarrow.Table
        self._columns: dict[str, None] = {}  # of the corpus
        self._ids: set[int] = set()  # hashes: a tenth of the memory of the ids
        self._skipped_ids: set[int] = set()
        self._too_many_columns = False

    def skip(self, row: BadRow) -> None:
        """Add a row that could not be parsed."""
        id = _unique(row.id, self._skipped_ids) if row.id else ""
        self.skipped.append(
            Skipped(self.split, _printable(id), _printable(row.file), row.reason, _printable(row.detail))
        )

    def add(self, row: Row, seen: Probe) -> None:
        """Add a row whose audio was looked at, to the usable or the skipped ones."""
        assert not isinstance(row.audio, bytes), "bytes are for streams"
        packed = row.audio if isinstance(row.audio, Packed) else None
        file = row.file or describe(row.audio)
        if seen.reason:
            detail = f"{seen.detail.rstrip('.')} ({row.line})" if row.line else seen.detail
            self.skip(BadRow(file, detail, seen.reason, id=row.id))
            return
        try:
            for text in (row.id, row.speaker, row.language, *row.columns, *row.columns.values()):
                (text or "").encode()
            path = os.fsencode(file)
        except UnicodeEncodeError:
            self.skip(BadRow(file, "text with half a surrogate pair", id=row.id))
            return
        folder = os.fsencode(packed.source) if packed else self._root
        self._rows.append(
            self._known_columns(row)
            | {
                "#id": _unique(row.id, self._ids),
                "#audio": path if packed else path.removeprefix(folder + os.fsencode(os.sep)),
                "#folder": folder,
                "#kind": packed.kind if packed else None,
                "#column": packed.column if packed else None,
                "#position": packed.position if packed else -1,
                "#num_bytes": packed.num_bytes if packed else -1,
                "#key": seen.key,
                "#duration_s": seen.duration_s,
                "#speaker": row.speaker,
                "#language": row.language,
            }
        )
        if len(self._rows) == CHUNK:
            self._end_chunk()

    def _known_columns(self, row: Row) -> dict[str, Any]:
        new = [name for name in row.columns if name not in self._columns]
        if not new:
            return dict(row.columns)
        allowed = new[: MAX_COLUMNS - len(self._columns)]
        self._columns.update(dict.fromkeys(allowed))
        if len(allowed) < len(new) and not self._too_many_columns:
            log.warning("split %s has more than %d columns; the rest is ignored", self.split, MAX_COLUMNS)
            self._too_many_columns = True
        return {name: text for name, text in row.columns.items() if name in self._columns}

    def _end_chunk(self) -> None:
        import pyarrow as pa

        text, repeated = pa.string(), pa.dictionary(pa.int32(), pa.string())
        types = {
            "#id": text,
            "#audio": pa.binary(),
            "#folder": pa.dictionary(pa.int32(), pa.binary()),
            "#kind": repeated,
            "#column": repeated,
            "#position": pa.int64(),
            "#num_bytes": pa.int64(),
            "#key": text,
            "#duration_s": pa.float32(),
            "#speaker": repeated,
            "#language": repeated,
        } | dict.fromkeys(self._columns, repeated)
        arrays = [pa.array([row.get(name) for row in self._rows], type) for name, type in types.items()]
        self._chunks.append(pa.table(arrays, schema=pa.schema(list(types.items()))))
        self._rows = []

    def write(self, folder: Path, label: str, depends: list[list[Any]]) -> IndexedSplit:
        """Write the index, whole or not at all.

        Args:
            depends: `stamp` of every table and folder that the rows depend on.

        Raises:
            OSError: the cache is full or can't be written.
        """
        import pyarrow as pa

        self._end_chunk()
        data = pa.concat_tables(self._chunks, promote_options="default")
        state = fingerprint(depends)
        table, skipped = files = [folder / f"table-{state}.arrow", folder / f"skipped-{state}.jsonl"]
        open_arrow.cache_clear()  # an older file of this name may be open
        with replacing(skipped, "w") as file:
            file.write(as_jsonl(row.as_json() for row in self.skipped))
        with replacing(table) as file, pa.ipc.new_stream(file, data.schema) as sink:
            sink.write_table(data)
        index = {"files": [path.name for path in files], "crc32": list(map(crc32, files)), "depends": depends}
        with replacing(folder / "index.json", "w") as file:
            json.dump(index, file)
        return IndexedSplit(str(table), str(skipped), self.split, label)


def _unique(id: str, used: set[int]) -> str:
    """Return the id, numbered (`a#2`) if it was used before."""
    number, unique = 1, id
    while hash(unique) in used:
        number += 1
        unique = f"{id}#{number}"
    used.add(hash(unique))
    return unique


def _printable(text: str) -> str:
    """Replace half surrogates, which can't be written to a file, by an escape."""
    return text.encode("utf-8", "backslashreplace").decode()
