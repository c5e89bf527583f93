"""Atomic writes, and one message for a disk that is full or read-only.

A file is written beside its final path, synced, then renamed (Pillai et al. 2014, "All File Systems Are Not Created
Equal"): a reader, or a process killed at any moment, sees the old file or the new one, never half of it.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from speechtune.errors import OutputError, SpeechtuneError

__all__ = [
    "as_jsonl", "blocks", "crc32", "explain_write_errors", "read_json", "read_jsonl", "remove", "replacing", "sync",
    "write_atomically",
]  # fmt: skip

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_MESSAGES = ("No space left", "os error 28", "os error 122", "inline_container", "File too large")
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG)


@contextmanager
def replacing(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file that replaces `path` when the block succeeds, and is removed when it fails."""
    temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        # Names of files need not be UTF-8; their lone surrogates are written as JSON's escapes: \udcff
        encoding, errors = (None, None) if "b" in mode else ("utf-8", "backslashreplace")
        with temporary.open(mode, encoding=encoding, errors=errors) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write or replace a UTF-8 text file; its folder is created where missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "w") as file:
        file.write(text)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; empty where there is no file.

    Raises:
        OutputError: it can't be read.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise OutputError(
            f"{path}: can't be read: {error}.\nRemove it, or run the command that wrote it again."
        ) from error
    if not isinstance(content, dict):
        raise OutputError(f"{path}: a JSON object was expected.\nRemove it, or run the command that wrote it again.")
    return content


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a JSONL file, none where there is no file; a line that a kill cut short is skipped."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row


def as_jsonl(rows: Iterable[Any]) -> str:
    """Return rows as the lines of a JSONL file."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def blocks(path: Path) -> Iterator[bytes]:
    """Yield the content of a file, block by block."""
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block


def crc32(path: Path) -> int:
    """Return a checksum of a file (1.5 GB/s): against broken disks and copies, not against forgery."""
    checksum = 0
    for block in blocks(path):
        checksum = zlib.crc32(block, checksum)
    return checksum


def remove(path: Path) -> None:
    """Remove a file, or a folder with what is in it, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explain_write_errors(
    what: str, folder: Path, *, after_full: Callable[[], str] = lambda: "Free some space and run the command again."
) -> Iterator[None]:
    """Turn a full disk or an unwritable folder, met while writing `what`, into one message; other errors pass.

    Args:
        after_full: cleans up after a full disk and returns what to tell the user: what is kept, what to do.

    Raises:
        OutputError: the disk is full, or `folder` cannot be written.
    """
    try:
        yield
    except SpeechtuneError:
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        name = str(getattr(error, "filename", "") or "")
        is_above = bool(name) and folder.is_relative_to(name)  # or the folder itself
        is_inside = bool(name) and Path(name).is_relative_to(folder)
        # A missing file inside is our fault; a folder that can't be made (under /proc) is for the user to change.
        if (number in _REFUSED and (is_above or is_inside)) or (number == errno.ENOENT and is_above):
            assert isinstance(error, OSError)
            path = error.filename2 or (folder if name.endswith(".tmp") else name)
            message = f"{path}: can't be written: {error.strerror}.\nMake it writable, or give another --output_dir."
            raise OutputError(message) from error
        # safetensors and torch wrap the system's error in their own, with the words in the text
        if number not in _FULL and not any(words in str(error) for words in _FULL_MESSAGES):
            raise
        raise OutputError(f"{folder}: no space left while writing {what}. {after_full()}") from error
