"""Bytes of an audio file inside a tar, an Arrow file or the cache of `datasets`, by random access.

Arrow files are memory-mapped and kept open (a few per process); tars are opened, read and closed again, which costs
microseconds and leaks nothing.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechtune.errors import AudioError

__all__ = ["Packed", "open_arrow", "packed_bytes", "packed_size"]


@dataclass(frozen=True, slots=True)
class Packed:
    """Location of an encoded audio file inside a larger file."""

    kind: str  # "tar": `position` is a byte offset; "arrow": `position` is a row of `column`
    source: str  # absolute path of the larger file
    position: int
    num_bytes: int = -1  # of a tar member
    column: str = ""  # of an Arrow file: binary, or a struct with `bytes`
    key: str = ""  # names the content; empty: a hash of the bytes is taken


@functools.lru_cache(maxsize=256)
def open_arrow(path: str) -> Any:
    """Return the pyarrow.Table of an Arrow file or stream, memory-mapped: only schema and offsets are read.

    Raises:
        OSError: there is no such file.
        ValueError: it is not an Arrow file, or it is cut short (pyarrow.ArrowInvalid).
    """
    import pyarrow as pa

    mapped = pa.memory_map(path)
    try:
        return pa.ipc.open_file(mapped).read_all()
    except pa.ArrowInvalid:
        mapped.seek(0)
        return pa.ipc.open_stream(mapped).read_all()  # what `datasets` and index.py write


def packed_bytes(where: Packed) -> bytes:
    """Return the encoded audio file.

    Raises:
        AudioError: the larger file is missing (`missing_file`), was cut, or has no bytes there (`undecodable`).
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


def packed_size(where: Packed) -> int:
    """Return the size of the encoded audio file in bytes without reading it; -1 where that is not possible."""
    if where.kind == "tar":
        return where.num_bytes
    try:
        value = open_arrow(where.source)[where.column][where.position]
        value = value["bytes"] if hasattr(value, "keys") else value
        return value.as_buffer().size if value.is_valid else -1
    except (OSError, ValueError, LookupError, AttributeError):
        return -1  # `packed_bytes` will say why


def _tar_bytes(where: Packed) -> bytes:
    with Path(where.source).open("rb") as file:
        file.seek(where.position)
        data = file.read(where.num_bytes)
    if len(data) != where.num_bytes:
        raise ValueError(f"cut: {len(data)} of {where.num_bytes} bytes")
    return data


def _arrow_bytes(where: Packed) -> bytes:
    value = open_arrow(where.source)[where.column][where.position].as_py()
    if isinstance(value, dict):  # an audio column of `datasets`
        if value.get("path") and not value.get("bytes"):
            return _downloaded_file(value["path"], where).read_bytes()
        value = value.get("bytes")
    return bytes(value or b"")


def _downloaded_file(path: str, where: Packed) -> Path:
    """Return the path if `datasets` downloaded that file; a dataset must not name other files of this machine.

    Raises:
        AudioError: the file is elsewhere (`outside_audio`).
    """
    from huggingface_hub import constants

    file = Path(path).resolve()
    # <cache>/<dataset>/<config>/<version>/<hash>/*.arrow; files are in <cache>/downloads
    own = [cache / "downloads" for cache in Path(where.source).parents[4:5]]
    allowed = (Path(constants.HF_HOME), Path(constants.HF_HUB_CACHE), *own)
    if any(file.is_relative_to(folder.resolve()) for folder in allowed):
        return file
    message = f"{where.source}:{where.position}: names {path!r}, which is not part of the dataset"
    raise AudioError(message, reason="outside_audio")
