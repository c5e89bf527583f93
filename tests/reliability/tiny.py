"""A corpus of a dozen real recordings, a model of 20,000 parameters from random weights, and runs on them in this
process.

A run takes about a second. Dropout, layer drop and SpecAugment are on, so that equal weights mean equal random states.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

SAMPLING_RATE = 16_000
TEXTS = [
    "on yedi",
    "bir iki",
    "uc",
    "dort bes",
    "alti",
    "yedi sekiz",
    "dokuz",
    "on bir",
    "on iki",
    "elli",
    "yuz",
    "bin",
]
MODEL = {
    "model_type": "wav2vec2",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}
RANDOMNESS = ["--hidden_dropout", "0.1", "--layerdrop", "0.1", "--mask_time_prob", "0.1", "--mask_time_length", "2"]
CALM = ["--mask_time_prob", "0"]


def write_clip(
    path: Path,
    seconds: float,
    *,
    seed: int,
    format: str | None = None,
    sampling_rate: int = SAMPLING_RATE,
    subtype: str = "PCM_16",
) -> None:
    """A tone in noise, mono."""
    random = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * sampling_rate)) / sampling_rate
    samples = 0.3 * np.sin(2 * np.pi * (200 + 40 * seed) * time_s) + 0.02 * random.standard_normal(len(time_s))
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, sampling_rate, subtype=subtype, format=format)


def write_corpus(folder: Path, *, num_train: int = 12, num_test: int = 4) -> Path:
    """A folder with train.jsonl, test.jsonl and WAV files of 0.3 to 0.6 s."""
    for split, number in (("train", num_train), ("test", num_test)):
        rows = []
        for index in range(number):
            name = f"{split}/{index:03}.wav"
            write_clip(folder / name, 0.3 + 0.03 * (index % 11), seed=index)
            rows.append({"audio": name, "text": TEXTS[index % len(TEXTS)]})
        write_manifest(folder, split, rows)
    return folder


def write_manifest(folder: Path, split: str, rows: Sequence[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")


def read_manifest(folder: Path, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def words(corpus: Path, output: Path, *more: str, model: dict[str, Any] | None = None) -> list[str]:
    """The command line of a run: 2 epochs of 6 steps unless `more` says otherwise."""
    return [
        *("--model_config", json.dumps({**MODEL, **(model or {})})),
        *("--dataset_name", str(corpus), "--train_split_name", "train", "--output_dir", str(output)),
        *("--num_train_epochs", "2", "--per_device_train_batch_size", "2", "--learning_rate", "1e-3"),
        *("--save_steps", "2", "--logging_steps", "1", "--dataloader_num_workers", "0"),
        *("--precision", "fp32", "--use_cpu", "true", "--warmup_steps", "2"),
        *more,
    ]


def run(*argv: str, command: Any = "train") -> int:
    """Run a command line in this process; returns the exit code of the command."""
    from speechtune.options.parse import parse_options
    from speechtune.training.run import run as run_options

    return run_options(parse_options(argv, command=command))


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def assert_same_weights(left: Path, right: Path) -> None:
    """Equal to the bit."""
    ours, theirs = weights(left), weights(right)
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not bool((ours[name] == theirs[name]).all())]
    assert not different, f"{len(different)} of {len(ours)} tensors differ, e.g. {different[:3]}"


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:  # splitlines would split at U+2028
        return [json.loads(line) for line in lines]


def losses(folder: Path) -> list[float]:
    """Logged training losses, in order."""
    return [row["loss"] for row in read_json(folder / "trainer_state.json")["log_history"] if "loss" in row]
