"""`speechtune cache`: show what the cache holds, or clear it. Everything in it can be regenerated."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from speechtune.terminal.formatting import visible

__all__ = ["run"]

PARTS = {
    "audio": "decoded audio",
    "index": "indexes of corpora",
    "unpacked": "unpacked archives",
}


def run(cache_dir: str | None = None, *, clear: Sequence[str] | None = None) -> int:
    """Print a line for each part of the cache, after removing the parts named in `clear`.

    Args:
        clear: parts to remove; empty or "all" removes all. Files that speechtune did not write are never removed.
    """
    from speechtune.audio.cache_files import audio_cache_folders, audio_cache_usage, clear_audio_cache
    from speechtune.corpora.cache import cache_folder

    folder = cache_folder(cache_dir)
    removed = () if clear is None else PARTS if "all" in clear or not clear else clear
    if "audio" in removed or "arena" in removed:  # "arena": its former name
        for place in audio_cache_folders(folder):
            clear_audio_cache(place)
    for part in ("index", "unpacked"):
        if part in removed:
            shutil.rmtree(folder / part, ignore_errors=True)
    print(visible(str(folder)))
    for part, what in PARTS.items():
        places = audio_cache_folders(folder) if part == "audio" else [folder / part]
        num_bytes = sum(_num_bytes(path) for place in places for path in place.rglob("*"))
        print(f"  {part:<10}{_size(num_bytes):>10}  {what}")
        for place in places if part == "audio" else ():
            num_clips, duration_s = audio_cache_usage(place)
            hours = f", {duration_s / 3600:.1f} h" if duration_s == duration_s else ""
            print(f"{'':22}  {place.relative_to(folder)}: {num_clips:,} clips{hours}")
    return 0


def _num_bytes(path: Path) -> int:
    try:
        return 0 if path.is_dir() or path.is_symlink() else path.stat().st_size
    except OSError:  # another process removed it
        return 0


def _size(num_bytes: int) -> str:
    """Return a size in decimal units, as disks are sold: 1 MB is 1,000,000 bytes."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.1f} {unit}"
    return f"{num_bytes} bytes"
