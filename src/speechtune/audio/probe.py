"""Durations of many audio files, read from their headers by several processes.

A header takes 0.1 to 0.3 ms, nearly all of it in Python, so threads gain nothing (measured: x1.05 with two) and
processes scale. They are spawned, not forked: the parent may have threads. A file on which a decoder crashes ends its
process; the files that were with that process are then read one by one, and only the culprit is skipped.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from speechtune.audio.packed import Packed, packed_bytes, packed_size
from speechtune.errors import AudioError

__all__ = ["Probe", "Task", "available_cores", "describe", "header_duration", "is_plausible", "probe", "probe_all"]

CHUNK = 64  # files sent to a process at once
SERIAL_BELOW = 4_000  # starting a process costs as much as 2,000 to 3,000 headers
MIN_BYTES_PER_S, MAX_BYTES_PER_S = 250, 100_000  # 2 kbit/s; 48 kHz, 16 bits
LONGER_S, LONGER_SHARE = 1.0, 0.1  # how much longer than its table says a recording may be


@dataclass(frozen=True, slots=True)
class Probe:
    """What one audio file's header says, or why the file cannot be used."""

    key: str = ""
    duration_s: float = math.nan
    reason: str = ""  # empty: usable
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """One file to look at. With a duration that fits its size, it is not opened: only its presence is checked."""

    audio: str | Packed
    duration_s: float = math.nan


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_plausible(duration_s: float, num_bytes: int) -> bool:
    """Return whether a recording of this size may last as long as a table says; if not, its header has to be read."""
    return 0 < duration_s < math.inf and MIN_BYTES_PER_S <= num_bytes / duration_s <= MAX_BYTES_PER_S


def header_duration(audio: str | bytes, expected_s: float, *, name: str = "") -> float:
    """Return the duration in the header, which may be less than its table says, but not much more.

    Raises:
        AudioError: the header can't be read, or the transcript is of a part of the recording (`wrong_duration`).
    """
    from speechtune.audio.decode import read_header

    duration_s = read_header(audio, name=name).duration_s
    if 0 < expected_s < duration_s - max(LONGER_S, LONGER_SHARE * expected_s):
        message = f"the table says {expected_s:g} s, the audio has {duration_s:.1f} s"
        raise AudioError(message, reason="wrong_duration")
    return duration_s


def probe(task: Task) -> Probe:
    """Look at one file. Never raises for what the file is."""
    look = _probe_packed if isinstance(task.audio, Packed) else _probe_file
    try:
        key, duration_s = look(task.audio, task.duration_s)  # type: ignore[arg-type]
    except AudioError as error:
        return Probe(reason=error.reason, detail=_one_line(error))
    except (OSError, ValueError) as error:
        return Probe(reason="undecodable", detail=_one_line(error))
    if not duration_s > 0:
        return Probe(reason="no_frames", detail="the header says 0 samples")
    return Probe(key=key, duration_s=duration_s)


def _probe_packed(where: Packed, expected_s: float) -> tuple[str, float]:
    from speechtune.audio.opening import bytes_key

    if where.key and is_plausible(expected_s, packed_size(where)):
        return where.key, expected_s
    data = packed_bytes(where)
    return where.key or bytes_key(data), header_duration(data, expected_s)


def _probe_file(path: str, expected_s: float) -> tuple[str, float]:
    from speechtune.audio.opening import file_key

    key = file_key(path)
    size = os.stat(path).st_size  # noqa: PTH116 - a million times; Path costs more than the call
    return key, expected_s if is_plausible(expected_s, size) else header_duration(path, expected_s)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def probe_all(tasks: Iterable[Task], *, max_workers: int | None = None) -> Iterator[Probe]:
    """Look at all files; yields results in the order of the tasks.

    Args:
        tasks: taken as needed, never all at once.
        max_workers: processes; None takes one per core. 0 or 1 reads in this process.
    """
    tasks = iter(tasks)
    workers = available_cores() if max_workers is None else max_workers
    first = list(islice(tasks, SERIAL_BELOW)) if workers > 1 else []
    if len(first) < SERIAL_BELOW:
        yield from map(probe, chain(first, tasks))
        return
    tasks = chain(first, tasks)
    pending: deque[tuple[list[Task], Future[list[Probe]]]] = deque()
    with contextlib.ExitStack() as pools:
        pool = pools.enter_context(_pool(workers))
        while chunk := list(islice(tasks, CHUNK)):
            try:
                future = _submit(pool, chunk)
            except BrokenProcessPool:
                pool = pools.enter_context(_pool(workers))
                future = _submit(pool, chunk)
            pending.append((chunk, future))
            if len(pending) > 2 * workers:
                yield from _results(*pending.popleft())
        while pending:
            yield from _results(*pending.popleft())


def _probe_chunk(chunk: list[Task]) -> list[Probe]:
    return [probe(task) for task in chunk]


def _results(chunk: list[Task], future: Future[list[Probe]]) -> list[Probe]:
    """Results of a chunk; one file at a time if the pool broke, to find the file that crashes the reader."""
    with contextlib.suppress(BrokenProcessPool):
        return future.result()
    results: list[Probe] = []
    while len(results) < len(chunk):
        with _pool(1) as pool, contextlib.suppress(BrokenProcessPool):
            for task in chunk[len(results) :]:
                results += _submit(pool, [task]).result()
            break
        results.append(Probe(reason="undecodable", detail="the audio reader crashed on this file"))
    return results


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_prepare_process)


def _submit(pool: ProcessPoolExecutor, chunk: list[Task]) -> Future[list[Probe]]:
    """Submit a chunk; a process that is started for it does not import the user's script, which may be unguarded."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        return pool.submit(_probe_chunk, chunk)
    finally:
        sys.modules["__main__"] = main


def _prepare_process() -> None:
    """End with the parent, not at Ctrl-C; silence libraries, which write about damaged files to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = "1"
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def describe(audio: str | Packed) -> str:
    """Return where the audio is, for a message."""
    return f"{Path(audio.source).name}:{audio.position}" if isinstance(audio, Packed) else audio
