"""The arena's files: where they lie, how a clip is appended, how a torn tail is told from a record, and clearing them.

`arena.py` says how they are used.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import secrets
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from speechtune.audio.clip_index import ClipIndex

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "RECORD",
    "AudioCacheUsage",
    "SegmentWriter",
    "audio_cache_folder",
    "audio_cache_folders",
    "audio_cache_usage",
    "clear_audio_cache",
    "read_records",
    "segment_sizes",
]

RECORD = np.dtype(
    [
        ("key_high", "<u8"),
        ("key_low", "<u8"),
        ("offset", "<u8"),  # bytes into the .pcm
        ("num_samples", "<u4"),
        ("checksum", "<u4"),  # CRC-32 of the samples' bytes
        ("record_checksum", "<u8"),  # of the 32 bytes above
    ]
)
_SEGMENT_FILE = re.compile(r"([0-9a-f]+-[0-9a-f]{16})\.(pcm|idx)")
_FOLDER_NAME = re.compile(r"(\d+)hz-v1")


class SegmentWriter:
    """The segment that one process appends to. After an error it is closed and never used again."""

    def __init__(self, folder: Path) -> None:
        self.name = f"{os.getpid():x}-{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._pcm = os.open(folder / f"{self.name}.pcm", flags, 0o666)
        try:
            self._index = os.open(folder / f"{self.name}.idx", flags, 0o666)
        except BaseException:
            os.close(self._pcm)
            raise
        self._pcm_bytes = self._index_bytes = 0

    def append(self, key: tuple[int, int], pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.void]:
        """Write a clip (num_samples,), then its record; returns the record, shape (1,).

        Raises:
            OSError: the disk is full, or refuses. What was half written is taken back as far as the system lets us.
        """
        data = np.ascontiguousarray(pcm, "<i2").view(np.uint8).data
        record = np.zeros(1, RECORD)
        record[0] = (*key, self._pcm_bytes, len(pcm), zlib.crc32(data), 0)
        record["record_checksum"] = _record_checksums(record)
        try:
            _write_all(self._pcm, data)
            _write_all(self._index, record.view(np.uint8).data)
        except BaseException:  # also Ctrl-C: the next offset would be wrong
            with contextlib.suppress(OSError):
                os.ftruncate(self._index, self._index_bytes)
                os.ftruncate(self._pcm, self._pcm_bytes)
            self.close()
            raise
        self._pcm_bytes += len(data)
        self._index_bytes += RECORD.itemsize
        return record

    def close(self) -> None:
        for descriptor in (self._pcm, self._index):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        written = os.write(descriptor, data)
        if written <= 0:
            raise OSError("nothing could be written")
        data = data[written:]


def _record_checksums(records: npt.NDArray[np.void]) -> npt.NDArray[np.uint64]:
    """Checksum of each record (N,), over all but its last field. Not CRC-32: numpy does a million of these in 20 ms."""
    words = np.ascontiguousarray(records).view("<u8").reshape(-1, RECORD.itemsize // 8)[:, :-1]
    mixed = np.full(len(words), 0x9E3779B97F4A7C15, np.uint64)
    for column in words.T:
        mixed = (mixed ^ column) * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def read_records(path: Path, start: int) -> tuple[npt.NDArray[np.void], int]:
    """Whole records of an .idx file from byte `start` on, and the byte after the last of them.

    A cut record ends the file; one with a wrong checksum is passed over, and looked at again if none follows it.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read()
    except OSError:
        return np.zeros(0, RECORD), start
    records = np.frombuffer(data, RECORD, count=len(data) // RECORD.itemsize)
    is_whole = _record_checksums(records) == records["record_checksum"]
    num_done = int(np.flatnonzero(is_whole)[-1]) + 1 if is_whole.any() else 0
    return records[is_whole], start + num_done * RECORD.itemsize


@dataclass(frozen=True, slots=True)
class AudioCacheUsage:
    """What an arena holds."""

    num_clips: int  # distinct
    duration_s: float  # of those; nan where the folder's name doesn't tell the rate
    num_bytes: int  # on disk
    num_segments: int


def audio_cache_folder(cache_dir: str | Path, sampling_rate: int) -> Path:
    """Where clips of `sampling_rate` (Hz) lie. The name's version changes when decoding or the format changes."""
    return Path(cache_dir) / "arena" / f"{sampling_rate}hz-v1"


def audio_cache_folders(cache_dir: str | Path) -> list[Path]:
    """The arenas that are there, one a sampling rate (and version)."""
    root = Path(cache_dir) / "arena"
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def audio_cache_usage(folder: str | Path) -> AudioCacheUsage:
    """What the arena in `folder` holds; zeros where there is none."""
    folder = Path(folder)
    sizes, index = segment_sizes(folder), ClipIndex()
    for name in sizes:
        index.add(read_records(folder / f"{name}.idx", 0)[0], 0)
    num_clips, num_samples = index.totals()
    rate = _FOLDER_NAME.fullmatch(folder.name)
    duration_s = 0.0 if num_samples == 0 else num_samples / int(rate[1]) if rate else math.nan
    num_bytes = sum(sum(parts.values()) for parts in sizes.values())
    return AudioCacheUsage(num_clips, duration_s, num_bytes, len(sizes))


def segment_sizes(folder: Path) -> dict[str, dict[str, int]]:
    """Bytes of each segment's files: name -> {"pcm": ..., "idx": ...}; empty where there is no folder.

    Raises:
        OSError: the folder is there and can't be read.
    """
    sizes: dict[str, dict[str, int]] = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            match = _SEGMENT_FILE.fullmatch(entry.name)
            if match:
                with contextlib.suppress(FileNotFoundError):  # cleared meanwhile
                    sizes.setdefault(match[1], {})[match[2]] = entry.stat().st_size
    return sizes


def clear_audio_cache(folder: str | Path) -> int:
    """Delete the arena in `folder`, and nothing else that lies there. Processes that use it go on, decoding.

    Returns:
        Bytes freed.
    """
    freed = 0
    for path in sorted(Path(folder).glob("*")):  # .idx before .pcm: no record without its samples
        if _SEGMENT_FILE.fullmatch(path.name):
            with contextlib.suppress(FileNotFoundError):
                size = path.stat().st_size
                path.unlink()
                freed += size
    with contextlib.suppress(OSError):
        Path(folder).rmdir()
    return freed
