"""Records of a Parquet shard with audio bytes, as `datasets` and the hub write them.

Streams read row groups one after the other. For random access the audio is copied once into Arrow files in the cache
(what `datasets` does too): a row of a Parquet file can't be had without decoding its whole page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from speechtune.audio.packed import Packed
from speechtune.corpora.cache import cache_problem, fingerprint, lock, stamp, sweep
from speechtune.corpora.columns import ID_COLUMNS, as_text, first_present, known_facts
from speechtune.corpora.layout import BadRow, Row
from speechtune.corpora.tar_shard import torn
from speechtune.errors import CorpusError
from speechtune.files import replacing

__all__ = ["arrow_copy", "open_parquet", "packed_rows", "parquet_rows"]

BATCH_ROWS = 32


def open_parquet(path: Path) -> Any:
    """pyarrow.parquet.ParquetFile.

    Raises:
        CorpusError: it is torn: the footer, written last, is missing or wrong.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise torn(path, "", 0, _one_line(error)) from error


def parquet_rows(
    path: Path,
    *,
    start: int = 0,
    wanted: Callable[[int], bool] | None = None,
    audio_column: str = "audio",
    key: str = "",
) -> Iterator[tuple[int, Row | BadRow]]:
    """(row number, row) with the audio as bytes.

    Args:
        path: the shard.
        start: rows before this number are skipped, whole row groups unread.
        wanted: numbers to give; None takes all.
        audio_column: a struct with `bytes` and `path`, binary, or paths.
        key: names the shard's content.

    Raises:
        CorpusError: the shard is torn (names it and the last good row), or has no such column.
    """
    import pyarrow as pa

    file = open_parquet(path)
    _check_column(path, audio_column, file.schema_arrow.names)
    number = 0
    try:
        for group in range(file.num_row_groups):
            group_rows = file.metadata.row_group(group).num_rows
            if number + group_rows <= start:
                number += group_rows
                continue
            for batch in file.iter_batches(batch_size=BATCH_ROWS, row_groups=[group]):
                for index in range(len(batch)):
                    if number >= start and (wanted is None or wanted(number)):
                        yield number, _row(path, number, _values(batch, index), audio_column, key)
                    number += 1
    except (pa.ArrowException, OSError) as error:
        raise torn(path, f"row {number - 1}", number, _one_line(error)) from error


def packed_rows(path: Path, copy: Path, *, audio_column: str, key: str) -> Iterator[Row | BadRow]:
    """Rows whose audio lies in an Arrow file (`arrow_copy`, or one that `datasets` wrote).

    Args:
        path: named in messages and ids.
        copy: the Arrow file.
        audio_column: of that file.
        key: names the shard's content.

    Raises:
        CorpusError: there is no such column.
    """
    from speechtune.audio.packed import open_arrow

    table = open_arrow(str(copy))
    _check_column(path, audio_column, table.column_names)
    others = table.drop_columns([audio_column])
    number = 0
    for batch in others.to_batches(max_chunksize=1024):
        for index in range(len(batch)):
            where = Packed("arrow", str(copy), number, column=audio_column, key=f"{key}{number:x}")
            yield _row(path, number, _values(batch, index) | {audio_column: where}, audio_column, key)
            number += 1


def arrow_copy(path: Path, cache: Path) -> Path:
    """The shard as an Arrow file in the cache, made on the first call.

    Raises:
        CorpusError: the shard is torn, or the cache is full or can't be written.
    """
    import pyarrow as pa

    place = cache / "unpacked" / fingerprint(stamp(path))
    copy = place / f"{path.stem}.arrow"
    if copy.is_file():
        return copy
    try:
        with lock(place, f"copying {path.name}"):
            if copy.is_file():
                return copy
            sweep(place)
            file = open_parquet(path)
            with replacing(copy) as aside, pa.ipc.new_file(aside, file.schema_arrow) as sink:
                for batch in _batches(path, file):
                    sink.write_batch(batch)
    except OSError as error:
        raise cache_problem(place, error) from error
    return copy


def _batches(path: Path, file: Any) -> Iterator[Any]:
    import pyarrow as pa

    batches = file.iter_batches(batch_size=BATCH_ROWS)
    number = 0
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise torn(path, f"row {number - 1}", number, _one_line(error)) from error
        if batch is None:
            return
        yield batch
        number += len(batch)


def _check_column(path: Path, audio_column: str, names: list[str]) -> None:
    if audio_column not in names:
        raise CorpusError(
            f"{path}: no column '{audio_column}'.\nColumns: {', '.join(names)}.\nName it with --audio_column_name."
        )


def _values(batch: Any, index: int) -> dict[str, Any]:
    return {name: batch.column(column)[index].as_py() for column, name in enumerate(batch.schema.names)}


def _row(path: Path, number: int, values: dict[str, Any], audio_column: str, shard_key: str) -> Row | BadRow:
    audio = values.pop(audio_column)
    where = f"{path}:row {number}"
    if isinstance(audio, dict):
        audio = audio.get("bytes") or audio.get("path")
    if isinstance(audio, str):
        audio = str(path.parent / audio)
    if not audio:
        return BadRow(where, f"no audio in column '{audio_column}'")
    columns = {name: as_text(value) for name, value in values.items() if not name.startswith("#")}
    id_column = first_present(columns, ID_COLUMNS)
    id_ = (columns[id_column] or "") if id_column else f"{path.stem}/{number}"
    return Row(id=id_, audio=audio, columns=columns, file=where, key=f"{shard_key}{number:x}", **known_facts(columns))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
