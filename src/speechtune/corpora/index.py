"""The index of a split: its rows, durations and what can't be used, found once and kept in cache/index/<fingerprint>/.

    index.json              what the rows depend on (tables and folders with size and mtime), and the names of:
    table-<state>.arrow     the usable rows (table.py)
    skipped-<state>.jsonl  the others, with reasons

The second start looks at the tables and at the folders that hold the audio, not at the clips: an edited table, an added
or removed clip is noticed (its folder changes), a clip whose content is replaced in place is not, until
`--overwrite_cache`. One process builds, the others of the machine wait for it; index.json is written last, so that a
kill leaves the old index or none.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from speechtune.audio.packed import open_arrow
from speechtune.audio.probe import Probe, Task, probe_all, task_of
from speechtune.corpora.cache import cache_problem, fingerprint, lock, stamp, sweep
from speechtune.corpora.layout import BadRow, Found, Layout, Reading, Row
from speechtune.corpora.table import Part
from speechtune.corpora.writer import TableWriter
from speechtune.errors import CorpusError
from speechtune.files import replacing
from speechtune.terminal.progress import progress_bar

__all__ = ["index_split"]

log = logging.getLogger("speechtune")

INDEX_VERSION = 1
MAX_FOLDERS = 10_000  # that are looked at on the second start


def index_split(
    layout: Layout,
    found: Found,
    split: str,
    *,
    label: str,
    cache: Path,
    reading: Callable[[], Reading],
    max_workers: int | None = None,
    progress: bool = True,
    newer_than_s: float = 0.0,
) -> Part:
    """The split's index, from the cache where it is still true, else built now.

    Args:
        layout: reads the rows.
        found: where the corpus lies.
        split: canonical name.
        label: `common_voice/tr`, for messages.
        cache: the cache folder.
        reading: makes a fresh `Reading`.
        max_workers: processes that read headers; None takes one a core.
        progress: show it.
        newer_than_s: an index built before this Unix time is built anew (`--overwrite_cache`).

    Raises:
        CorpusError: the corpus' table or the cache can't be read or written.
    """
    places = sorted(str(place) for place in found.splits.get(split, ()))
    key = fingerprint(
        INDEX_VERSION, layout.name, layout.version, str(found.root), found.config, split, places, reading().audio_column
    )
    folder = cache / "index" / key
    if part := _kept(folder, split, label, newer_than_s):
        return part
    try:
        with lock(folder, f"indexing {label}, split {split}"):
            if part := _kept(folder, split, label, newer_than_s):
                return part  # another process has just built it
            sweep(folder)
            return _build(layout, found, split, label, folder, reading(), max_workers, progress)
    except OSError as error:
        raise cache_problem(folder, error) from error


def _kept(folder: Path, split: str, label: str, newer_than_s: float) -> Part | None:
    """The index in `folder` if it is whole and nothing that it depends on has changed."""
    try:
        whole = folder / "index.json"
        if whole.stat().st_mtime < newer_than_s:
            return None
        index = json.loads(whole.read_text(encoding="utf-8"))
        if any(stamp(Path(known[0])) != known for known in index["depends"]):
            return None
        part = Part(str(folder / index["table"]), str(folder / index["skipped"]), split, label)
        open_arrow(part.table)
        return part if Path(part.skipped).is_file() else None
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _build(
    layout: Layout,
    found: Found,
    split: str,
    label: str,
    folder: Path,
    reading: Reading,
    max_workers: int | None,
    progress: bool,
) -> Part:
    writer = TableWriter(split, found.root)
    with progress_bar(f"indexing {label}, split {split}", unit="clips", shown=progress) as update:
        rows = _Rows(_read(layout, found, split, reading), writer)
        answers: Iterator[Probe] = probe_all(rows.tasks(), max_workers=max_workers)
        for done, answer in enumerate(answers, 1):
            row = rows.next_sent()
            assert row is not None
            writer.add(row, answer)
            if isinstance(row.audio, str) and len(reading.depends) < MAX_FOLDERS:
                reading.seen(Path(row.audio).parent)
            if done % 256 == 0:
                update(done, reading.expected)
        assert rows.next_sent() is None, "every task has its answer"
    depends = sorted(reading.depends.values())
    state = fingerprint(depends)
    part = Part(str(folder / f"table-{state}.arrow"), str(folder / f"skipped-{state}.jsonl"), split, label)
    open_arrow.cache_clear()  # a file of this name may have been open
    writer.write(Path(part.table), Path(part.skipped))
    with replacing(folder / "index.json", "w") as file:
        json.dump(
            {
                "corpus": label,
                "split": split,
                "root": str(found.root),
                "num_utterances": writer.num_rows,
                "num_skipped": len(writer.skipped),
                "table": Path(part.table).name,
                "skipped": Path(part.skipped).name,
                "depends": depends,
            },
            file,
        )
    return part


def _read(layout: Layout, found: Found, split: str, reading: Reading) -> Iterator[Row | BadRow]:
    try:
        yield from layout.read(found, split, reading)
    except OSError as error:  # of the corpus, not of the cache
        raise CorpusError(f"{error.filename or found.root}: can't be read: {error.strerror or error}.") from error


class _Rows:
    """Lines go to the probes as tasks; the rows wait here, in the same order, for the answers."""

    def __init__(self, rows: Iterator[Row | BadRow], writer: TableWriter) -> None:
        self._rows = rows
        self._writer = writer
        self._sent: deque[Row | BadRow] = deque()

    def tasks(self) -> Iterator[Task]:
        for row in self._rows:
            self._sent.append(row)
            if isinstance(row, Row):
                assert not isinstance(row.audio, bytes), "bytes are for streams"
                yield task_of(row.audio, row.duration_s)

    def next_sent(self) -> Row | None:
        """The next row that was sent as a task; bad rows before it are skipped. None at the end."""
        while self._sent:
            row = self._sent.popleft()
            if isinstance(row, Row):
                return row
            self._writer.leave_out(row)
        return None
