"""Whole commands, ours and the peer's, as processes of their own: for C5, C9 and scaling.py."""

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
    """Run the peer from nothing; (whole run, until the first step was done)."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    command = [sys.executable, str(HERE / "peer.py"), "--corpus", str(corpus), "--config", json.dumps(config)]
    return _timed([*command, "--out", str(out), *options], out)


def train_ours(
    corpus: Path, config: dict[str, Any], out: Path, *options: str, keep_cache: bool = False
) -> tuple[Cost, Cost]:
    """Run speechtune from nothing: no index, no decoded audio; or, with `keep_cache`, with those of the run before."""
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
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
