"""The output folder of a run: may the run use it, resume in it, or must it refuse; and the records kept there."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechtune.errors import OutputError
from speechtune.files import as_jsonl, read_json, read_jsonl, write_atomically
from speechtune.options.table import Settings
from speechtune.plan.checkpoints import checkpoints
from speechtune.types import Skipped

if TYPE_CHECKING:
    from speechtune.plan.plan import RunPlan

__all__ = [
    "clear_results", "drop_later_steps", "inspect_folder", "lock_folder", "remove_other_weights", "write_settings",
    "write_skipped",
]  # fmt: skip

SETTINGS = "settings.json"
RESULTS = (  # replaced by a new run
    "skipped.jsonl", "left_out.jsonl", "bad_steps.jsonl", "eval_results*.json", "hypotheses*.jsonl",
    "baseline_*.json", "baseline_*.jsonl", "before_after.json", "interpolation.json", "train_results.json",
    "all_results.json", "trainer_state.json", "report.html", SETTINGS,
)  # fmt: skip
WEIGHTS = ("model*.safetensors", "adapter*.safetensors")
OF_ONE_KIND = ("model*.safetensors", "model.safetensors.index.json", "adapter_model.safetensors", "adapter_config.json")


def inspect_folder(folder: Path, settings: Settings, identity: Mapping[str, Any]) -> tuple[bool, bool]:
    """Return whether the run resumes there, and whether files of an earlier run are to be removed first.

    Nothing is changed.

    Args:
        identity: what makes two runs the same run, as in `RunPlan.identity`.

    Raises:
        OutputError: the folder can't be written, or holds another run, or files that speechtune did not write.
    """
    _check_writable(folder)
    if settings.overwrite_output_dir:
        return False, True
    found = read_json(folder / SETTINGS)
    if not found:
        foreign = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
        is_model = (folder / "config.json").exists() and _is_source(folder, settings)
        if foreign and not is_model:
            raise OutputError(
                f"{folder}: holds files that no run of speechtune wrote ({', '.join(sorted(foreign)[:3])}, ...).\n"
                "Give another --output_dir, or --overwrite_output_dir to write there all the same."
            )
        return False, False
    before = found.get("identity", {})
    changed = [name for name, value in identity.items() if name in before and before[name] != value]
    trained = bool(checkpoints(folder)) or any(True for pattern in WEIGHTS for _ in folder.glob(pattern))
    if not changed or not trained:
        return bool(checkpoints(folder)), False
    if "target_language" in changed:
        return False, True  # the other language's adapters are kept, its checkpoints and results are replaced
    name = changed[0]
    what = f"--{name} {before[name]} instead of {identity[name]}"
    if name == "corrections":  # hashes of what they say
        what = "other --corrections" if before[name] else "no --corrections"
    raise OutputError(
        f"{folder}: in use by another run, with {what}.\n"
        "Give another --output_dir, or --overwrite_output_dir to replace that run."
    )


def _check_writable(folder: Path) -> None:
    """Check that a folder is there or can be made, without making it."""
    place = next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))  # noqa: PTH110 - no error
    number = 0 if os.access(place, os.W_OK | os.X_OK) else errno.EACCES
    number = number if place.is_dir() else errno.ENOTDIR
    if number:
        raise OutputError(
            f"{place}: can't be written: {os.strerror(number)}.\nMake it writable, or give another --output_dir."
        )


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold an output folder for one run; the system frees it however the process ends.

    Raises:
        OutputError: another process is writing there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as file:
        try:
            # Not flock: loader workers would inherit it, and hold it for seconds after a kill of this process.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise OutputError(
                f"{folder}: in use by another run (process {owner}).\nWait for it, or give another --output_dir."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def clear_results(folder: Path) -> None:
    """Remove checkpoints and results of an earlier run; its model is replaced when the new one is saved."""
    for path in checkpoints(folder):
        shutil.rmtree(path, ignore_errors=True)
    for pattern in RESULTS:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def remove_other_weights(folder: Path, *, kept: Collection[str]) -> None:
    """Remove a whole model beside a new adapter, or an adapter beside a new model, which an earlier run left."""
    for pattern in OF_ONE_KIND:
        for path in folder.glob(pattern):
            if path.name not in kept:
                path.unlink()


def write_settings(plan: RunPlan, **facts: Any) -> None:
    """Write settings.json: the user's options, the plan and what identifies the run, without secrets."""
    row = {"options": plan.given, "identity": plan.identity, "plan": plan.as_json(), **facts}
    write_atomically(plan.folder / SETTINGS, json.dumps(row, ensure_ascii=False, indent=1, default=str) + "\n")


def write_skipped(folder: Path, rows: Iterable[Skipped]) -> None:
    """Write skipped.jsonl, one line a row of the corpus."""
    unique = {row.key: row for row in rows}
    write_atomically(folder / "skipped.jsonl", as_jsonl(row.as_json() for row in unique.values()))


def drop_later_steps(bad_steps: Path, checkpoint: Path | None) -> None:
    """Remove the rows of steps after the checkpoint: they are taken again, and listed again where they fail again."""
    if not bad_steps.exists():
        return
    last = read_json(checkpoint / "trainer_state.json").get("global_step", 0) if checkpoint is not None else 0
    write_atomically(bad_steps, as_jsonl(row for row in read_jsonl(bad_steps) if row["step"] <= last))


def _is_source(folder: Path, settings: Settings) -> bool:
    """Whether the folder is the model that training starts from."""
    names = (settings.model_name_or_path, settings.tokenizer_name_or_path)
    return any(name and os.path.isdir(name) and os.path.samefile(name, folder) for name in names)  # noqa: PTH112, PTH121
