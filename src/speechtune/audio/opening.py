"""Open audio files: refuse what is no file, find the kind of the rest and whether its end is missing.

All audio is opened here, so that whatever goes wrong while it is open becomes an `AudioError`.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

from speechtune.audio.containers import find_missing_end, kind_of, sphere_fields
from speechtune.audio.mp3 import Mp3Scan, scan_mp3
from speechtune.errors import AudioError

__all__ = ["COPY_AGAIN", "TOLERANCE_S", "Recording", "bytes_key", "file_key", "opened", "refuse"]

TOLERANCE_S = 0.1  # audio that may be missing at the end: MP3 frames last up to 72 ms, AAC frames up to 128 ms
COPY_AGAIN = "Copy it again, or leave it out"


@dataclass(frozen=True, slots=True)
class Recording:
    """An opened file of a known kind, not decoded yet."""

    file: BinaryIO
    kind: str  # as containers.kind_of returns it, or MP3
    mp3: Mp3Scan | None
    name: str  # for messages


def file_key(path: str) -> str:
    """Return a key for a file's content from its path, size and time of change: 32 hexadecimal digits.

    Raises:
        AudioError: there is no such file, it is empty, or no regular file.
    """
    status = _checked_stat(path, _printable(path, ""))
    text = f"{os.path.abspath(path)}\0{status.st_size}\0{status.st_mtime_ns}"  # noqa: PTH100
    return hashlib.blake2b(os.fsencode(text), digest_size=16).hexdigest()


def bytes_key(data: bytes) -> str:
    """Return a key for an encoded file's bytes, a hash of 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


@contextmanager
def opened(audio: str | bytes, name: str) -> Iterator[Recording]:
    """Open a recording, find its kind, and turn whatever goes wrong in the block into an AudioError."""
    name = _printable(audio, name)
    try:
        with _open(audio, name) as file:
            yield _inspect(file, name)
    except (AudioError, AssertionError):
        raise
    except OSError as error:
        _refuse_to_open(name, error)
    except Exception as error:  # decoders raise nearly anything on hostile bytes
        text = getattr(error, "error_string", None) or str(error) or type(error).__name__  # libsndfile's, without path
        text = " ".join(text.split())[:200].rstrip(".")
        found = f"can't be decoded: {text}. Convert it to WAV or FLAC, or leave it out"
        refuse(name, found, "undecodable", error)


def _open(audio: str | bytes, name: str) -> BinaryIO:
    if isinstance(audio, (bytes, bytearray, memoryview)):
        return io.BytesIO(audio)
    _checked_stat(audio, name)
    return open(audio, "rb", buffering=0)  # noqa: PTH123


def _checked_stat(path: str, name: str) -> os.stat_result:
    """Return a file's status; refuse what must not be opened: reading a pipe or a device may block, or never end."""
    try:
        status = os.stat(path)  # noqa: PTH116  (a Path object costs more than the call)
    except (OSError, ValueError) as error:
        _refuse_to_open(name, error)
    if not stat.S_ISREG(status.st_mode) or status.st_dev in _pseudo_devices():
        refuse(name, "is a folder, device or pipe, not a file", "not_a_file")
    if status.st_size == 0:
        refuse(name, f"is empty (0 bytes). {COPY_AGAIN}", "empty")
    return status


@functools.lru_cache(maxsize=1)
def _pseudo_devices() -> frozenset[int]:
    """Return the file systems of the kernel, whose files look regular."""
    return frozenset(os.stat(path).st_dev for path in ("/proc", "/sys") if os.path.ismount(path))  # noqa: PTH116


def _inspect(file: BinaryIO, name: str) -> Recording:
    """Find the kind of a file, and whether its end is missing."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        refuse(name, f"is empty (0 bytes). {COPY_AGAIN}", "empty")
    file.seek(0)
    head = file.read(1024)
    kind, mp3 = kind_of(head), None
    if kind == "NIST" and "shorten" in sphere_fields(head).get("sample_coding", ""):
        found = "is SPHERE audio compressed with shorten. Convert it with the LDC's sph2pipe (sph2pipe -f wav IN OUT)"
        refuse(name, found, "undecodable")
    missing = find_missing_end(file, size, kind)
    if not kind:
        file.seek(0)
        mp3 = scan_mp3(file.read())
    if mp3 is not None:
        kind, missing = "MP3", mp3.missing(TOLERANCE_S)
    if missing:
        refuse(name, f"is cut short: {missing}. {COPY_AGAIN}", "truncated")
    return Recording(file, kind, mp3, name)


def _printable(audio: str | bytes, name: str) -> str:
    """Return a recording's name for messages, on one line."""
    if not name:
        name = os.fspath(audio) if isinstance(audio, (str, os.PathLike)) else f"audio of {len(audio)} bytes"
    return name if name.isprintable() else repr(name)


def refuse(name: str, found: str, reason: str, cause: BaseException | None = None) -> NoReturn:
    raise AudioError(f"{name}: {found}.", reason=reason) from cause


def _refuse_to_open(name: str, error: OSError | ValueError) -> NoReturn:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        refuse(name, "no such file", "missing_file", error)
    refuse(name, f"can't be read: {getattr(error, 'strerror', None) or error}", "unreadable", error)
