"""The output folder of a run: whose it is, what may be cleared, and the records that are kept there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from speechtune.errors import OutputError
from speechtune.files import write_atomically
from speechtune.options.table import Options
from speechtune.training.checkpoint import checkpoints, remove_half_written
from speechtune.types import Skipped

__all__ = ["claim_output_folder", "forget_later_steps", "identity_of", "write_settings", "write_skipped"]

SETTINGS = "settings.json"
# A run in the same folder with another of these is another run, not the same one to go on with.
IDENTITY = (
    "model_name_or_path",
    "model_config",
    "dataset_name",
    "dataset_config_name",
    "train_split_name",
    "target_language",
)
ANEW = (  # what a new run replaces
    "skipped.jsonl", "bad_steps.jsonl", "eval_results*.json", "hypotheses*.jsonl", "train_results.json",
    "trainer_state.json", "report.html", "all_results.json", SETTINGS,
)  # fmt: skip


def claim_output_folder(options: Options, identity: dict[str, Any]) -> bool:
    """See what lies in the output folder, and make room.

    Returns:
        True where a run of the same command was begun there, to be gone on with.

    Raises:
        OutputError: it holds another run, or files that are not ours.
    """
    folder = options.output_dir
    assert folder is not None
    found = _read_json(folder / SETTINGS)
    if options.config.overwrite_output_dir:
        _clear(folder)
        return False
    remove_half_written(folder)
    if found is None:
        foreign = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
        is_model = (folder / "config.json").exists() and _same_folder(folder, options)
        if foreign and not is_model:
            raise OutputError(
                f"{folder}: holds files that no run of speechtune wrote ({', '.join(sorted(foreign)[:3])}, ...).\n"
                "Give another --output_dir, or --overwrite_output_dir to write there all the same."
            )
        return False
    before = found.get("identity", {})
    changed = [name for name in IDENTITY if before.get(name) != identity.get(name)]
    if changed and checkpoints(folder):
        if changed and "target_language" in changed:
            _clear(folder)  # another language into the same folder: its adapters stay, the other run's checkpoints go
            return False
        name = changed[0]
        raise OutputError(
            f"{folder}: in use by another run, with --{name} {before.get(name)} instead of {identity.get(name)}.\n"
            "Give another --output_dir, or --overwrite_output_dir to start anew there."
        )
    return bool(checkpoints(folder))


def identity_of(options: Options) -> dict[str, Any]:
    """What makes two runs the same run."""
    return {name: getattr(options.config, name) for name in IDENTITY}


def write_settings(options: Options, **more: Any) -> None:
    """Write what was asked for, without secrets."""
    folder = options.output_dir
    assert folder is not None
    row = {"options": options.shareable(), "identity": identity_of(options), **more}
    write_atomically(folder / SETTINGS, json.dumps(row, ensure_ascii=False, indent=1, default=str) + "\n")


def write_skipped(folder: Path, rows: Iterable[Skipped]) -> None:
    """Write skipped.jsonl, one line an utterance, none twice."""
    unique = {(row.split, row.id): row for row in rows}
    text = "".join(json.dumps(row.as_json(), ensure_ascii=False) + "\n" for row in unique.values())
    write_atomically(folder / "skipped.jsonl", text)


def _clear(folder: Path) -> None:
    import shutil

    remove_half_written(folder)
    for path in checkpoints(folder):
        shutil.rmtree(path, ignore_errors=True)
    for pattern in ANEW:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def _same_folder(folder: Path, options: Options) -> bool:
    names = (options.config.model_name_or_path, options.config.tokenizer_name_or_path)
    return any(name and os.path.isdir(name) and os.path.samefile(name, folder) for name in names)  # noqa: PTH112, PTH121


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        row = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return row if isinstance(row, dict) else None


def forget_later_steps(bad_steps: Path, checkpoint: Path | None) -> None:
    """Steps after the checkpoint are taken again, and named again where they are bad again."""
    if not bad_steps.exists():
        return
    state = _read_json(checkpoint / "trainer_state.json") if checkpoint is not None else None
    last = (state or {}).get("global_step", 0)
    lines = bad_steps.read_text("utf-8").split("\n")
    write_atomically(bad_steps, "".join(line + "\n" for line in lines if _step_of(line) <= last))


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # a line that a kill cut short
        return float("inf")
