"""The decoded-audio cache: 16-bit samples in append-only files, shared by loader workers, ranks, epochs and runs.

    audio/16000hz-v2/
        3f2a-9c41d07be2aa5510.pcm     samples, clip after clip, 16 bits, little-endian
        3f2a-9c41d07be2aa5510.idx     one record of 32 bytes a clip: key, offset, length, checksum
        41b7-...                      every process that stores anything has its own pair: a segment

There are no locks between processes. Each appends to its own segment only, the samples first, then the record. When a
clip is missing, readers look for new records of all segments, at most once a second. A kill at any byte leaves samples
without a record, or a cut record, and both are skipped. A power cut can lose samples whose record survived: the record
has their checksum, which is compared when a process first reads the clip. Two processes may store the same clip; either
copy serves.

Samples are read with `pread`, not through a memory map. Measured, it is as fast (5 s of audio to float32 in 25
microseconds, out of the page cache that all processes share), while a map would hold a file descriptor a segment,
count the whole cache as the process' memory, and kill the process when the disk fails (SIGBUS).
"""

from __future__ import annotations

import functools
import math
import os
import shutil
import threading
import time
import zlib
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from speechtune.audio.cache_files import RECORD, ClipIndex, SegmentWriter, hash_key, read_records, segment_sizes
from speechtune.audio.samples import Samples, quantise

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["AudioCache"]

REFRESH_S = 1.0  # between two looks for clips of other processes
RETRY_S = 60.0  # after a failed write
MIN_FREE_BYTES, MIN_FREE_SHARE, MAX_RESERVE_BYTES = 1 << 30, 0.05, 20 << 30  # of the disk, left to others

_MAX_OPEN_SEGMENTS = 64  # file descriptors a process holds for reading


