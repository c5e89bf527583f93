"""Read records of shards: tar (WebDataset), Parquet, and Arrow files as `datasets` keeps them.

In a tar, neighbouring members `key.wav`, `key.txt`, `key.json` are one record. `a/b.seg1.wav` has the key `a/b` and the
ending `seg1.wav`. Text comes from .txt (column `text`), other columns from .json. Audio stays in a plain tar and in an
Arrow file (`Packed`). A row of a Parquet file can't be read without decoding its whole page, so for random access the
file is copied to Arrow in the cache, once.

Rejected: `datasets` for reading local shards; the reasons are in docs/dependencies.md.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from speechtune.audio.packed import Packed, open_arrow
from speechtune.corpora.archive import decompressed, tar_members
from speechtune.corpora.cache import fingerprint, make_once, stamp
from speechtune.corpora.columns import ID_COLUMNS, as_text, first_present, known_facts
from speechtune.corpora.layout import BadRow, Row
from speechtune.errors import CorpusError
from speechtune.files import sync

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = ["arrow_copy", "arrow_rows", "open_parquet", "parquet_rows", "record_row", "tar_rows"]

AUDIO_ENDINGS = frozenset({"wav", "flac", "mp3", "ogg", "opus", "m4a", "sph", "nist", "aac", "webm", "audio"})
TEXT_ENDINGS = {"txt": "text", "text": "text", "transcript": "text", "lab": "text"}
MAX_MEMBER_BYTES = 1 << 30
BATCH_ROWS = 32

_TORN = (tarfile.TarError, EOFError, OSError, zlib.error, ValueError)


def _torn(path: Path, last: str, num_good: int, error: Exception) -> CorpusError:
    after = f"after record {last!r} ({num_good} good records)" if num_good else "at its beginning"
    what = " ".join(str(error).split())[:200].rstrip(".")
    return CorpusError(f"{path}: the shard is torn {after}: {what}.\nCopy or download it again.")


# ---- tar


class _Member(NamedTuple):
    position: int
    num_bytes: int
    data: bytes | None  # None: not read


def tar_rows(
    path: Path, *, audio_column: str = "audio", key: str = "", part: int = 0, num_parts: int = 1
) -> Iterator[Row | BadRow]:
    """Yield records `part`, `part + num_parts`, ...; audio is `Packed` in a plain tar, bytes from a compressed one.

    `audio_column` is `audio` or the ending of the members that hold it; `key` identifies the shard's content.

    Raises:
        CorpusError: the shard is torn; names it and the last good record.
    """
    last, num_good = "", 0
    try:
        for name, members in _tar_records(path, part, num_parts):
            last, num_good = name, num_good + 1
            if (num_good - 1) % num_parts == part:
                yield _tar_row(path, name, members, audio_column, key)
    except _TORN as error:
        raise _torn(path, last, num_good, error) from error


def _tar_records(path: Path, part: int, num_parts: int) -> Iterator[tuple[str, dict[str, _Member]]]:
    """Yield (key, ending -> member) of all records; data is read only of those in `part`."""
    record, number = "", -1
    members: dict[str, _Member] = {}
    with path.open("rb") as file:
        stream = decompressed(file)
        compressed = stream is not file
        for shard, info in tar_members(stream, "r|" if compressed else "r:"):
            if not info.isreg():
                continue
            folder, slash, base = info.name.rpartition("/")
            stem, _, ending = base.partition(".")
            ending = ending.lower()
            if number < 0 or record != folder + slash + stem:
                if members:
                    yield record, members
                record, number, members = folder + slash + stem, number + 1, {}
            if ending not in members:  # the first of a repeated member counts
                needed = number % num_parts == part and (compressed or _is_text(ending))
                data = _read_member(shard, info) if needed else None
                members[ending] = _Member(info.offset_data, info.size, data)
    if members:
        yield record, members


def _read_member(shard: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    if info.size > MAX_MEMBER_BYTES:
        raise tarfile.ReadError(f"the member {info.name[:100]!r} claims {info.size} bytes")
    file = shard.extractfile(info)
    assert file is not None, "a regular file"
    return file.read()


def _tar_row(path: Path, name: str, members: dict[str, _Member], audio_column: str, shard_key: str) -> Row | BadRow:
    where = f"{path}:{name}"
    try:
        columns = _tar_columns(members)
    except (ValueError, RecursionError) as error:
        return BadRow(where, f"no text: {error}"[:200], id=name)
    ending = next((ending for ending in members if _is_audio(ending, audio_column)), None)
    if ending is None:
        return BadRow(where, f"no audio among {', '.join(members)}"[:200], id=name)
    position, num_bytes, data = members[ending]
    key = f"{shard_key}{position:x}"
    audio = data if data is not None else Packed("tar", str(path), position, num_bytes, key=key)
    id_ = f"{path.name.partition('.')[0]}/{name}"
    return Row(id=id_, audio=audio, columns=columns, file=f"{where}.{ending}", key=key, **known_facts(columns))


def _is_text(ending: str) -> bool:
    return ending in TEXT_ENDINGS or ending.endswith((".txt", "json"))


def _is_audio(ending: str, audio_column: str) -> bool:
    if audio_column == "audio":
        return ending.rpartition(".")[2] in AUDIO_ENDINGS
    return audio_column in (ending, ending.partition(".")[0])


def _tar_columns(members: dict[str, _Member]) -> dict[str, str | None]:
    columns: dict[str, str | None] = {}
    for ending, (_, _, data) in members.items():
        if data is None or not _is_text(ending):
            continue
        if ending.endswith("json"):
            values = json.loads(data)
            if not isinstance(values, dict):
                raise ValueError(f"{ending} holds no object")
            columns |= {name: as_text(value) for name, value in values.items() if not name.startswith("#")}
        else:
            columns[TEXT_ENDINGS.get(ending) or ending.removesuffix(".txt")] = data.decode("utf-8").strip("\r\n")
    if "text" not in columns and (name := first_present(columns, ("transcript",))):
        columns["text"] = columns[name]
    return columns


# ---- Parquet and Arrow


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file.

    Raises:
        CorpusError: it is torn: the footer, written last, is missing or wrong.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _torn(path, "", 0, error) from error


def parquet_rows(
    path: Path, *, audio_column: str = "audio", key: str = "", part: int = 0, num_parts: int = 1
) -> Iterator[Row | BadRow]:
    """Yield rows `part`, `part + num_parts`, ... with the audio as bytes.

    `audio_column` is a struct with `bytes` and `path`, binary, or paths; `key` identifies the shard's content.

    Raises:
        CorpusError: the shard is torn (names it and the last good row), or has no such column.
    """
    file = open_parquet(path)
    _check_column(path, audio_column, file.schema_arrow.names)
    first = 0  # number of the batch's first row
    for batch in _parquet_batches(path, file):
        for index in range((part - first) % num_parts, len(batch), num_parts):
            yield _table_row(path, first + index, _values(batch, index), audio_column, key)
        first += len(batch)


def _parquet_batches(path: Path, file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    number = 0
    try:
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            yield batch
            number += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise _torn(path, f"row {number - 1}", number, error) from error


def arrow_copy(path: Path, cache: Path) -> Path:
    """Return the Parquet shard as an Arrow file in the cache, made by the first call.

    Raises:
        CorpusError: the shard is torn, or the cache is full or can't be written.
    """
    import pyarrow as pa

    def copy(temporary: Path) -> None:
        file = open_parquet(path)
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, file.schema_arrow) as writer:
            for batch in _parquet_batches(path, file):
                writer.write_batch(batch)
        sync(temporary)

    target = cache / "unpacked" / fingerprint(stamp(path)) / f"{path.stem}.arrow"
    return make_once(target, f"copying {path.name}", copy)


def arrow_rows(path: Path, arrow: Path, *, audio_column: str, key: str) -> Iterator[Row | BadRow]:
    """Yield rows whose audio stays in an Arrow file (`arrow_copy`, or one that `datasets` wrote); ids name `path`.

    Raises:
        CorpusError: there is no such column.
    """
    table = open_arrow(str(arrow))
    _check_column(path, audio_column, table.column_names)
    number = 0
    for batch in table.drop_columns([audio_column]).to_batches(max_chunksize=1024):
        for index in range(len(batch)):
            audio = Packed("arrow", str(arrow), number, column=audio_column, key=f"{key}{number:x}")
            yield _table_row(path, number, _values(batch, index) | {audio_column: audio}, audio_column, key)
            number += 1


def _check_column(path: Path, audio_column: str, names: list[str]) -> None:
    if audio_column not in names:
        raise CorpusError(
            f"{path}: no column '{audio_column}'.\nColumns: {', '.join(names)}.\nName it with --audio_column_name."
        )


def _values(batch: pa.RecordBatch, index: int) -> dict[str, Any]:
    return {name: batch.column(column)[index].as_py() for column, name in enumerate(batch.schema.names)}


def _table_row(path: Path, number: int, values: dict[str, Any], audio_column: str, shard_key: str) -> Row | BadRow:
    audio = values.pop(audio_column)
    if isinstance(audio, dict):
        audio = audio.get("bytes") or audio.get("path")
    if isinstance(audio, str):
        file = path.parent / audio
        if ".." in Path(audio).parts or not file.is_relative_to(path.parent):
            return BadRow(f"{path}:row {number}", f"{audio[:200]!r} is outside the shard's folder", "outside_audio")
        audio = str(file)
    where, id_, key = f"{path}:row {number}", f"{path.stem}/{number}", f"{shard_key}{number:x}"
    return record_row(audio, values, where=where, id_=id_, key=key, audio_column=audio_column)


def record_row(
    audio: str | bytes | Packed | None, values: dict[str, Any], *, where: str, id_: str, key: str, audio_column: str
) -> Row | BadRow:
    """Return the `Row` of one record; `id_` is used where no column has an id."""
    if not audio:
        return BadRow(where, f"no audio in column '{audio_column}'")
    columns = {name: as_text(value) for name, value in values.items() if not name.startswith("#")}
    if id_column := first_present(columns, ID_COLUMNS):
        id_ = columns[id_column] or ""
    return Row(id=id_, audio=audio, columns=columns, file=where, key=key, **known_facts(columns))
