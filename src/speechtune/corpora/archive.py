"""Unpack corpus archives safely, once, into cache/unpacked/<key>/files.

An archive from the network may be hostile or truncated. Names that leave the folder, links and devices are refused, and
sizes are checked before a member is written: `tarfile` and `zipfile` never write more than a member declares. Only a
complete folder gets its final name.

Rejected: `shutil.unpack_archive` and `tarfile`'s filter alone. Neither limits the size, neither notices a tar that ends
early, and `zipfile` silently renames what would leave the folder.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

from speechtune.corpora.cache import fingerprint, make_once, stamp
from speechtune.errors import ArchiveError
from speechtune.terminal.progress import progress_bar

__all__ = ["decompressed", "is_archive", "tar_members", "unpack"]

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip")
MAX_MEMBERS = 20_000_000
MAX_NESTED_FOLDERS = 100
MAX_PATH_BYTES = 2000  # of a member
MAX_RATIO = 200  # unpacked to packed; speech is about 1, text up to 20
RATIO_COUNTS_FROM = 64 << 20  # bytes; below, a high ratio does no harm
MAX_HEADER_BYTES = 16 << 20  # of one tar member, with its extended headers
KEEP_FREE_BYTES = 256 << 20
BLOCK = 1 << 20

_DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError,
    RecursionError,
)  # fmt: skip
_EXTENDED_HEADERS = frozenset(
    {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
)


def is_archive(path: Path) -> bool:
    """Whether its name is an archive's."""
    return path.name.lower().endswith(ENDINGS)


def unpack(archive: Path, cache: Path) -> Path:
    """Return the folder with the archive's files, unpacked now or by an earlier call.

    Args:
        archive: .tar, .tar.gz, .tar.bz2, .tar.xz or .zip.
        cache: the cache folder.

    Raises:
        ArchiveError: it is truncated, is no archive, or is unsafe: absolute names, `..`, links, devices, a bomb.
        CorpusError: the cache is full or can't be written.
    """
    target = cache / "unpacked" / fingerprint(stamp(archive.absolute())) / "files"
    return make_once(target, f"unpacking {archive.name}", lambda folder: _unpack_into(archive, folder))


def _unpack_into(archive: Path, folder: Path) -> None:
    try:
        file = archive.open("rb")
    except OSError as error:
        raise ArchiveError(f"{archive}: can't be read: {error.strerror or error}.") from error
    folder.mkdir()
    source = folder.with_name("from.txt")
    source.write_text(f"{archive.absolute()}\n", encoding="utf-8", errors="backslashreplace")
    budget = _Budget(archive, shutil.disk_usage(folder).free)
    extract = _extract_zip if archive.name.lower().endswith(".zip") else _extract_tar
    with file, progress_bar(f"unpacking {archive.name}", unit="bytes") as update:
        try:
            extract(archive, file, folder, budget, lambda done: update(done, budget.packed_bytes))
        except _DAMAGED as error:
            raise _damaged(archive, error) from error
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            name = os.path.relpath(str(error.filename), folder)
            raise ArchiveError(f"{archive}: '{name}' is both a file and a folder in it.") from error
        except OSError as error:
            if error.errno is None:  # gzip and bz2 report damaged data so; a full disk has a number
                raise _damaged(archive, error) from error
            raise
    if not budget.members:
        raise ArchiveError(f"{archive}: the archive is empty.")


def _damaged(archive: Path, error: Exception) -> ArchiveError:
    return ArchiveError(f"{archive}: the archive is truncated or damaged: {error}.\nDownload it again.")


class _Budget:
    """Count the members and their sizes, and refuse a bomb before it is written."""

    def __init__(self, archive: Path, free_bytes: int) -> None:
        self._archive = archive
        self.packed_bytes = archive.stat().st_size
        self._room = max(0, free_bytes - KEEP_FREE_BYTES)
        self._unpacked = 0
        self.members = 0

    def add(self, num_bytes: int) -> None:
        """Raise ArchiveError where there is too much."""
        self.members += 1
        self._unpacked += num_bytes
        if self.members > MAX_MEMBERS:
            raise ArchiveError(f"{self._archive}: more than {MAX_MEMBERS} members; it isn't unpacked.")
        if self._unpacked > max(RATIO_COUNTS_FROM, MAX_RATIO * self.packed_bytes):
            raise ArchiveError(
                f"{self._archive}: it unpacks to more than {MAX_RATIO} times its size: it is a bomb, or truncated.\n"
                "If it is what you want, unpack it yourself and give the folder."
            )
        if self._unpacked > self._room:
            raise ArchiveError(
                f"{self._archive}: no room to unpack it: more than {self._room / 1e9:.1f} GB needed.\n"
                "Free space in the cache, or name another place with --cache_dir or $SPEECHTUNE_CACHE."
            )


