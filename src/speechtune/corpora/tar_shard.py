"""Records of a tar shard, as WebDataset writes them: neighbouring members `key.wav`, `key.txt`, `key.json` are one.

`a/b.seg1.wav` has the key `a/b` and the ending `seg1.wav`. Text comes from .txt (column `text`), other columns from
.json. A plain tar is read by seeking, so that skipped records cost only their headers; a compressed one is all read.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from speechtune.audio.packed import Packed
from speechtune.corpora.archive import TarEnd, decompressed
from speechtune.corpora.columns import as_text, first_present, known_facts
from speechtune.corpora.layout import BadRow, Row
from speechtune.errors import CorpusError

__all__ = ["TEXT_ENDINGS", "tar_rows", "torn"]

AUDIO_ENDINGS = frozenset({"wav", "flac", "mp3", "ogg", "opus", "m4a", "sph", "nist", "aac", "webm", "audio"})
TEXT_ENDINGS = {"txt": "text", "text": "text", "transcript": "text", "lab": "text"}
MAX_MEMBER_BYTES = 1 << 30

_TORN = (tarfile.TarError, EOFError, OSError, zlib.error, ValueError)


@dataclass
class _Record:
    key: str
    number: int
    members: dict[str, tuple[Packed, bytes | None]] = field(default_factory=dict)  # ending -> where, data if read


def torn(path: Path, last: str, num_good: int, error: object) -> CorpusError:
    """The message for a shard that ends too early or is damaged."""
    after = f"after record {last!r} ({num_good} good records)" if num_good else "at its beginning"
    return CorpusError(f"{path}: the shard is torn {after}: {error}.\nCopy or download it again.")


def tar_rows(
    path: Path,
    *,
    start: int = 0,
    wanted: Callable[[int], bool] | None = None,
    audio_column: str = "audio",
    key: str = "",
) -> Iterator[tuple[int, Row | BadRow]]:
    """(record number, row) of a shard, audio read as bytes.

    Args:
        path: .tar, or compressed.
        start: records before this number are skipped.
        wanted: numbers to give; None takes all.
        audio_column: `audio`, or the ending of the members that hold it.
        key: names the shard's content.

    Raises:
        CorpusError: the shard is torn; names it and the last good record.
    """
    last, num_good = "", 0
    try:
        for record in _records(path, lambda number: number >= start and (wanted is None or wanted(number))):
            last, num_good = record.key, record.number + 1
            if record.number >= start and (wanted is None or wanted(record.number)):
                yield record.number, _row(path, record, audio_column, key)
    except _TORN as error:
        raise torn(path, last, num_good, error) from error


def packed_tar_rows(path: Path, *, audio_column: str, key: str) -> Iterator[Row | BadRow]:
    """Rows whose audio stays in the (uncompressed) shard, for random access.

    Raises:
        CorpusError: as above.
    """
    last, num_good = "", 0
    try:
        for record in _records(path, lambda number: True, read_audio=False):
            last, num_good = record.key, record.number + 1
            yield _row(path, record, audio_column, key)
    except _TORN as error:
        raise torn(path, last, num_good, error) from error


def _records(path: Path, needed: Callable[[int], bool], *, read_audio: bool = True) -> Iterator[_Record]:
    record: _Record | None = None
    with path.open("rb") as file:
        for info, data in _members(file):
            key, ending = _key(info.name)
            if record is None or key != record.key:
                if record is not None:
                    yield record
                record = _Record(key, record.number + 1 if record else 0)
            where = Packed("tar", str(path), info.offset_data, info.size)
            read = needed(record.number) and (read_audio or _is_text(ending))
            record.members.setdefault(ending, (where, _data(info, data) if read else None))
    if record is not None:
        yield record


def _members(file: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    end = TarEnd()
    stream = decompressed(file)
    mode: Any = "r:" if stream is file else "r|"
    with tarfile.open(fileobj=stream, mode=mode, tarinfo=end.info_class(), errorlevel=1) as shard:
        for info in shard:
            if info.isreg() and (data := shard.extractfile(info)):
                yield info, data
            shard.members = []  # type: ignore[attr-defined]  # tarfile remembers every member
    end.check()


def _data(info: tarfile.TarInfo, data: IO[bytes]) -> bytes:
    if info.size > MAX_MEMBER_BYTES:
        raise tarfile.ReadError(f"the member {info.name[:100]!r} claims {info.size} bytes")
    return data.read()


def _key(name: str) -> tuple[str, str]:
    folder, slash, base = name.rpartition("/")
    stem, _, ending = base.partition(".")
    return folder + slash + stem, ending.lower()


def _is_text(ending: str) -> bool:
    return ending in TEXT_ENDINGS or ending.endswith((".txt", "json"))


def _row(path: Path, record: _Record, audio_column: str, shard_key: str) -> Row | BadRow:
    where = f"{path}:{record.key}"
    try:
        columns = _columns(record)
    except (ValueError, RecursionError) as error:
        return BadRow(where, f"no text: {error}"[:200], id=record.key)
    endings = [ending for ending in record.members if _is_audio(ending, audio_column)]
    if not endings:
        return BadRow(where, f"no audio among {', '.join(record.members)}"[:200], id=record.key)
    place, data = record.members[endings[0]]
    key = f"{shard_key}{place.position:x}"
    audio = data if data is not None else Packed("tar", place.source, place.position, place.num_bytes, key=key)
    id_ = f"{path.name.partition('.')[0]}/{record.key}"
    return Row(id=id_, audio=audio, columns=columns, file=f"{where}.{endings[0]}", key=key, **known_facts(columns))


def _is_audio(ending: str, audio_column: str) -> bool:
    if audio_column == "audio":
        return ending.rpartition(".")[2] in AUDIO_ENDINGS
    return audio_column in (ending, ending.partition(".")[0])


def _columns(record: _Record) -> dict[str, str | None]:
    columns: dict[str, str | None] = {}
    for ending, (_, data) in record.members.items():
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
