"""One case in a forked process: what it needs in time and memory, and how it ends."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from fuzz.case import Case, Kind, Place, read_rows
from fuzz.material import write_outside
from fuzz.watch import Canaries, OpenedFiles, system_folders

__all__ = ["LIMIT_BYTES", "LIMIT_S", "Ended", "Running"]

LIMIT_S = 120.0
LIMIT_BYTES = 2_000_000_000  # of growth
LARGEST_FILE = 4_000_000_000
FAILED, BROKEN = 70, 71  # exit codes: an exception of the command, one of the case itself
_CONTROLS = {chr(number) for number in (*range(9), 11, 12, *range(14, 32), 127, *range(0x80, 0xA0))}


@dataclass
class Ended:
    """How a case ended.

    Args:
        code: exit code of the last command; negative: the signal that ended the process.
        output: what it printed.
        problems: what its own checks found: files opened outside, rows that are missing, results that are wrong.
    """

    kind: str
    number: int
    code: int
    seconds: float
    growth_bytes: int
    output: str
    hung: bool = False
    problems: dict[str, list[str]] = field(default_factory=dict)

    @property
    def findings(self) -> dict[str, list[str]]:
        """Return name of the count -> what was found; empty for a result or a refusal."""
        found = {name: lines for name, lines in self.problems.items() if lines}
        if self.code == BROKEN:
            return {"broken cases": [self.output.strip().rpartition("\n")[2]]}
        if self.hung:
            found["hangs"] = [f"{self.seconds:.0f} s"]
        elif self.growth_bytes > LIMIT_BYTES:
            found["growth over 2 GB"] = [f"{self.growth_bytes / 1e9:.1f} GB"]
        elif self.code < 0 or self.code == FAILED or "Traceback (most recent call last)" in self.output:
            found["tracebacks"] = [f"exit code {self.code}"]
        elif self.code and not self.output.strip():
            found["refusals without a message"] = [f"exit code {self.code}"]
        if controls := sorted(_CONTROLS.intersection(self.output)):
            found["control characters"] = [", ".join(f"U+{ord(char):04X}" for char in controls)]
        return found


class Running:
    """A case under way.

    Args:
        seed: of the run; with kind and number it gives the same case again.
        folder: of the case, new.
    """

    def __init__(self, kind: str, make: Kind, number: int, seed: int, place: Place) -> None:
        self.kind, self.number, self.place = kind, number, place
        self._log = place.folder / "log.txt"
        self._started_s = time.monotonic()
        self._peak_bytes = 0
        place.folder.mkdir(parents=True)
        self.pid = os.fork()
        if self.pid == 0:
            _child(make, Random(f"{seed}:{kind}:{number}"), place, self._log)
        self._first_bytes: int | None = None

    def poll(self) -> Ended | None:
        """Return how it ended, or None while it runs; stop it beyond the limits."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        seconds = time.monotonic() - self._started_s
        if pid:
            _kill_group(self.pid)  # loader workers
            return self._ended(os.waitstatus_to_exitcode(status), seconds)
        size = _tree_bytes(self.pid)
        self._first_bytes = size if self._first_bytes is None else self._first_bytes
        self._peak_bytes = max(self._peak_bytes, size)
        is_slow = seconds > LIMIT_S
        if is_slow or self._growth > LIMIT_BYTES:
            _kill_group(self.pid)
            os.waitpid(self.pid, 0)
            return self._ended(-signal.SIGKILL, seconds, hung=is_slow)
        return None

    @property
    def _growth(self) -> int:
        return max(0, self._peak_bytes - (self._first_bytes or 0))

    def _ended(self, code: int, seconds: float, *, hung: bool = False) -> Ended:
        output = self._log.read_text("utf-8", errors="replace") if self._log.exists() else ""
        path = self.place.folder / "problems.json"
        problems = json.loads(path.read_text()) if path.exists() else {}
        if not (self.place.folder / "commands.txt").exists():
            code = BROKEN
        return Ended(self.kind, self.number, code, seconds, self._growth, output, hung, problems)


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _tree_bytes(pid: int) -> int:
    """Return the memory of a process and its descendants that no file backs."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                total += int(line.split()[1]) * 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(_tree_bytes(int(child)) for child in (task / "children").read_text().split())
    except (OSError, ValueError):  # it has just ended
        pass
    return total


# ---- in the forked process


def _child(make: Kind, rng: Random, place: Place, log: Path) -> None:
    """Make the case, run its commands, check, and exit."""
    code = BROKEN
    try:
        os.setpgid(0, 0)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        write_outside(place.outside)
        os.environ.update(HOME=str(place.outside), SPEECHTUNE_CACHE=str(place.folder / "cache"))
        tempfile.tempdir = os.environ["TMPDIR"] = str(place.folder / "tmp")
        Path(tempfile.tempdir).mkdir()
        os.chdir(place.folder)
        code = _run(make(place, rng), place)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(case: Case, place: Place) -> int:
    from speechtune.cli.main import main

    (place.folder / "commands.txt").write_text(json.dumps(case.commands, indent=1))
    allowed: list[str | Path] = [place.folder, place.material, *case.may_open, os.environ["HF_HOME"], *system_folders()]
    opened = OpenedFiles(allowed)
    watches_outside = not any(place.outside.is_relative_to(folder) for folder in case.may_open)
    canaries = Canaries(place.outside) if watches_outside else None
    used = _note_used_rows()
    opened.start()
    code = 0
    try:
        for words in case.commands:
            code = main(list(words))
    except Exception:
        traceback.print_exc()
        code = FAILED
    outside = opened.outside | (canaries.opened() if canaries else set())
    problems = {"files opened outside": sorted(outside)}
    if code == 0:
        problems["rows unaccounted for"] = _missing_rows(case, place, used)
        problems["wrong results"] = case.check()
    (place.folder / "problems.json").write_text(json.dumps(problems))
    return code


def _note_used_rows() -> set[str]:
    """Note the ids of the utterances that come into a batch of training."""
    from speechtune.data.dataset import SpeechDataset

    used: set[str] = set()
    getitems = SpeechDataset.__getitems__

    def noted(self: SpeechDataset, rows: list[int]) -> object:
        batch = getitems(self, rows)
        used.update(f"{self.split.table.split}:{utterance.id}" for utterance in batch.utterances)
        return batch

    SpeechDataset.__getitems__ = noted  # type: ignore[assignment, method-assign]
    return used


def _missing_rows(case: Case, place: Place, used: set[str]) -> list[str]:
    if case.rows is None:
        return []
    if case.row_split == "test":
        num_used = len(read_rows(place.output / "hypotheses.jsonl"))
    else:
        num_used = len({name for name in used if name.startswith(f"{case.row_split}:")})
    num_skipped = sum(row["split"] == case.row_split for row in read_rows(place.output / "skipped.jsonl"))
    if num_used + num_skipped == case.rows:
        return []
    return [f"{case.rows} rows in split {case.row_split}, {num_used} used and {num_skipped} in skipped.jsonl"]
