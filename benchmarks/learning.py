"""Does the learning depend on luck? The same recipe over several seeds, in ways that differ in one decision.

    python benchmarks/learning.py recipes/digits.yaml --dataset_name path/to/fsdd --seeds 5 --output digits.json

Each run is a whole `speechtune train` in its own process, scored on the test split after every epoch. Seeds are the
outer loop, so an interrupted measurement has the same seeds of every way; finished runs are not repeated.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RANDOM_ORDER = ("--train_sampling_strategy", "random")
WAYS: dict[str, tuple[str, ...]] = {
    "log prior": (),
    "random head": (),
    "log prior, random order": RANDOM_ORDER,
    "log prior, wide buckets": (),
    "blank 0.5": (),
    "blank 0.9": (),
    "scale 0.03": (),
    "scale 0.3": (),
    "average of the last 3 epochs": ("--save_strategy", "epoch", "--save_only_model", "--average_checkpoints", "3"),
    "EMA 0.99": (),
    "layer-wise decay 0.9": (),
}


def train(way: str, words: list[str]) -> int:
    """Run one training in this process."""
    from speechtune.cli.main import main

    change(way, words)
    return main(["train", *words])


def change(way: str, words: list[str]) -> None:
    """Change the one decision in which a way differs, where no option does it."""
    from functools import partial

    from speechtune.data import batching
    from speechtune.models.ctc import head, setup

    if way == "random head":
        setup.start_from_prior = lambda *_, **__: None
    elif way == "log prior, wide buckets":
        batching.STEPS_PER_BUCKET = 10
    elif way.startswith("blank "):
        head.label_log_prior = partial(head.label_log_prior, blank_prior=float(way.split()[1]))
    elif way.startswith("scale "):
        head.WEIGHT_SCALE = float(way.split()[1])
    elif way.startswith("EMA "):
        end_with_ema(float(way.split()[1]))
    elif way.startswith("layer-wise decay "):
        slow_lower_layers(float(way.split()[2]))


def end_with_ema(decay: float) -> None:
    """After the last step the model gets the exponential moving average of its weights, which is then evaluated."""
    import torch
    from transformers import TrainerCallback

    from speechtune.training.trainer import SpeechTrainer

    class Average(TrainerCallback):
        weights: list[torch.Tensor] | None = None

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            new = [weight.detach() for weight in model.parameters() if weight.requires_grad]
            if self.weights is None:
                self.weights = [weight.clone() for weight in new]
            torch._foreach_lerp_(self.weights, new, 1 - decay)
            if state.global_step == state.max_steps:
                torch._foreach_copy_(new, self.weights)

    original = SpeechTrainer.train_from

    def train_from(self: Any, checkpoint: Path | None) -> dict[str, Any]:
        self.add_callback(Average())
        return original(self, checkpoint)

    SpeechTrainer.train_from = train_from  # type: ignore[method-assign]


def slow_lower_layers(decay: float) -> None:
    """Give each encoder layer the learning rate of the one above it times `decay`; what is below gets the lowest."""
    from speechtune.training.trainer import SpeechTrainer

    original = SpeechTrainer.create_optimizer

    def create_optimizer(self: Any, *args: Any) -> Any:
        optimizer = original(self, *args)
        names = {id(weight): name for name, weight in self.model.named_parameters()}
        num_layers = self.model.config.num_hidden_layers
        groups: dict[tuple[int, int], dict[str, Any]] = {}
        for i, group in enumerate(optimizer.param_groups):
            for weight in group["params"]:
                found = re.search(r"encoder\.layers\.(\d+)\.", names[id(weight)])
                is_above = "head" in names[id(weight)]
                depth = num_layers - int(found[1]) if found else 0 if is_above else num_layers + 1
                own = groups.setdefault((i, depth), {**group, "params": [], "lr": group["lr"] * decay**depth})
                own["params"].append(weight)
        optimizer.param_groups[:] = list(groups.values())
        return optimizer

    SpeechTrainer.create_optimizer = create_optimizer


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
    lines = [
        "| way | WER: mean | of each seed | CER: mean | of each seed | loss of steps 1 to 20 |",
        "|---|---|---|---|---|---|",
    ]
    for way in dict.fromkeys(run["way"] for run in runs):
        own = sorted((run for run in runs if run["way"] == way), key=lambda run: int(run["seed"]))
        cells = [way]
        for name in ("wer", "cer"):
            scores = [100 * run[name] for run in own]
            cells += [f"{statistics.mean(scores):.1f} %", ", ".join(f"{score:.1f}" for score in scores)]
        first = [statistics.mean(loss for step, loss in run["loss_by_step"].items() if int(step) <= 20) for run in own]
        lines.append("| " + " | ".join([*cells, f"{min(first):.1f} to {max(first):.1f}"]) + " |")
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
