"""Files of the decoded-audio cache, and the index of their clips in memory. cache.py says how they are used."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import secrets
import struct
import zlib
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "RECORD",
    "AudioCacheUsage",
    "ClipIndex",
    "SegmentWriter",
    "audio_cache_folder",
    "audio_cache_folders",
    "audio_cache_usage",
    "clear_audio_cache",
    "hash_key",
    "read_records",
    "segment_sizes",
]

_FIELDS = [
    ("key_high", "<u8"),
    ("key_low", "<u8"),
    ("offset", "<u8"),  # bytes into the .pcm
    ("num_samples", "<u4"),
    ("checksum", "<u4"),  # CRC-32 of the samples' bytes
]
RECORD = np.dtype([*_FIELDS, ("record_checksum", "<u8")])  # of the 32 bytes above
_ROW = np.dtype([*_FIELDS, ("segment", "<u4"), ("is_checked", "<u4")])  # in memory; checked: samples match `checksum`
_SEGMENT_FILE = re.compile(r"([0-9a-f]+-[0-9a-f]{16})\.(pcm|idx)")
_FOLDER_NAME = re.compile(r"(\d+)hz-v1")
_ROOT, _OLD_ROOT = "audio", "arena"  # in the cache's folder; the old one is only listed and cleared
_MERGE_SHARE = 32  # new clips go to a small sorted array, until it is 1/32 of the large one


class SegmentWriter:
    """Appends clips to a new segment. After an error it is closed and must not be used again."""

    def __init__(self, folder: Path) -> None:
        self.name = f"{os.getpid():x}-{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._pcm = os.open(folder / f"{self.name}.pcm", flags, 0o666)
        try:
            self._index = os.open(folder / f"{self.name}.idx", flags, 0o666)
        except BaseException:
            os.close(self._pcm)
            raise
        self._pcm_bytes = self.index_bytes = 0  # written

    def append(self, key: tuple[int, int], pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.void]:
        """Write a clip (num_samples,), then its record; return the record, shape (1,).

        Raises:
            OSError: writing failed. What was half written is removed if possible.
        """
        data = np.ascontiguousarray(pcm, "<i2").view(np.uint8).data
        record = np.array([(*key, self._pcm_bytes, len(pcm), zlib.crc32(data), 0)], RECORD)
        record["record_checksum"] = _record_checksums(record)
        try:
            _write_all(self._pcm, data)
            _write_all(self._index, record.view(np.uint8).data)
        except BaseException:  # also Ctrl-C: the next offset would be wrong
            with contextlib.suppress(OSError):
                os.ftruncate(self._index, self.index_bytes)
                os.ftruncate(self._pcm, self._pcm_bytes)
            self.close()
            raise
        self._pcm_bytes += len(data)
        self.index_bytes += RECORD.itemsize
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
    """Return a checksum of each record (N,) over all but its last field. Faster than CRC-32: a million in 20 ms."""
    words = np.ascontiguousarray(records).view("<u8").reshape(-1, RECORD.itemsize // 8)[:, :-1]
    mixed = np.full(len(words), 0x9E3779B97F4A7C15, np.uint64)
    for column in words.T:
        mixed = (mixed ^ column) * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def read_records(path: Path, start: int) -> tuple[npt.NDArray[np.void], int]:
    """Read whole records of an .idx file from byte `start` on; return them and the byte after the last.

    A cut record ends the file; one with a wrong checksum is skipped, and read again later if none follows it.
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


def hash_key(key: str) -> tuple[int, int]:
    """Return 128 bits of hash of any text, as two numbers."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    high, low = struct.unpack("<QQ", digest)
    return high, low


class ClipIndex:
    """Rows of all known clips, sorted by key: 40 bytes a clip instead of a dict of a million objects."""

    def __init__(self) -> None:
        self._large = self._small = np.zeros(0, _ROW)

    def __len__(self) -> int:
        return len(self._large) + len(self._small)

    def add(self, records: npt.NDArray[np.void], segment: int) -> None:
        """Add RECORDs (N,) of one segment."""
        rows = records.copy().view(_ROW)
        rows["segment"], rows["is_checked"] = segment, 0
        self._small = _merged(self._small, rows)
        if len(self._small) > max(4096, len(self._large) // _MERGE_SHARE):
            self._large, self._small = _merged(self._large, self._small), np.zeros(0, _ROW)

    def find(self, key: tuple[int, int]) -> list[np.void]:
        """Return the rows of a clip, usually none or one; `is_checked` may be set in them."""
        found = []
        high, low = np.uint64(key[0]), np.uint64(key[1])
        for rows in (self._large, self._small):
            keys = rows["key_high"]
            position = bisect_left(keys, high)  # numpy's searchsorted would copy the column
            while position < len(keys) and keys[position] == high:
                if rows["key_low"][position] == low:
                    found.append(rows[position])
                position += 1
        return found

    def drop_segments(self, segments: list[int]) -> None:
        """Remove the clips of these segments."""
        self._large, self._small = (rows[~np.isin(rows["segment"], segments)] for rows in (self._large, self._small))


def _merged(one: npt.NDArray[np.void], other: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    rows = np.concatenate([one, other])
    return rows[np.argsort(rows["key_high"], kind="stable")]


@dataclass(frozen=True, slots=True)
class AudioCacheUsage:
    """What a folder of the cache holds."""

    num_clips: int  # distinct
    duration_s: float  # of those; nan if the folder's name doesn't tell the sampling rate
    num_bytes: int  # on disk
    num_segments: int


def audio_cache_folder(cache_dir: str | Path, sampling_rate: int) -> Path:
    """Return the folder for clips of `sampling_rate` Hz. Its version changes when decoding or the format changes."""
    return Path(cache_dir) / _ROOT / f"{sampling_rate}hz-v1"


def audio_cache_folders(cache_dir: str | Path) -> list[Path]:
    """Return the existing folders, one a sampling rate and version, with those of the cache's former name."""
    roots = [Path(cache_dir) / _ROOT, Path(cache_dir) / _OLD_ROOT]
    return [path for root in roots if root.is_dir() for path in sorted(root.iterdir()) if path.is_dir()]


def audio_cache_usage(folder: str | Path) -> AudioCacheUsage:
    """Measure what is in `folder`; zeros if it does not exist."""
    folder = Path(folder)
    sizes = segment_sizes(folder)
    records = np.concatenate([np.zeros(0, RECORD), *(read_records(folder / f"{name}.idx", 0)[0] for name in sizes)])
    _, first = np.unique(records[["key_high", "key_low"]], return_index=True)
    num_samples = int(records["num_samples"][first].sum(dtype=np.int64))
    rate = _FOLDER_NAME.fullmatch(folder.name)
    duration_s = 0.0 if num_samples == 0 else num_samples / int(rate[1]) if rate else math.nan
    num_bytes = sum(sum(parts.values()) for parts in sizes.values())
    return AudioCacheUsage(len(first), duration_s, num_bytes, len(sizes))


def segment_sizes(folder: Path) -> dict[str, dict[str, int]]:
    """Return the bytes of each segment's files: name -> {"pcm": ..., "idx": ...}; empty if there is no folder.

    Raises:
        OSError: the folder can't be read.
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
    """Delete the segments in `folder` and nothing else. Processes that use them decode again.

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
    with contextlib.suppress(OSError):  # other files in it
        Path(folder).rmdir()
        if Path(folder).parent.name == _OLD_ROOT:
            Path(folder).parent.rmdir()
    return freed
