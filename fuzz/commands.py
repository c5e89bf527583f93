"""Short runs of the real commands on a corpus."""

from __future__ import annotations

from pathlib import Path
from random import Random

from reliability.tiny import words

from fuzz.case import Place
from fuzz.material import CTC

__all__ = ["any_command", "evaluate", "train"]

SHORT = ("--num_train_epochs", "1", "--per_device_train_batch_size", "8", "--save_strategy", "no", "--max_skipped", "1")
CPU = ("--precision", "fp32", "--use_cpu", "true", "--dataloader_num_workers", "0")


def train(corpus: Path | str, place: Place, *more: str) -> list[str]:
    """One epoch from random weights, then the evaluation."""
    return ["train", *words(Path(corpus), place.output, *SHORT, *more)]


def evaluate(corpus: Path | str, place: Place, *more: str, model: Path | None = None) -> list[str]:
    model = model or place.material / CTC
    given = ["--model_name_or_path", str(model), "--dataset_name", str(corpus), "--output_dir", str(place.output)]
    return ["evaluate", *given, *CPU, "--max_skipped", "1", *more]


def any_command(corpus: Path | str, place: Place, rng: Random, *more: str) -> list[str]:
    """One of the commands that read a corpus."""
    name = rng.choice(("train", "evaluate", "doctor", "plan", "vocab"))
    if name in ("train", "plan"):
        return [name, *train(corpus, place, *more)[1:]]
    if name == "evaluate":
        return evaluate(corpus, place, *more)
    given = [name, "--dataset_name", str(corpus), "--output_dir", str(place.output), *more]
    return given if name == "doctor" else [*given, "--train_split_name", "train"]
