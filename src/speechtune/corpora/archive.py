"""Corpora in archives: unpacked once into the cache, safely."""

from __future__ import annotations

from pathlib import Path

from speechtune.errors import ArchiveError

__all__ = ["is_archive", "unpack"]

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip")


def is_archive(path: Path) -> bool:
    """By its name."""
    return path.name.lower().endswith(ENDINGS)


def unpack(archive: Path, cache: Path) -> Path:
    """Folder with the archive's files."""
    raise ArchiveError(f"{archive}: archives are not read yet; unpack it first.")
