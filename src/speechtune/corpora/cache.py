"""The cache folder: where it is, fingerprints of what its files depend on, and one writer at a time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from speechtune.errors import CorpusError
from speechtune.files import remove

try:
    import fcntl
except ImportError:  # Windows: work may be done twice there, but files are whole
    fcntl = None  # type: ignore[assignment]

__all__ = ["cache_folder", "cache_problem", "fingerprint", "lock", "make_once", "stamp", "sweep"]

log = logging.getLogger("speechtune")


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """Return $SPEECHTUNE_CACHE, else `cache_dir`/speechtune, else ~/.cache/speechtune. It is not created here."""
    if own := os.environ.get("SPEECHTUNE_CACHE"):
        return Path(own).expanduser().absolute()
    if cache_dir:
        return Path(cache_dir).expanduser().absolute() / "speechtune"
    return Path("~/.cache/speechtune").expanduser()


def cache_problem(folder: Path, error: OSError) -> CorpusError:
    """Return the error for a full, read-only or forbidden cache."""
    return CorpusError(
        f"{folder}: the cache can't be written: {error.strerror or error}.\n"
        "Free space there, or name another folder with --cache_dir or $SPEECHTUNE_CACHE."
    )


def fingerprint(*parts: Any) -> str:
    """Return 16 hex digits of the JSON of `parts`."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def stamp(path: Path) -> list[Any] | None:
    """Return [path, size in bytes (-1 for a folder), mtime in ns]; None if there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [str(path), -1 if path.is_dir() else status.st_size, status.st_mtime_ns]


def sweep(folder: Path) -> None:
    """Remove temporary files that a killed writer left in `folder`. Call it under the folder's lock."""
    for left in (*folder.glob("tmp-*"), *folder.glob(".*.tmp")):
        with contextlib.suppress(OSError):
            remove(left)


@contextlib.contextmanager
def lock(folder: Path, doing: str) -> Iterator[None]:
    """Lock `folder` (created where missing) among the processes of this machine; released when its holder dies.

    Args:
        doing: what the holder does, for the line that waiting processes log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another process that is %s", doing)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks; atomic renames still keep every file whole
            log.debug("%s: no locks here", folder)
        yield


def make_once(target: Path, doing: str, make: Callable[[Path], None]) -> Path:
    """Return `target`, a file or folder of the cache that `make(temporary path)` writes if it isn't there yet.

    Raises:
        CorpusError: the cache is full or can't be written.
    """
    if target.exists():
        return target
    try:
        with lock(target.parent, doing):
            if target.exists():
                return target  # another process has just made it
            sweep(target.parent)
            temporary = target.with_name(f"tmp-{os.getpid()}-{secrets.token_hex(4)}")
            try:
                make(temporary)
                temporary.replace(target)
            finally:
                remove(temporary)
    except OSError as error:
        raise cache_problem(target.parent, error) from error
    return target
