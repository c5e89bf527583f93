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
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "RECORD",
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

RECORD = np.dtype(
    [
        ("key_high", "<u8"),
        ("key_low", "<u8"),
        ("offset", "<u8"),  # bytes into the .pcm
        ("num_samples", "<u4"),
        ("checksum", "<u4"),  # CRC-32 of the samples' bytes
    ]
)
_ROW = np.dtype([*RECORD.descr, ("segment", "<u4"), ("is_checked", "<u4")])  # in memory; 1: the checksum is right
_SEGMENT_FILE = re.compile(r"([0-9a-f]+-[0-9a-f]{16})\.(pcm|idx)")
_FOLDER_NAME = re.compile(r"(\d+)hz-v2")
_ROOT, _OLD_ROOT = "audio", "arena"  # in the cache's folder; the old one is only listed and cleared
_MERGE_SHARE = 32  # new clips go to a small sorted array, until it is 1/32 of the large one


class SegmentWriter:
    """Appends clips to a new segment. After an error it must not be used again."""

    def __init__(self, folder: Path) -> None:
        self.name = f"{os.getpid():x}-{secrets.token_hex(8)}"
        self._pcm = (folder / f"{self.name}.pcm").open("xb", buffering=0)
        self._index = (folder / f"{self.name}.idx").open("xb", buffering=0)
        self._pcm_bytes = self.index_bytes = 0  # written

    def append(self, key: tuple[int, int], pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.void]:
        """Write a clip (num_samples,), then its record; return the record, shape (1,).

        Raises:
            OSError: writing failed. What was half written is removed if possible.
        """
        data = np.ascontiguousarray(pcm, "<i2").view(np.uint8).data
        record = np.array([(*key, self._pcm_bytes, len(pcm), zlib.crc32(data))], RECORD)
        try:
            _write_all(self._pcm.fileno(), data)
            _write_all(self._index.fileno(), record.view(np.uint8).data)
        except BaseException:  # also Ctrl-C: the next offset would be wrong
            with contextlib.suppress(OSError):
                self._index.truncate(self.index_bytes)
                self._pcm.truncate(self._pcm_bytes)
            raise
        self._pcm_bytes += len(data)
        self.index_bytes += RECORD.itemsize
        return record


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        written = os.write(descriptor, data)
        if written <= 0:
            raise OSError("nothing could be written")
        data = data[written:]


def read_records(path: Path, start: int) -> tuple[npt.NDArray[np.void], int]:
    """Read whole records of an .idx file from byte `start` on; return them and the byte after the last.

    A cut record ends the file. Records of samples that are not there, as a power cut may leave them, are skipped.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read()
        pcm_bytes = path.with_suffix(".pcm").stat().st_size
    except OSError:
        return np.zeros(0, RECORD), start
    records = np.frombuffer(data, RECORD, count=len(data) // RECORD.itemsize)
    offsets, sizes = records["offset"], 2 * records["num_samples"].astype(np.uint64)
    is_there = (sizes > 0) & (offsets < pcm_bytes) & (offsets + sizes <= pcm_bytes)
    return records[is_there], start + len(records) * RECORD.itemsize


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
        rows = np.zeros(len(records), _ROW)
        rows[list(RECORD.names or ())] = records
        rows["segment"] = segment
        self._small = _merged(self._small, rows)
        if len(self._small) > max(1024, len(self._large) // _MERGE_SHARE):
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


def _merged(rows: npt.NDArray[np.void], new: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    new = new[np.argsort(new["key_high"], kind="stable")]
    return np.insert(rows, np.searchsorted(rows["key_high"], new["key_high"]), new)


def audio_cache_folder(cache_dir: str | Path, sampling_rate: int) -> Path:
    """Return the folder for clips of `sampling_rate` Hz. Its version changes when decoding or the format changes."""
    return Path(cache_dir) / _ROOT / f"{sampling_rate}hz-v2"


def audio_cache_folders(cache_dir: str | Path) -> list[Path]:
    """Return the existing folders, one a sampling rate and version, with those of the cache's former name."""
    roots = [Path(cache_dir) / _ROOT, Path(cache_dir) / _OLD_ROOT]
    return [path for root in roots if root.is_dir() for path in sorted(root.iterdir()) if path.is_dir()]


def audio_cache_usage(folder: Path) -> tuple[int, float]:
    """Return the number of distinct clips in `folder`, and their seconds; nan for folders of other formats."""
    rate = _FOLDER_NAME.fullmatch(folder.name)
    parts = [read_records(folder / f"{name}.idx", 0)[0] for name in segment_sizes(folder)]
    records = np.concatenate([np.zeros(0, RECORD), *parts])
    _, first = np.unique(records[["key_high", "key_low"]], return_index=True)
    num_samples = int(records["num_samples"][first].sum(dtype=np.int64))
    return len(first), num_samples / int(rate[1]) if rate else math.nan


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
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    sizes.setdefault(match[1], {})[match[2]] = entry.stat().st_size
    return sizes


def clear_audio_cache(folder: Path) -> None:
    """Delete the segments in `folder` and nothing else. Processes that use them decode again."""
    for path in sorted(folder.glob("*")):  # .idx before .pcm: no record without its samples
        if _SEGMENT_FILE.fullmatch(path.name):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # other files in it
        folder.rmdir()
        if folder.parent.name == _OLD_ROOT:
            folder.parent.rmdir()
