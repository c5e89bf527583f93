"""Does the learning depend on luck? The same recipe over several seeds, in ways that differ in one decision.

    python benchmarks/learning.py recipes/digits.yaml --dataset_name path/to/fsdd --seeds 5 --output digits.json

Each run is a whole `speechtune train` in its own process, scored on the test split after every epoch. Seeds are the
outer loop, so an interrupted measurement has the same seeds of every way; finished runs are not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

WAYS = {"log prior": (), "random head": (), "log prior, random order": ("--train_sampling_strategy", "random")}


def train(way: str, words: list[str]) -> int:
    """Run one training in this process."""
    from speechtune.cli.main import main
    from speechtune.models.ctc import setup

    if way == "random head":
        setup.start_from_prior = lambda *_, **__: None
    return main(["train", *words])


def measure(way: str, seed: int, words: list[str]) -> dict[str, Any]:
    """Train in a new process; return the scores of each epoch and at the end."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*words, "--seed", str(seed), "--eval_strategy", "epoch", "--output_dir", folder, *WAYS[way]]
        subprocess.run([sys.executable, __file__, "--one", way, *command], check=True, stdout=subprocess.DEVNULL)
        history = json.loads((Path(folder) / "trainer_state.json").read_text("utf-8"))["log_history"]
        final = json.loads((Path(folder) / "eval_results.json").read_text("utf-8"))
    return {
        "way": way,
        "seed": seed,
        "wer": final["eval_wer"],
        "cer": final["eval_cer"],
        "wer_by_step": {row["step"]: row["eval_wer"] for row in history if "eval_wer" in row},
        "loss_by_step": {row["step"]: row["loss"] for row in history if "loss" in row},
    }


def table(runs: list[dict[str, Any]]) -> str:
    """Return the Markdown table of means and single seeds."""
    lines = ["| way | final WER: mean | of each seed | CER: mean |", "|---|---|---|---|"]
    for way in dict.fromkeys(run["way"] for run in runs):
        wers, cers = ([100 * run[name] for run in runs if run["way"] == way] for name in ("wer", "cer"))
        each = ", ".join(f"{wer:.1f}" for wer in wers)
        lines.append(f"| {way} | {statistics.mean(wers):.1f} % | {each} | {statistics.mean(cers):.1f} % |")
    return "\n".join(lines)


def main() -> int:
    if sys.argv[1:2] == ["--one"]:
        return train(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--output", type=Path, required=True, help="JSON; extended where it exists")
    arguments, words = parser.parse_known_args()
    runs = json.loads(arguments.output.read_text("utf-8")) if arguments.output.exists() else []
    for seed in range(1, arguments.seeds + 1):
        for way in arguments.ways:
            if not any(run["way"] == way and run["seed"] == seed for run in runs):
                runs.append(measure(way, seed, words))
                arguments.output.write_text(json.dumps(runs, indent=1), "utf-8")
                print(way, seed, runs[-1]["wer"], flush=True)
    print(table(runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