def _safe_name(archive: Path, name: str) -> str:
    """The member's name with forward slashes, if it stays in the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\x00" in name or name[1:2] == ":":
        raise ArchiveError(f"{archive}: unsafe: the member {name[:200]!r} would leave the folder.")
    lengths = [len(os.fsencode(part)) for part in path.parts]
    if len(lengths) > MAX_NESTED_FOLDERS or max(lengths, default=0) > 255 or sum(lengths) > MAX_PATH_BYTES:
        raise ArchiveError(
            f"{archive}: the member {name[:60]!r}... can't be unpacked: its name is too long, or it is in more than "
            f"{MAX_NESTED_FOLDERS} nested folders."
        )
    return "/".join(path.parts)


Update = Callable[[int], None]  # bytes of the archive that were read


def _extract_zip(archive: Path, file: IO[bytes], folder: Path, budget: _Budget, update: Update) -> None:
    read = 0
    with zipfile.ZipFile(file) as packed:
        for info in packed.infolist():
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ArchiveError(f"{archive}: unsafe: the member {info.filename[:200]!r} is a link or a device.")
            if info.flag_bits & 1:
                raise ArchiveError(f"{archive}: it is encrypted.\nUnpack it yourself and give the folder.")
            budget.add(info.file_size)
            if not info.filename:
                raise ArchiveError(f"{archive}: a member has no name.")
            info.filename = _safe_name(archive, info.filename) + ("/" if info.is_dir() else "")
            try:
                packed.extract(info, folder)
            except NotImplementedError as error:  # of a compression that zipfile doesn't know
                raise ArchiveError(f"{archive}: '{info.filename}' can't be unpacked: {error}.") from error
            read += info.compress_size
            update(read)


def _extract_tar(archive: Path, file: IO[bytes], folder: Path, budget: _Budget, update: Update) -> None:
    stream = decompressed(file)
    for packed, info in tar_members(stream, "r|"):
        if not (info.isreg() or info.isdir()) or info.issparse():
            kind = "a link" if info.issym() or info.islnk() else "a device or something else that is no file"
            raise ArchiveError(f"{archive}: unsafe: the member {info.name[:200]!r} is {kind}.")
        budget.add(info.size)
        info.name = _safe_name(archive, info.name)
        packed.extract(info, folder, set_attrs=False)
        update(file.tell())
    while stream.read(BLOCK):  # to the end of the compressed data, where its checksum is
        pass


def tar_members(stream: IO[bytes], mode: Literal["r:", "r|"]) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield (open tar, member) in order, in flat memory.

    Raises:
        tarfile.ReadError: the tar has a damaged header or no closing block, both of which `tarfile` takes for its end,
            or a header that never ends.
    """
    block = b""
    header_bytes = 0

    class Info(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: Any, encoding: str, errors: str) -> Any:
            nonlocal block, header_bytes
            block = bytes(buf)
            info = super().frombuf(buf, encoding, errors)
            header_bytes = header_bytes + info.size if info.type in _EXTENDED_HEADERS else 0
            if header_bytes > MAX_HEADER_BYTES:
                raise tarfile.ReadError("the header of a member is larger than it can be")
            return info

    with tarfile.open(fileobj=stream, mode=mode, tarinfo=Info, errorlevel=1) as packed:
        if hasattr(tarfile, "data_filter"):  # Python 3.10.12, 3.11.4
            packed.extraction_filter = tarfile.data_filter
        for info in packed:
            yield packed, info
            packed.members = []  # type: ignore[attr-defined]  # tarfile keeps every member: a million are 1 GB
    if len(block) != tarfile.BLOCKSIZE or block.strip(b"\x00"):
        raise tarfile.ReadError("a member's header is damaged, or it ends without its closing blocks")


def decompressed(file: IO[bytes]) -> IO[bytes]:
    """Return a reader of the decompressed data, by its first bytes: a .tar.gz may have been unpacked by a browser."""
    head = file.read(6)
    file.seek(0)
    openers: dict[bytes, Callable[[IO[bytes]], Any]] = {
        b"\x1f\x8b": gzip.open,
        b"BZh": bz2.open,
        b"\xfd7zXZ": lzma.open,
    }
    for magic, opener in openers.items():
        if head.startswith(magic):
            opened: IO[bytes] = opener(file)
            return opened
    return file
