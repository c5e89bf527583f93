"""`speechtune cache`: what the cache holds, and clearing it. Nothing in it can't be made again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

__all__ = ["PARTS", "run"]

PARTS = {
    "audio": "decoded audio",
    "index": "indexes of corpora",
    "unpacked": "archives unpacked",
}


def run(cache_dir: str | None = None, *, clear: Sequence[str] = ()) -> int:
    """Print a line for each part of the cache, after removing those named in `clear` (some of `PARTS`).

    Only what speechtune wrote is removed, so a cache that shares its folder with other files is safe.
    """
    from speechtune.audio.cache_files import audio_cache_folders, audio_cache_usage, clear_audio_cache
    from speechtune.corpora.cache import cache_folder

    folder = cache_folder(cache_dir)
    if "audio" in clear or "arena" in clear:  # arena: the former name
        for place in audio_cache_folders(folder):
            clear_audio_cache(place)
    for part in ("index", "unpacked"):
        if part in clear:
            shutil.rmtree(folder / part, ignore_errors=True)
    print(folder)
    for part, what in PARTS.items():
        places = audio_cache_folders(folder) if part == "audio" else [folder / part]
        num_bytes = sum(_num_bytes(path) for place in places for path in place.rglob("*"))
        print(f"  {part:<10}{_size(num_bytes):>10}  {what}")
        for place in places if part == "audio" else ():
            usage = audio_cache_usage(place)
            hours = f", {usage.duration_s / 3600:.1f} h" if usage.duration_s == usage.duration_s else ""
            print(f"{'':22}  {place.relative_to(folder)}: {usage.num_clips:,} clips{hours}")
    return 0


def _num_bytes(path: Path) -> int:
    try:
        return 0 if path.is_dir() or path.is_symlink() else path.stat().st_size
    except OSError:  # another process removed it
        return 0


def _size(num_bytes: int) -> str:
    """As disks are sold: 1 MB is 1,000,000 bytes."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.1f} {unit}"
    return f"{num_bytes} bytes"
