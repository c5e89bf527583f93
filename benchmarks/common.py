"""Shared code of the benchmarks: clocks, clips, small models with the proportions of large ones, and results.

Both sides run in one process and alternate, on the same clips and the same number of steps; whole commands run in their
own processes and alternate. A ratio is the peer's cost divided by ours, per second of real audio. CPU seconds (children
included) decide, since they depend little on the machine's other load. Wall time is given too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLING_RATE = 16_000
MEAN_WORDS = ("ada", "bora", "cevap", "deniz", "elma", "fener", "gemi", "hava", "irmak", "kalem", "liman", "masal")
LETTERS_PER_S = 10


@dataclass
class Result:
    """One line of the table.

    Args:
        goal: C1 to C9.
        what: short description of the comparison.
        target: lowest ratio; with another `unit` than "x", the highest value.
        cpu, wall: one value per round: ratios peer / ours, or values of ours.
        worse: what got worse for it; empty where nothing did.
        note: how it was measured, where that needs saying.
    """

    goal: str
    what: str
    target: float
    cpu: list[float]
    wall: list[float]
    unit: str = "x"
    worse: str = ""
    note: str = ""

    @property
    def met(self) -> bool:
        median = statistics.median(self.cpu or self.wall)
        return median >= self.target if self.unit == "x" else median <= self.target


@dataclass
class Cost:
    """Cost of a side: CPU and wall seconds, and the audio processed."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    audio_s: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.cpu_s + other.cpu_s, self.wall_s + other.wall_s, self.audio_s + other.audio_s)


@dataclass
class Rounds:
    """Costs of the sides, round by round."""

    costs: dict[str, list[Cost]] = field(default_factory=dict)
    memory_mb: dict[str, float] = field(default_factory=dict)

    def add(self, side: str, cost: Cost) -> None:
        self.costs.setdefault(side, []).append(cost)

    def ratios(self, ours: str, peer: str) -> tuple[list[float], list[float]]:
        """Return the peer's cost per audio second divided by ours, per round, by CPU and by wall time."""
        pairs = list(zip(self.costs[ours], self.costs[peer], strict=True))
        cpu = [(p.cpu_s / p.audio_s) / (o.cpu_s / o.audio_s) for o, p in pairs]
        wall = [(p.wall_s / p.audio_s) / (o.wall_s / o.audio_s) for o, p in pairs]
        return cpu, wall


def cost_of(work: Callable[[], Any], *, audio_s: float = 1.0) -> Cost:
    """Run `work`; return its cost, children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    work()
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    children_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Cost(cpu_s + children_s, wall_s, audio_s)


def run_command(command: Sequence[str], *, cwd: Path | None = None, expect: int | None = 0, **env: str) -> str:
    """Run a command on one thread and return its output.

    Raises:
        RuntimeError: it failed; the end of its output is in the message.
    """
    here = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", **env}
    here.setdefault("TOKENIZERS_PARALLELISM", "false")
    done = subprocess.run(command, cwd=cwd, env=here, capture_output=True, text=True, check=False)
    if expect is not None and done.returncode != expect:
        raise RuntimeError(f"{' '.join(command[:6])}: exit {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout + done.stderr


def one_thread() -> None:
    """Use one thread for torch's kernels, so that costs are comparable on a shared machine."""
    import torch

    torch.set_num_threads(1)


# ---- clips


def lengths_like(corpus: str, num_clips: int, *, seed: int = 0) -> NDArray[np.float64]:
    """Return clip lengths in s, (num_clips,): "cv" (Common Voice: mean 5, sd 2), "ls" (LibriSpeech: mean 12.5)."""
    random = np.random.default_rng(seed)
    if corpus == "cv":
        return np.clip(random.normal(5.0, 2.0, num_clips), 1.5, 12.0)
    assert corpus == "ls", corpus
    return 17.0 * np.clip(random.beta(3.2, 1.15, num_clips), 0.1, 1.0)


def noise(duration_s: float, *, seed: int = 0, sampling_rate: int = SAMPLING_RATE) -> NDArray[np.float32]:
    """Return a tone in noise, (num_samples,) float32."""
    random = np.random.default_rng(seed)
    t_s = np.arange(int(duration_s * sampling_rate)) / sampling_rate
    tone = 0.3 * np.sin(2 * np.pi * random.uniform(120, 400) * t_s)
    return (tone + 0.05 * random.standard_normal(len(t_s))).astype(np.float32)


def sentence(duration_s: float, *, seed: int = 0) -> str:
    """Return as many words as are usually spoken in that time."""
    random = np.random.default_rng(seed)
    words: list[str] = []
    while sum(map(len, words)) + len(words) < duration_s * LETTERS_PER_S * 0.8:
        words.append(str(random.choice(MEAN_WORDS)))
    return " ".join(words) or MEAN_WORDS[0]