class AudioCache:
    """Clips of one folder. It may be pickled or forked: each process then has its own segment and descriptors.

    Args:
        folder: as `audio_cache_folder` returns it; created when the first clip is stored.
        sampling_rate: of all clips, in Hz; part of their keys.
        max_bytes: cap on all segments together; None: only the free space of the disk counts. Several processes that
            reach it at the same moment may exceed it by a clip each.
        min_free_bytes: of the disk, not to be used; None: 5 %, but at least 1 GiB and at most 20 GiB.
        refresh_s: least time between two looks for clips of other processes.
    """

    def __init__(
        self,
        folder: str | Path,
        sampling_rate: int,
        *,
        max_bytes: int | None = None,
        min_free_bytes: int | None = None,
        refresh_s: float = REFRESH_S,
    ) -> None:
        self.folder = Path(folder)
        self.sampling_rate = sampling_rate
        self.max_bytes, self.min_free_bytes, self.refresh_s = max_bytes, min_free_bytes, refresh_s
        self._index = ClipIndex()
        self._names: list[str] = []  # of segments by their number in the index, including deleted ones
        self._known: dict[str, tuple[int, int]] = {}  # existing segment -> its number, bytes of its .idx in the index
        self._bad: set[tuple[int, int]] = set()  # segment, offset: samples that don't match their checksum
        self._used_bytes = self._spare_bytes = 0
        self._refreshed_s = self._refuse_until_s = -math.inf
        self._enter_process()

    def __reduce__(self) -> tuple[Callable[[], AudioCache], tuple[()]]:
        settings = {name: getattr(self, name) for name in ("max_bytes", "min_free_bytes", "refresh_s")}
        return functools.partial(AudioCache, self.folder, self.sampling_rate, **settings), ()

    def __len__(self) -> int:
        """Return the number of clips known to this process (copies counted)."""
        return len(self._index)

    def get(self, key: str) -> npt.NDArray[np.int16] | None:
        """Return a clip's samples (num_samples,), read-only; None if it is not stored or damaged.

        Args:
            key: names the clip's content (Utterance.audio_key).
        """
        words = self._hash(key)
        with self._locked():
            pcm = self._read_any(words)
            if pcm is None and time.monotonic() - self._refreshed_s >= self.refresh_s:
                self._refresh()
                pcm = self._read_any(words)
        return pcm

    def put(self, key: str, samples: Samples) -> bool:
        """Store a clip, rounded by `quantise`; int16 is stored as it is.

        Args:
            key: names the clip's content.
            samples: (num_samples,).

        Returns:
            Whether it is stored. False if it is empty or not finite, if the cap or the disk's reserve is reached, or
            if writing failed.
        """
        assert samples.ndim == 1, samples.shape
        if not len(samples):
            return False
        if samples.dtype != np.int16 and not math.isfinite(float(samples.max()) - float(samples.min())):
            return False
        pcm = quantise(samples)
        words = self._hash(key)
        with self._locked():
            if self._rows(words):
                return True
            return self._has_room(pcm.nbytes + RECORD.itemsize) and self._append(words, pcm)

    # --- this process -----------------------------------------------------------------------------------------------

    def _enter_process(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._writer: SegmentWriter | None = None
        self._open: dict[str, FileIO] = {}  # .pcm files for reading

    def _locked(self) -> threading.RLock:
        if self._pid != os.getpid():  # forked: the segment is the parent's, and its lock may be held for ever
            self._enter_process()
        return self._lock

    def _hash(self, key: str) -> tuple[int, int]:
        return hash_key(f"{self.sampling_rate}\0{key}")

    # --- reading ------------------------------------------------------------------------------------------------------

    def _rows(self, words: tuple[int, int]) -> list[np.void]:
        """Return where a clip is stored, without places known to be bad."""
        rows = self._index.find(words)
        return [row for row in rows if (int(row["segment"]), int(row["offset"])) not in self._bad]

    def _read_any(self, words: tuple[int, int]) -> npt.NDArray[np.int16] | None:
        return next((pcm for row in self._rows(words) if (pcm := self._read(row)) is not None), None)

    def _read(self, row: np.void) -> npt.NDArray[np.int16] | None:
        segment, offset, num_bytes = int(row["segment"]), int(row["offset"]), 2 * int(row["num_samples"])
        try:
            data = os.pread(self._pcm_file(self._names[segment]).fileno(), num_bytes, offset)
        except OSError:  # deleted meanwhile, or too many open files: it may work next time
            return None
        if len(data) < num_bytes or (not row["is_checked"] and zlib.crc32(data) != row["checksum"]):
            self._bad.add((segment, offset))
            return None
        row["is_checked"] = 1
        return np.frombuffer(data, "<i2")

    def _pcm_file(self, name: str) -> FileIO:
        if name not in self._open:
            if len(self._open) >= _MAX_OPEN_SEGMENTS:
                self._open.clear()
            self._open[name] = FileIO(self.folder / f"{name}.pcm")
        return self._open[name]

    def _refresh(self) -> None:
        """Read new records of all segments, forget deleted segments, measure used and free bytes."""
        self._refreshed_s = time.monotonic()
        try:
            sizes = segment_sizes(self.folder)
            self._spare_bytes = self._measure_spare_bytes()
        except OSError:
            return  # too many open files, for example: what is known stays valid
        self._used_bytes = sum(sum(parts.values()) for parts in sizes.values())
        self._forget([name for name in self._known if "idx" not in sizes.get(name, {})])
        for name, parts in sizes.items():
            _, start = self._known.get(name, (0, 0))
            if parts.get("idx", 0) - start >= RECORD.itemsize:
                self._add(name, *read_records(self.folder / f"{name}.idx", start))

    def _add(self, name: str, records: npt.NDArray[np.void], end: int) -> None:
        """Add a segment's records to the index, read up to byte `end` of its .idx."""
        if name not in self._known:
            self._names.append(name)
        number, _ = self._known.get(name, (len(self._names) - 1, 0))
        self._index.add(records, number)
        self._known[name] = number, end

    def _forget(self, deleted: list[str]) -> None:
        """Drop the clips of deleted segments: the cache was cleared."""
        if deleted:
            self._index.drop_segments([self._known.pop(name)[0] for name in deleted])
        for name in deleted:
            self._open.pop(name, None)
            if self._writer is not None and self._writer.name == name:
                self._writer = None

    # --- writing ------------------------------------------------------------------------------------------------------

    def _has_room(self, num_bytes: int) -> bool:
        now_s = time.monotonic()
        if now_s < self._refuse_until_s:
            return False
        # Others write too: the nearer to the cap, the fresher the figures have to be.
        is_near = self.max_bytes is not None and self._used_bytes + num_bytes > self.max_bytes * 7 // 8
        if is_near or now_s - self._refreshed_s >= self.refresh_s:
            self._refresh()
        has_room = self.max_bytes is None or self._used_bytes + num_bytes <= self.max_bytes
        if has_room and num_bytes <= self._spare_bytes:
            return True
        self._refuse_until_s = now_s + self.refresh_s
        return False

    def _measure_spare_bytes(self) -> int:
        """Return the free space of the disk, less what is left to others."""
        folder = self.folder.absolute()
        disk = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists()))
        reserve = max(MIN_FREE_BYTES, min(int(MIN_FREE_SHARE * disk.total), MAX_RESERVE_BYTES))
        return disk.free - (reserve if self.min_free_bytes is None else self.min_free_bytes)

    def _append(self, words: tuple[int, int], pcm: npt.NDArray[np.int16]) -> bool:
        try:
            if self._writer is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._writer = SegmentWriter(self.folder)
            record = self._writer.append(words, pcm)
        except BaseException as error:
            self._writer = None
            if not isinstance(error, OSError):
                raise
            self._refuse_until_s = time.monotonic() + RETRY_S
            return False
        self._add(self._writer.name, record, self._writer.index_bytes)
        num_bytes = pcm.nbytes + RECORD.itemsize
        self._used_bytes += num_bytes
        self._spare_bytes -= num_bytes
        return True
