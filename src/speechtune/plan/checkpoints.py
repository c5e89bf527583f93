"""Checkpoints that are complete or absent: written to a temporary folder, synced, listed in a manifest, renamed.

    OUT/tmp-checkpoint-400/     being written; removed by the next start
    OUT/checkpoint-400/         whole: every file has the size and checksum that manifest.json says
        manifest.json           written last: {"step": 400, "files": {"vocab.json": {"bytes": 5, "crc32": "8f3a01c2"}}}

The state of the optimiser, twice the size of what is trained, is kept in the newest two checkpoints: one to resume
from, one in case that is damaged. Older ones keep their weights.

Source of the order write, fsync file, rename, fsync folder: Pillai et al. 2014, "All File Systems Are Not Created
Equal".
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from speechtune.files import crc32, explain_write_errors, remove, sync, write_atomically

__all__ = [
    "MANIFEST",
    "begin_checkpoint",
    "checkpoints",
    "drop_older_states",
    "explain_disk_full",
    "finish_checkpoint",
    "holds_state",
    "is_whole",
    "newest_whole",
    "remove_half_written",
]

MANIFEST = "manifest.json"
STATE = re.compile(r"(optimizer|scheduler|scaler|rng_state)[\w.]*(/|$)")  # without it training can't resume exactly
NUM_STATES = 2
HALF = "tmp-"


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders by step, oldest first, whole or not."""
    found = [
        path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name) and path.is_dir()
    ]
    return sorted(found, key=lambda path: int(path.name.rsplit("-", 1)[1]))


def is_whole(checkpoint: Path, *, read: bool = True) -> bool:
    """Every file that the manifest lists is there with its size and, where it is to be `read`, its checksum."""
    try:
        files = json.loads((checkpoint / MANIFEST).read_text("utf-8"))["files"]
        if any((checkpoint / name).stat().st_size != facts["bytes"] for name, facts in files.items()):
            return False
        if not read:
            return True
        checksums = _each(_checksum, (checkpoint / name for name in files))
        return checksums == [facts["crc32"] for facts in files.values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def newest_whole(folder: Path, *, read: bool = True) -> Path | None:
    """The checkpoint to resume from; damaged ones are passed over. Not to `read` it is enough for a message."""
    return next((path for path in reversed(checkpoints(folder)) if is_whole(path, read=read)), None)


def begin_checkpoint(folder: Path, step: int) -> Path:
    """An empty folder to write checkpoint `step` into, beside its place."""
    path = folder / f"{HALF}checkpoint-{step}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def finish_checkpoint(half: Path, step: int) -> Path:
    """Sync, list, and rename a written folder to its place, which it replaces."""
    paths = [path for path in sorted(half.rglob("*")) if path.is_file()]
    checksums = _each(_sealed, paths)
    files = {
        str(path.relative_to(half)): {"bytes": path.stat().st_size, "crc32": checksum}
        for path, checksum in zip(paths, checksums, strict=True)
    }
    for folder in {path.parent for path in paths}:
        sync(folder)
    write_atomically(half / MANIFEST, json.dumps({"step": step, "files": files}, indent=1))
    sync(half)
    place = half.with_name(half.name.removeprefix(HALF))
    if place.exists():
        shutil.rmtree(place)
    half.rename(place)
    sync(place.parent)
    return place


def holds_state(checkpoint: Path) -> bool:
    """Whether training can resume exactly: with `--save_only_model`, and in older ones, there are weights only."""
    return any(checkpoint.glob("optimizer*"))


def drop_older_states(folder: Path) -> None:
    """Remove the state of the optimiser and the random numbers from all whole checkpoints but the newest two."""
    for checkpoint in [path for path in checkpoints(folder) if is_whole(path, read=False)][:-NUM_STATES]:
        content = json.loads((checkpoint / MANIFEST).read_text("utf-8"))
        names = [name for name in content["files"] if STATE.match(name)]
        if not names:
            continue
        kept = {name: facts for name, facts in content["files"].items() if name not in names}
        # The list comes first: a kill in between leaves files that nothing asks for.
        write_atomically(checkpoint / MANIFEST, json.dumps({**content, "files": kept}, indent=1))
        for name in names:
            (checkpoint / name).unlink(missing_ok=True)


def remove_half_written(folder: Path) -> list[Path]:
    """Remove what a killed run left half written; returns what it was."""
    halves = sorted([*folder.glob(f"{HALF}checkpoint-*"), *folder.glob(f"{HALF}model"), *folder.glob(".*.tmp")])
    for path in halves:
        remove(path)
    return halves


@contextmanager
def explain_disk_full(what: str, folder: Path) -> Iterator[None]:
    """`explain_write_errors` for an output folder: name the checkpoint that is kept."""

    def after_full() -> str:
        remove_half_written(folder)
        last = newest_whole(folder, read=False)
        kept = f"The last whole checkpoint is intact: {last}." if last else "There is no earlier checkpoint."
        return f"The half-written part was removed. {kept}\nFree some space and run the same command again to resume."

    with explain_write_errors(what, folder, after_full=after_full):
        yield


def _each(function: Callable[[Path], str], paths: Iterable[Path]) -> list[str]:
    """The function of each path, some at a time: both disks and checksums gain from it."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(function, paths))


def _sealed(path: Path) -> str:
    """Checksum of a file that is on the disk for good."""
    sync(path)
    return _checksum(path)


def _checksum(path: Path) -> str:
    return f"{crc32(path):08x}"
