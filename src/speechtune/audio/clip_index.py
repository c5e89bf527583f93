"""Where each clip of the arena lies: sorted arrays in memory, 37 bytes a clip, not a dict of a million objects."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["ClipIndex", "Found", "key_words", "rows_of"]

_ROW = np.dtype(
    [
        ("key_low", "<u8"),
        ("offset", "<u8"),
        ("num_samples", "<u4"),
        ("checksum", "<u4"),
        ("segment", "<u4"),
        ("is_checked", "u1"),  # this process has compared the samples with their checksum
    ]
)
_MERGE_SHARE = 8  # new clips go to a small sorted array, until it is 1/8 of the large one


def key_words(key: str) -> tuple[int, int]:
    """128 bits of hash of any key, as two numbers."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    high, low = struct.unpack("<QQ", digest)
    return high, low


def rows_of(records: npt.NDArray[np.void], segment: int) -> npt.NDArray[np.void]:
    """What the index keeps of RECORDs (N,): rows (N,)."""
    rows = np.zeros(len(records), _ROW)
    for name in ("key_low", "offset", "num_samples", "checksum"):
        rows[name] = records[name]
    rows["segment"] = segment
    return rows


class Found(NamedTuple):
    """Where a clip lies; `rows[position]` can be marked."""

    rows: npt.NDArray[np.void]
    position: int

    @property
    def row(self) -> np.void:
        return self.rows[self.position]


class ClipIndex:
    """Keys of all clips known, sorted: binary search in 2 arrays of numbers, 37 bytes a clip."""

    def __init__(self) -> None:
        empty = np.zeros(0, np.uint64), np.zeros(0, _ROW)
        self._large, self._small = empty, empty  # each: first halves of the keys, sorted; rows

    def __len__(self) -> int:
        return len(self._large[0]) + len(self._small[0])

    def add(self, records: npt.NDArray[np.void], segment: int) -> None:
        """Add RECORDs (N,) of one segment."""
        if not len(records):
            return
        self._small = _merged(self._small, (records["key_high"].astype(np.uint64), rows_of(records, segment)))
        if len(self._small[0]) > max(4096, len(self._large[0]) // _MERGE_SHARE):
            self._large = _merged(self._large, self._small)
            self._small = np.zeros(0, np.uint64), np.zeros(0, _ROW)

    def find(self, key: tuple[int, int]) -> list[Found]:
        """All places of a clip; usually none or one."""
        places = []
        for high, rows in (self._large, self._small):
            position = int(high.searchsorted(np.uint64(key[0]))) if len(high) else 0
            while position < len(high) and int(high[position]) == key[0]:
                if int(rows["key_low"][position]) == key[1]:
                    places.append(Found(rows, position))
                position += 1
        return places

    def drop_segments(self, segments: list[int]) -> None:
        """Forget the clips of segments that are gone."""
        self._large, self._small = (
            (high[kept], rows[kept])
            for high, rows in (self._large, self._small)
            for kept in [~np.isin(rows["segment"], segments)]
        )

    def totals(self) -> tuple[int, int]:
        """Number of distinct clips, and of their samples."""
        high, rows = _merged(self._large, self._small)
        keys = np.stack([high, rows["key_low"]], axis=1)
        _, first = np.unique(keys, axis=0, return_index=True)
        return len(first), int(rows["num_samples"][first].sum(dtype=np.int64))


_Level = tuple["npt.NDArray[np.uint64]", "npt.NDArray[np.void]"]


def _merged(one: _Level, other: _Level) -> _Level:
    high, rows = np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]])
    order = np.argsort(high, kind="stable")
    return high[order], rows[order]
