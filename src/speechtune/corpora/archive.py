"""Corpora in archives: unpacked once into cache/unpacked/<key>/files, safely.

An archive from the network may be hostile or cut short. Members are written by us, one by one, never by the archive's
own wishes: no name may leave the folder, nothing but plain files and folders is made, sizes are counted as they are
written, not believed. The folder takes its name only when all is there.

Rejected: `tarfile`'s extraction filters (not in every Python 3.10, none against bombs) and `shutil.unpack_archive`.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import secrets
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from speechtune.corpora.cache import cache_problem, fingerprint, lock, stamp
from speechtune.errors import ArchiveError
from speechtune.terminal.progress import progress_bar

__all__ = ["TarEnd", "decompressed", "is_archive", "unpack"]

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip")
MAX_MEMBERS = 20_000_000
MAX_RATIO = 200  # unpacked to packed; speech is about 1, text up to 20
RATIO_COUNTS_FROM = 64 << 20  # bytes; below, a high ratio does no harm
MAX_HEADER_BYTES = 16 << 20  # of one tar member, with its extended headers
KEEP_FREE_BYTES = 256 << 20
BLOCK = 1 << 20

_TORN = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, ValueError, OverflowError)

Member = tuple[str, bool, "IO[bytes] | None", int]  # name, is a folder, its data, its size by the header


def is_archive(path: Path) -> bool:
    """By its name."""
    return path.name.lower().endswith(ENDINGS)


def unpack(archive: Path, cache: Path, *, progress: bool = True) -> Path:
    """Folder with the archive's files, unpacked now or on an earlier call.

    Args:
        archive: .tar, .tar.gz, .tar.bz2, .tar.xz or .zip.
        cache: the cache folder.
        progress: show it.

    Raises:
        ArchiveError: it is cut short, is no archive, or is unsafe: absolute names, `..`, links, devices, a bomb.
        CorpusError: the cache is full or can't be written.
    """
    place = cache / "unpacked" / f"{fingerprint(stamp(archive.absolute()))}"
    files = place / "files"
    if files.is_dir():
        return files
    try:
        with lock(place, f"unpacking {archive.name}"):
            if files.is_dir():
                return files  # another process has just done it
            _sweep(place)
            aside = place / f"tmp-{os.getpid()}-{secrets.token_hex(4)}"
            try:
                _unpack_into(archive, aside, progress)
                (place / "from.txt").write_text(f"{archive.absolute()}\n", encoding="utf-8", errors="backslashreplace")
                aside.replace(files)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise cache_problem(place, error) from error
    return files


def _sweep(place: Path) -> None:
    """Remove what killed processes left. Only under the lock."""
    for left in place.glob("tmp-*"):
        shutil.rmtree(left, ignore_errors=True)


def _unpack_into(archive: Path, folder: Path, progress: bool) -> None:
    size = archive.stat().st_size
    limit = _Limit(archive, size, shutil.disk_usage(folder.parent).free)
    folder.mkdir()
    num_members = 0
    with progress_bar(f"unpacking {archive.name}", unit="bytes", shown=progress) as update:
        try:
            for name, is_folder, data, _ in _members(archive, limit, lambda done: update(done, size)):
                num_members += 1
                if num_members > MAX_MEMBERS:
                    raise ArchiveError(f"{archive}: more than {MAX_MEMBERS} members; it isn't unpacked.")
                _write(archive, folder, name, is_folder, data, limit)
        except _TORN as error:
            raise ArchiveError(f"{archive}: it is cut short or damaged: {error}.\nDownload it again.") from error
        except _ReadError as error:
            raise ArchiveError(f"{archive}: it is cut short or damaged: {error.error}.\nDownload it again.") from error
    if not num_members:
        raise ArchiveError(f"{archive}: the archive is empty.")


class _ReadError(Exception):
    """An OSError of reading, kept apart from those of writing: a full disk is not a torn archive."""

    def __init__(self, error: OSError) -> None:
        self.error = error


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:  # gzip says BadGzipFile, an OSError, of bad checksums
        raise _ReadError(error) from error


class _Limit:
    """Counts what is unpacked and stops a bomb."""

    def __init__(self, archive: Path, packed_bytes: int, free_bytes: int) -> None:
        self._archive = archive
        self._packed = packed_bytes
        self._room = free_bytes - KEEP_FREE_BYTES
        self.unpacked = 0

    def add(self, num_bytes: int) -> None:
        """Raises ArchiveError when there is too much."""
        self.unpacked += num_bytes
        if self.unpacked > max(RATIO_COUNTS_FROM, MAX_RATIO * self._packed):
            raise ArchiveError(
                f"{self._archive}: it unpacks to more than {MAX_RATIO} times its size; it looks like a bomb.\n"
                "If it is what you want, unpack it yourself and give the folder."
            )
        if self.unpacked > self._room:
            raise ArchiveError(
                f"{self._archive}: no room to unpack it: more than {max(0, self._room) / 1e9:.1f} GB needed.\n"
                "Free space in the cache, or name another place with --cache_dir or $SPEECHTUNE_CACHE."
            )


def _write(archive: Path, folder: Path, name: str, is_folder: bool, data: IO[bytes] | None, limit: _Limit) -> None:
    target = folder.joinpath(*_safe_parts(archive, name))
    if is_folder or data is None:
        target.mkdir(parents=True, exist_ok=True)
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            while True:
                with _reading():
                    block = data.read(BLOCK)
                if not block:
                    return
                limit.add(len(block))
                file.write(block)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ArchiveError(f"{archive}: '{name}' is both a file and a folder in it.") from error


def _safe_parts(archive: Path, name: str) -> tuple[str, ...]:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\x00" in name or (len(name) > 1 and name[1] == ":"):
        raise ArchiveError(f"{archive}: unsafe: the member {name[:200]!r} would leave the folder.")
    return path.parts


def _members(archive: Path, limit: _Limit, done: Callable[[int], None]) -> Iterator[Member]:
    """What is in the archive, in its order; `done` is told how many packed bytes were read."""
    with _reading():
        file = archive.open("rb")
    with file:
        if archive.name.lower().endswith(".zip"):
            yield from _zip_members(archive, file, done)
        else:
            yield from _tar_members(archive, file, limit, done)


def _zip_members(archive: Path, file: IO[bytes], done: Callable[[int], None]) -> Iterator[Member]:
    with zipfile.ZipFile(file) as packed:
        read = 0
        for info in packed.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ArchiveError(f"{archive}: unsafe: the member {info.filename[:200]!r} is a link or a device.")
            if info.flag_bits & 1:
                raise ArchiveError(f"{archive}: it is encrypted.\nUnpack it yourself and give the folder.")
            if info.is_dir():
                yield info.filename, True, None, 0
            else:
                try:
                    with packed.open(info) as data:
                        yield info.filename, False, data, info.file_size
                except (NotImplementedError, RuntimeError) as error:
                    raise ArchiveError(f"{archive}: '{info.filename}' can't be unpacked: {error}.") from error
            read += info.compress_size
            done(read)


def _tar_members(archive: Path, file: IO[bytes], limit: _Limit, done: Callable[[int], None]) -> Iterator[Member]:
    stream: Any = _Stream(archive, file)
    end = TarEnd()
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=end.info_class(), errorlevel=1) as packed:
        for info in packed:
            stream.in_header = False
            if not (info.isreg() or info.isdir()) or info.issparse():
                kind = "a link" if info.issym() or info.islnk() else "a device or something else that is no file"
                raise ArchiveError(f"{archive}: unsafe: the member {info.name[:200]!r} is {kind}.")
            yield info.name, info.isdir(), packed.extractfile(info) if info.isreg() else None, info.size
            packed.members = []  # type: ignore[attr-defined]  # tarfile remembers every member: a million are 1 GB
            stream.begin_header()
            done(file.tell())
    end.check()
    while stream.read(BLOCK):  # to the end of the compressed data, whose checksum comes last
        pass


class TarEnd:
    """Notices a tar's closing block: tarfile itself takes a damaged header in the middle for the end."""

    def __init__(self) -> None:
        self.seen = False

    def info_class(self) -> type[tarfile.TarInfo]:
        """For tarfile.open(tarinfo=...)."""
        end = self

        class Info(tarfile.TarInfo):
            @classmethod
            def frombuf(cls, buf: Any, encoding: str, errors: str) -> Any:
                end.seen = len(buf) == tarfile.BLOCKSIZE and not buf.strip(b"\x00")
                return super().frombuf(buf, encoding, errors)

        return Info

    def check(self) -> None:
        """Raises tarfile.ReadError when the last header that was read is not the closing block."""
        if not self.seen:
            raise tarfile.ReadError("a member's header is damaged, or it ends without its closing blocks")


class _Stream:
    """Decompressed bytes of a tar; refuses a header that never ends."""

    def __init__(self, archive: Path, file: IO[bytes]) -> None:
        self._archive = archive
        self._file = decompressed(file)
        self._header_bytes = 0
        self.in_header = True

    def begin_header(self) -> None:
        self.in_header = True
        self._header_bytes = 0

    def read(self, num_bytes: int) -> bytes:
        with _reading():
            block = self._file.read(num_bytes)
        if self.in_header:
            self._header_bytes += len(block)
            if self._header_bytes > MAX_HEADER_BYTES:
                raise ArchiveError(f"{self._archive}: unsafe: the header of a member is larger than it can be.")
        return block


def decompressed(file: IO[bytes]) -> IO[bytes]:
    """By its first bytes, not by its name: a .tar.gz that a browser has already unpacked is a tar."""
    head = file.read(6)
    file.seek(0)
    openers: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
    opener = next((opener for magic, opener in openers.items() if head.startswith(magic)), lambda same: same)
    opened: IO[bytes] = opener(file)
    return opened