def write_corpus(
    folder: Path,
    durations_s: Sequence[float],
    *,
    eval_clips: int = 8,
    suffix: str = ".mp3",
    distinct: int | None = None,
) -> Path:
    """Write a Common Voice release of one language in Mozilla's layout (48 kHz MP3, TSV files); return its folder.

    Args:
        eval_clips: clips of the test split, as long as the first training clips, with other speakers and texts; dev has
            the same.
        distinct: number of different recordings; the others are hard links to them under new names.
    """
    import soundfile

    clips = folder / "cv-corpus-6.1-2020-12-11" / "tr" / "clips"
    clips.mkdir(parents=True)
    distinct = min(distinct or len(durations_s), len(durations_s))
    header = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent\tlocale\tsegment\n"

    def write(i: int, duration_s: float, *, first: int, speakers: str) -> str:
        """Write clip `first + i` or, beyond the distinct ones, a link; return its row."""
        path = clips / f"common_voice_tr_{first + i:07d}{suffix}"
        seed = first + i % distinct
        if i < distinct:
            sampling_rate = 48_000 if suffix == ".mp3" else SAMPLING_RATE
            soundfile.write(path, noise(duration_s, seed=seed, sampling_rate=sampling_rate), sampling_rate)
        else:
            os.link(clips / f"common_voice_tr_{seed:07d}{suffix}", path)
        text = sentence(durations_s[i % distinct], seed=seed)
        return f"{speakers}{i % 97}\t{path.name}\t{text}\t2\t0\t\t\t\ttr\t\n"

    held_out = min(eval_clips, max(1, len(durations_s) // 2))
    rows = [write(i, duration_s, first=0, speakers="speaker") for i, duration_s in enumerate(durations_s)]
    new = [write(i, duration_s, first=10**6, speakers="new") for i, duration_s in enumerate(durations_s[:held_out])]
    for name, part in (("train", rows), ("dev", new), ("test", new), ("validated", [*rows, *new])):
        (clips.parent / f"{name}.tsv").write_text(header + "".join(part), "utf-8")
    for name in ("other", "invalidated"):
        (clips.parent / f"{name}.tsv").write_text(header, "utf-8")
    return clips.parent


# ---- models


def base_shaped(num_layers: int = 2, *, vocab_size: int = 32, **more: Any) -> dict[str, Any]:
    """Return wav2vec2-base with fewer of its 12 layers, its CNN and positional convolution narrowed in proportion.

    The gain of a precision depends on the proportions; the full model would take minutes per step here.
    """
    share = num_layers / 12
    return {
        "model_type": "wav2vec2",
        "num_hidden_layers": num_layers,
        "conv_dim": [max(16, int(512 * share**0.5) // 16 * 16)] * 7,
        "num_conv_pos_embeddings": max(8, int(128 * share) // 2 * 2),
        "vocab_size": vocab_size,
        "pad_token_id": 0,
        "mask_time_prob": 0.0,
        "layerdrop": 0.0,
        "ctc_loss_reduction": "mean",
        **dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0),
        "final_dropout": 0.0,
        **more,
    }


def tiny_ctc(**more: Any) -> dict[str, Any]:
    """Return a tiny CTC model, for measurements of everything else."""
    small = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "num_conv_pos_embedding_groups": 2}
    return base_shaped(1, **small, **{"conv_dim": [16] * 7, "num_conv_pos_embeddings": 8, **more})


def build_ctc(config: dict[str, Any], *, seed: int = 0) -> Any:
    """Build the model, with its CNN frozen as in the scripts."""
    import torch
    import transformers

    torch.manual_seed(seed)
    fields = {k: v for k, v in config.items() if k != "model_type"}
    model = transformers.AutoModelForCTC.from_config(
        transformers.AutoConfig.for_model(config["model_type"], **fields), attn_implementation="sdpa"
    )
    model.freeze_feature_encoder()
    return model.train()


def letter_tokenizer(folder: Path) -> Any:
    """Return a CTC tokenizer of lower-case letters."""
    from speechtune.models.ctc.tokenizer import ctc_tokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = {"[PAD]": 0, "|": 1, "[UNK]": 2, **{letter: i + 3 for i, letter in enumerate(letters)}}
    return ctc_tokenizer(vocabulary, folder, unk_token="[UNK]", pad_token="[PAD]", word_delimiter_token="|")


# ---- command line of each benchmark


def main(measure: Callable[[bool], list[Result]]) -> None:
    """Run a benchmark's command line: `--tiny` for a quick check, `--json FILE` for results of run_all.py."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results = measure(args.tiny)
    for result in results:
        print(line(result), file=sys.stderr if args.json else sys.stdout)
    if args.json:
        args.json.write_text(json.dumps([asdict(result) for result in results], indent=1), "utf-8")


def line(result: Result) -> str:
    """`C1 CTC step, ...: CPU 2.41 (2.30-2.52), wall 2.38 (2.2-2.6), goal >= 2.0, met`."""
    sign = ">=" if result.unit == "x" else "<="
    parts = [f"{name} {spread(values)}" for name, values in (("CPU", result.cpu), ("wall", result.wall)) if values]
    verdict = "met" if result.met else "NOT met"
    unit = "" if result.unit == "x" else f" {result.unit}"
    return f"{result.goal} {result.what}: {', '.join(parts)}{unit}, goal {sign} {result.target:g}, {verdict}"


def spread(values: Sequence[float]) -> str:
    """`median (min to max)`."""
    if not values:
        return ""
    digits = 3 if max(values) < 1 else 2 if max(values) < 30 else 0
    low, middle, high = min(values), statistics.median(values), max(values)
    if len(values) == 1:
        return f"{middle:.{digits}f}"
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
