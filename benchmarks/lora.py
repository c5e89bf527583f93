"""Low-rank updates (`--lora`) against training all weights: error rate, time, memory and disk, by seed.

    python benchmarks/lora.py MODEL CORPUS --language tr --seeds 1 2 3 --train "--num_train_epochs 4 ..."

Each run is a process of its own, whose peak memory the system reports: imports, training and evaluation.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

WAYS = {
    "all weights, 2e-5": "--learning_rate 2e-5",
    "LoRA, 5e-4": "--lora --learning_rate 5e-4",
    "LoRA, 2e-4": "--lora --learning_rate 2e-4",
    "LoRA, 1e-3": "--lora --learning_rate 1e-3",
    "all weights, 5e-5": "--learning_rate 5e-5",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("corpus")
    parser.add_argument("--language")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--train", default="", help="more options of speechtune train")
    options = parser.parse_args()
    for seed in options.seeds:
        for way in options.ways:
            with tempfile.TemporaryDirectory() as folder:
                row = train(Path(folder), way, seed, options)
            print(json.dumps({"way": way, "seed": seed, **row}), flush=True)


def train(folder: Path, way: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train once; return scores, seconds, peak memory and the size of the trained folder's weights."""
    language = ["--dataset_config_name", options.language] if options.language else []
    command = [sys.executable, "-m", "speechtune", "train", "--model_name_or_path", options.model]
    command += ["--dataset_name", options.corpus, *language, "--output_dir", str(folder / "out"), "--seed", str(seed)]
    words = [*shlex.split(WAYS[way]), *shlex.split(options.train)]
    process = subprocess.Popen([*command, *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{way}, seed {seed}: exit code {os.waitstatus_to_exitcode(status)}")
    results = json.loads((folder / "out/eval_results.json").read_text("utf-8"))
    trained = json.loads((folder / "out/train_results.json").read_text("utf-8"))
    weights = sum(path.stat().st_size for path in (folder / "out").glob("*.safetensors"))
    return {
        "wer": round(results["eval_wer"], 4),
        "cer": round(results["eval_cer"], 4),
        "train_loss": round(trained["train_loss"], 4),
        "train_s": round(trained["train_runtime"], 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_gb": round(usage.ru_maxrss * 1024 / 1e9, 2),
        "weights_mb": round(weights / 1e6, 1),
    }


if __name__ == "__main__":
    main()
