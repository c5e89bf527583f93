"""Whole commands, ours and the peer's, in their own processes: for C5, C9 and scaling.py."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from common import Cost, cost_of, run_command

HERE = Path(__file__).parent


def train_peer(corpus: Path, config: dict[str, Any], out: Path, *options: str) -> tuple[Cost, Cost]:
    """Run the peer from scratch; return the cost of the whole run and of the part until the end of the first step."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    command = [sys.executable, str(HERE / "peer.py"), "--corpus", str(corpus), "--config", json.dumps(config)]
    return _timed([*command, "--out", str(out), *options], out)


def train_ours(
    corpus: Path, config: dict[str, Any], out: Path, *options: str, keep_cache: bool = False
) -> tuple[Cost, Cost]:
    """Run speechtune with an empty cache or, with `keep_cache`, with the index and decoded audio of the last run."""
    if not keep_cache:
        shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(HERE / "ours.py"), "train", "--model_config", json.dumps(config), "--do_train"]
    command += ["--dataset_name", str(corpus), "--output_dir", str(out / "run"), "--cache_dir", str(out / "cache")]
    command += ["--train_split_name", "train", "--eval_split_name", "test", "--text_column_name", "sentence"]
    command += ["--precision", "fp32", "--use_cpu", "--save_strategy", "no", "--overwrite_output_dir"]
    return _timed([*command, *options], out)


def _timed(command: list[str], out: Path) -> tuple[Cost, Cost]:
    note = out / "first_step.json"
    began_s = time.time()
    whole = cost_of(lambda: run_command(command, FIRST_STEP_FILE=str(note), SPEECHTUNE_CACHE=str(out / "cache")))
    first = json.loads(note.read_text("utf-8"))
    return whole, Cost(first["cpu_s"], first["at_s"] - began_s, 1.0)


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
