"""Bytes of an audio file that lies inside a tar, an Arrow file or a `datasets` cache, by random access.

Arrow files are memory-mapped and kept open (a few per process); tars are opened, read and closed again, which costs
microseconds and leaks nothing.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechtune.errors import AudioError

__all__ = ["Packed", "open_arrow", "packed_bytes"]


@dataclass(frozen=True, slots=True)
class Packed:
    """Where the bytes of an encoded audio file lie inside a larger file, for random access."""

    kind: str  # "tar": `position` is a byte offset; "arrow": `position` is a row of `column`
    source: str  # absolute path of the larger file
    position: int
    num_bytes: int = -1  # of a tar member
    column: str = ""  # of an Arrow file: binary, or a struct with `bytes`
    key: str = ""  # names the content; empty: a hash of the bytes is taken


@functools.lru_cache(maxsize=256)
def open_arrow(path: str) -> Any:
    """Memory-mapped pyarrow.Table of an Arrow IPC file or stream. Nothing is read but the schema and the offsets.

    Raises:
        OSError: there is no such file.
        ValueError: it isn't an Arrow file, or it is torn (pyarrow.ArrowInvalid).
    """
    import pyarrow as pa

    mapped = pa.memory_map(path)
    try:
        return pa.ipc.open_file(mapped).read_all()
    except pa.ArrowInvalid:
        mapped.seek(0)
        return pa.ipc.open_stream(mapped).read_all()  # what `datasets` writes


def packed_bytes(where: Packed) -> bytes:
    """The encoded audio file.

    Raises:
        AudioError: the larger file is gone (`missing_file`), was cut, or has no bytes there (`undecodable`).
    """
    name = f"{where.source}:{where.position}"
    try:
        data = _tar_bytes(where) if where.kind == "tar" else _arrow_bytes(where)
    except OSError as error:
        raise AudioError(f"{name}: {error.strerror or error}", reason="missing_file") from error
    except (ValueError, IndexError, KeyError) as error:
        raise AudioError(f"{name}: {error}", reason="undecodable") from error
    if not data:
        raise AudioError(f"{name}: no audio there", reason="undecodable")
    return data


def _tar_bytes(where: Packed) -> bytes:
    with Path(where.source).open("rb") as file:
        file.seek(where.position)
        data = file.read(where.num_bytes)
    if len(data) != where.num_bytes:
        raise ValueError(f"cut: {len(data)} of {where.num_bytes} bytes")
    return data


def _arrow_bytes(where: Packed) -> bytes:
    value = open_arrow(where.source)[where.column][where.position].as_py()
    if isinstance(value, dict):  # a hub dataset's audio column
        if value.get("bytes"):
            return bytes(value["bytes"])
        if path := value.get("path"):
            return Path(path).read_bytes()
        return b""
    return bytes(value or b"")
