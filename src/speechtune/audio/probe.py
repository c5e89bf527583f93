"""Durations of many audio files, from their headers, on all cores; a file that can't be read costs only itself.

A header takes 0.1 to 0.3 ms, nearly all of it in Python, so threads gain nothing (measured: 2 threads x1.05) and
processes scale. They are started as plain children that speak JSON lines, not through `multiprocessing`: no fork of a
process that has threads, no import of the user's script, and a decoder that crashes on a bad file takes one child with
it, after which that file is skipped like any other.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from speechtune.audio.packed import Packed
from speechtune.errors import AudioError

__all__ = ["Probe", "available_cores", "probe", "probe_all"]

CHUNK = 64  # files a message
SERIAL_BELOW = 4_000  # starting a child costs as much as 2,000 to 3,000 headers


@dataclass(frozen=True, slots=True)
class Probe:
    """What one audio file's header says, or why it can't be used."""

    key: str = ""
    duration_s: float = math.nan
    reason: str = ""  # empty: usable
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """One file to look at; a known duration spares opening it, and only its presence is checked."""

    audio: str | Packed
    duration_s: float = math.nan


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def probe(task: Task) -> Probe:
    """Look at one file. Never raises for what the file is."""
    from speechtune.audio.decode import read_header
    from speechtune.audio.opening import bytes_key, file_key
    from speechtune.audio.packed import packed_bytes

    duration_s = task.duration_s
    try:
        if isinstance(task.audio, Packed):
            key = task.audio.key
            if not key or math.isnan(duration_s):
                data = packed_bytes(task.audio)
                key = key or bytes_key(data)
                duration_s = read_header(data).duration_s if math.isnan(duration_s) else duration_s
        else:
            missing = _missing(task.audio)
            if missing:
                return missing
            key = file_key(task.audio)
            if math.isnan(duration_s):
                duration_s = read_header(task.audio).duration_s
    except AudioError as error:
        return Probe(reason=error.reason, detail=_one_line(error))
    except (OSError, ValueError) as error:
        return Probe(reason="undecodable", detail=_one_line(error))
    if not duration_s > 0:
        return Probe(reason="no_frames", detail="the header says 0 samples")
    return Probe(key=key, duration_s=duration_s)


def _missing(path: str) -> Probe | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - a million times; Path costs more than the call
    except (OSError, ValueError) as error:
        return Probe(reason="missing_file", detail=getattr(error, "strerror", None) or _one_line(error))
    if not stat.S_ISREG(status.st_mode):
        return Probe(reason="undecodable", detail="not a file")
    return Probe(reason="undecodable", detail="empty file") if status.st_size == 0 else None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def probe_all(tasks: Iterable[Task], *, max_workers: int | None = None) -> Iterator[Probe]:
    """Look at all files, giving results in the order of the tasks.

    Args:
        tasks: taken as needed, never all at once.
        max_workers: processes; None takes one a core. 0 or 1 reads in this process.
    """
    tasks = iter(tasks)
    workers = available_cores() if max_workers is None else max_workers
    first = list(islice(tasks, SERIAL_BELOW)) if workers > 1 else []
    if len(first) < SERIAL_BELOW:
        yield from map(probe, first)
        yield from map(probe, tasks)
        return
    with _Pool(workers) as pool:
        for answers in pool.map(_chunks(_chain(first, tasks))):
            yield from answers


def _chain(first: list[Task], rest: Iterator[Task]) -> Iterator[Task]:
    yield from first
    yield from rest


def _chunks(tasks: Iterator[Task]) -> Iterator[list[Task]]:
    while chunk := list(islice(tasks, CHUNK)):
        yield chunk


class _Pool:
    """As many children as workers; each is spoken to by one thread."""

    def __init__(self, workers: int) -> None:
        self._children: deque[_Child] = deque(_Child() for _ in range(workers))
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="headers")
        self._window = 2 * workers

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *exc: object) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        for child in self._children:
            child.close()

    def map(self, chunks: Iterator[list[Task]]) -> Iterator[list[Probe]]:
        pending: deque[Future[list[Probe]]] = deque()
        for chunk in chunks:
            pending.append(self._threads.submit(self._ask, chunk))
            if len(pending) > self._window:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def _ask(self, chunk: list[Task]) -> list[Probe]:
        child = self._children.popleft()  # deque ends are atomic; there are as many children as threads
        try:
            return child.ask(chunk)
        finally:
            self._children.append(child)


class _Child:
    """A process that reads headers: one JSON line of tasks in, one JSON line of answers out."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def ask(self, chunk: Sequence[Task]) -> list[Probe]:
        answers = self._try(chunk)
        if answers is not None:
            return answers
        if len(chunk) == 1:
            return [Probe(reason="undecodable", detail="the audio reader crashed on this file")]
        return [answer for task in chunk for answer in self.ask([task])]  # one of them is the culprit

    def _try(self, chunk: Sequence[Task]) -> list[Probe] | None:
        process = self._process = self._process or _start_child()
        assert process.stdin and process.stdout
        try:
            process.stdin.write(json.dumps([_pack(task) for task in chunk]) + "\n")
            process.stdin.flush()
            return [Probe(*fields) for fields in json.loads(process.stdout.readline())]
        except (OSError, ValueError):  # it died: a broken pipe, or no answer
            self.close()
            return None

    def close(self) -> None:
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]
            self._process.kill()
            self._process.wait()
            self._process = None


def _start_child() -> subprocess.Popen[str]:
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    return subprocess.Popen(
        [sys.executable, "-c", "from speechtune.audio.probe import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # libraries write about bad files there; the answer says it
        env=environment,
        text=True,
        encoding="utf-8",
    )


def _pack(task: Task) -> list[object]:
    audio = asdict(task.audio) if isinstance(task.audio, Packed) else task.audio
    return [audio, task.duration_s]


def serve() -> None:
    """The child's side. Ends when its parent does: the pipe closes."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; the closed pipe ends us
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    for line in sys.stdin:
        answers = []
        for audio, duration_s in json.loads(line):
            answer = probe(Task(Packed(**audio) if isinstance(audio, dict) else audio, duration_s))
            answers.append([answer.key, answer.duration_s, answer.reason, answer.detail])
        out.write(json.dumps(answers) + "\n")
        out.flush()


def task_of(audio: str | Packed, duration_s: float) -> Task:
    """A task; a duration that makes no sense is taken as unknown."""
    plausible = 0 < duration_s < 30 * 24 * 3600
    return Task(audio, duration_s if plausible else math.nan)


def describe(audio: str | Packed) -> str:
    """Where the audio lies, for a message."""
    return f"{Path(audio.source).name}:{audio.position}" if isinstance(audio, Packed) else audio
