"""Audio decoded once: an append-only store of 16-bit samples, shared by loader workers, ranks, epochs and runs.

    arena/16000hz-v1/
        3f2a-9c41d07be2aa5510.pcm     samples, clip after clip, 16 bits, little-endian
        3f2a-9c41d07be2aa5510.idx     one record of 40 bytes a clip: key, offset, length, checksums
        41b7-...                      every process that stores anything has its own pair: a segment

Nobody waits for anybody. A process appends to its own segment only, the samples first, then the record. Readers look
for new records of all segments when a clip is missing, at most once a second. So a kill at any byte leaves samples
without a record, or a record cut short, and both are passed over. A power cut can lose samples whose record survived:
the record carries their checksum, which is compared when a process first reads the clip. Two processes may store the
same clip; either copy serves.

Samples are read with `pread`, not through a memory map. Measured, it is as fast (5 s of audio to float32 in 25
microseconds, out of the same page cache, which all processes share), while a map would hold a file descriptor a
segment, count the whole arena as the process' memory, and kill the process where the disk fails (SIGBUS).
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from speechtune.audio.cache_files import (
    RECORD,
    AudioCacheUsage,
    SegmentWriter,
    audio_cache_folder,
    audio_cache_folders,
    audio_cache_usage,
    clear_audio_cache,
    read_records,
    segment_sizes,
)
from speechtune.audio.clip_index import ClipIndex, Found, key_words, rows_of
from speechtune.audio.pcm import Samples, quantise

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "AudioCache",
    "AudioCacheUsage",
    "audio_cache_folder",
    "audio_cache_folders",
    "audio_cache_usage",
    "clear_audio_cache",
]

REFRESH_S = 1.0  # between two looks for what other processes stored
RETRY_S = 60.0  # after a failed write, or a full disk
MIN_FREE_BYTES, MIN_FREE_SHARE, MAX_RESERVE_BYTES = 1 << 30, 0.05, 20 << 30  # of the disk, left to others

_MAX_OPEN_SEGMENTS = 64  # file descriptors a process holds for reading


class AudioCache:
    """The store in one folder. It may be pickled or forked: each process then has its own segment and descriptors.

    Args:
        folder: as `audio_cache_folder` gives it; made when the first clip is stored.
        sampling_rate: of all clips, in Hz; part of their keys.
        max_bytes: cap on all segments together; None: only the free space of the disk counts. Several processes that
            reach it at the same moment may exceed it by a clip each.
        min_free_bytes: of the disk, not to be used; None: 5 %, but at least 1 GiB and at most 20 GiB.
        refresh_s: least time between two looks for what other processes stored.
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
        self.max_bytes = max_bytes
        self.min_free_bytes = min_free_bytes
        self.refresh_s = refresh_s
        self.why_full = ""  # why clips are not stored at present, for a message
        self._index = ClipIndex()
        self._names: list[str] = []  # of segments, also of those gone: the index holds positions in this list
        self._numbers: dict[str, int] = {}  # name -> position
        self._consumed: dict[str, int] = {}  # name -> bytes of its .idx that are in the index; only those still there
        self._stored: dict[tuple[int, int], Found] = {}  # by this process since the last refresh
        self._bad: set[tuple[int, int]] = set()  # segment, offset: samples that don't match their checksum
        self._used_bytes = self._spare_bytes = 0
        self._refreshed_s = self._refuse_until_s = -math.inf
        self._enter_process()

    def __getstate__(self) -> dict[str, Any]:
        settings = ("folder", "sampling_rate", "max_bytes", "min_free_bytes", "refresh_s")
        return {name: getattr(self, name) for name in settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # When the interpreter ends, what closing needs may be gone already; the system closes the files.
        if hasattr(self, "_descriptors") and not _is_finalizing():
            self._close()

    def __len__(self) -> int:
        """Clips known to this process (copies counted)."""
        return len(self._index) + len(self._stored)

    def get(self, key: str) -> npt.NDArray[np.int16] | None:
        """Samples of a clip (num_samples,), read-only; None if it is not (or not soundly) stored.

        Args:
            key: names the clip's content (Utterance.audio_key).
        """
        words = self._words(key)
        with self._locked():
            pcm = self._read_any(words)
            if pcm is None and time.monotonic() - self._refreshed_s >= self.refresh_s:
                self._refresh()
                pcm = self._read_any(words)
        return pcm

    def put(self, key: str, samples: Samples) -> bool:
        """Store a clip, rounded as `quantise` says; int16 is stored as it is.

        Args:
            key: names the clip's content.
            samples: (num_samples,).

        Returns:
            Whether it is stored. False if it is empty or not finite, if the cap or the disk's reserve is reached, or
            if writing failed (`why_full` says which): decoding goes on as if there was no arena.
        """
        assert samples.ndim == 1, samples.shape
        if not len(samples):
            return False
        if samples.dtype != np.int16 and not math.isfinite(float(samples.max()) - float(samples.min())):
            return False
        pcm = quantise(samples)
        words = self._words(key)
        with self._locked():
            if self._places(words):
                return True
            return self._has_room(pcm.nbytes + RECORD.itemsize) and self._append(words, pcm)

    def refresh(self) -> None:
        """Look for what other processes stored. Done before a fork, it spares each child its own first look."""
        with self._locked():
            self._refresh()

    def close(self) -> None:
        """Close all files. The arena may be used again."""
        with self._locked():
            self._close()

    # --- this process -----------------------------------------------------------------------------------------------

    def _enter_process(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._writer: SegmentWriter | None = None
        self._descriptors: OrderedDict[str, int] = OrderedDict()  # of .pcm files, the last used last

    def _locked(self) -> threading.RLock:
        if self._pid != os.getpid():  # forked: the parent's segment is not ours, its lock may be held for ever
            self._close()
            self._enter_process()
        return self._lock

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def _words(self, key: str) -> tuple[int, int]:
        return key_words(f"{self.sampling_rate}\0{key}")

    # --- reading ------------------------------------------------------------------------------------------------------

    def _places(self, words: tuple[int, int]) -> list[Found]:
        """Where a clip lies, without places known to be bad."""
        places = self._index.find(words)
        if words in self._stored:
            places.append(self._stored[words])
        if self._bad:
            places = [
                place for place in places if (int(place.row["segment"]), int(place.row["offset"])) not in self._bad
            ]
        return places

    def _read_any(self, words: tuple[int, int]) -> npt.NDArray[np.int16] | None:
        for place in self._places(words):
            pcm = self._read(place)
            if pcm is not None:
                return pcm
        return None

    def _read(self, place: Found) -> npt.NDArray[np.int16] | None:
        row = place.row
        segment, offset, num_bytes = int(row["segment"]), int(row["offset"]), 2 * int(row["num_samples"])
        try:
            data = os.pread(self._descriptor(self._names[segment]), num_bytes, offset)
        except OSError:  # cleared meanwhile, or too many open files: it may be there next time
            return None
        if len(data) < num_bytes or (not row["is_checked"] and zlib.crc32(data) != row["checksum"]):
            self._bad.add((segment, offset))
            return None
        place.rows["is_checked"][place.position] = 1
        return np.frombuffer(data, "<i2")

    def _descriptor(self, name: str) -> int:
        if name not in self._descriptors:
            if len(self._descriptors) >= _MAX_OPEN_SEGMENTS:
                os.close(self._descriptors.popitem(last=False)[1])
            self._descriptors[name] = os.open(self.folder / f"{name}.pcm", os.O_RDONLY | os.O_CLOEXEC)
        self._descriptors.move_to_end(name)
        return self._descriptors[name]

    def _refresh(self) -> None:
        """Read new records of all segments, forget segments that are gone, measure what is used and free."""
        self._refreshed_s = time.monotonic()
        try:
            sizes = segment_sizes(self.folder)
        except OSError:
            return  # the system is short of something: what we know stays true
        self._used_bytes = sum(sum(parts.values()) for parts in sizes.values())
        self._spare_bytes = self._measure_spare_bytes()
        self._forget([name for name in self._consumed if "idx" not in sizes.get(name, {})])
        for name, parts in sizes.items():
            consumed = self._consumed.get(name, 0)
            if parts.get("idx", 0) - consumed >= RECORD.itemsize:
                records, consumed = read_records(self.folder / f"{name}.idx", consumed)
                self._index.add(records, self._number_of(name))
                self._consumed[name] = consumed
        self._stored.clear()  # our own segment's records were just read like the others'

    def _number_of(self, name: str) -> int:
        if name not in self._numbers:
            self._numbers[name] = len(self._names)
            self._names.append(name)
        return self._numbers[name]

    def _forget(self, gone: list[str]) -> None:
        """Somebody cleared the arena: their clips are no more, and our own segment can't be found by anybody."""
        if not gone:
            return
        self._index.drop_segments([self._numbers[name] for name in gone])
        for name in gone:
            del self._consumed[name]
            if name in self._descriptors:
                os.close(self._descriptors.pop(name))
            if self._writer is not None and self._writer.name == name:
                self._writer.close()
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
        if self.max_bytes is not None and self._used_bytes + num_bytes > self.max_bytes:
            self.why_full = f"{self.folder} holds {self._used_bytes / 1e9:.2f} of {self.max_bytes / 1e9:.2f} GB allowed"
        elif num_bytes > self._spare_bytes:
            self.why_full = f"the disk of {self.folder} is nearly full"
        else:
            self.why_full = ""
            return True
        self._refuse_until_s = now_s + self.refresh_s
        return False

    def _measure_spare_bytes(self) -> int:
        """Free space of the disk, less what is left to others."""
        folder = self.folder.absolute()
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        try:
            disk = os.statvfs(folder)
        except OSError:
            return 0
        reserve = self.min_free_bytes
        if reserve is None:
            share = int(MIN_FREE_SHARE * disk.f_blocks * disk.f_frsize)
            reserve = max(MIN_FREE_BYTES, min(share, MAX_RESERVE_BYTES))
        return disk.f_bavail * disk.f_frsize - reserve

    def _append(self, words: tuple[int, int], pcm: npt.NDArray[np.int16]) -> bool:
        try:
            if self._writer is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._writer = SegmentWriter(self.folder)
                self._number_of(self._writer.name)
                self._consumed[self._writer.name] = 0
            record = self._writer.append(words, pcm)
        except OSError as error:
            self._writer = None  # it closed itself
            self.why_full = f"{self.folder}: {error.strerror or error}"
            self._refuse_until_s = time.monotonic() + RETRY_S
            return False
        except BaseException:
            self._writer = None
            raise
        self._stored[words] = Found(rows_of(record, self._numbers[self._writer.name]), 0)
        num_bytes = pcm.nbytes + RECORD.itemsize
        self._used_bytes += num_bytes
        self._spare_bytes -= num_bytes
        return True
