"""Training steps of a CTC model, ours and the peer's, for C1, C2 and C3.

A step is forward, loss, backward, clipping and AdamW on 8 utterances (the Trainer's default). The peer pads random
batches (or those of transformers' own length-grouped sampler) and runs the unchanged model. Ours has speechtune's
buckets, padding invariance (masked norms and attention), loss and precision. Each side's steps are taken from its own
plan of an epoch of 2,000 clips, evenly over their lengths, and costs are per second of real audio.
"""

from __future__ import annotations

import functools
import multiprocessing
import resource
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from common import (
    LETTERS_PER_S,
    SAMPLING_RATE,
    Cost,
    Rounds,
    base_shaped,
    build_ctc,
    cost_of,
    lengths_like,
    letter_tokenizer,
    noise,
    one_thread,
    tiny_ctc,
)
from numpy.typing import NDArray

BATCH = 8
NUM_CLIPS = 2000
LEARNING_RATE = 1e-5


class _Side:
    """A model with its optimiser."""

    def __init__(self, config: dict[str, Any], *, precision: str) -> None:
        import torch

        self.model = build_ctc(config)
        self.optimizer = torch.optim.AdamW(
            [p for p in self.model.parameters() if p.requires_grad], lr=LEARNING_RATE, fused=True
        )
        self.bf16 = precision == "bf16"
        self.matmul = "highest"

    def step(self, batch: Any) -> None:
        import torch

        torch.set_float32_matmul_precision(self.matmul)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = self.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        assert torch.isfinite(loss)

    def loss(self, batch: Any) -> Any:
        raise NotImplementedError

    def batch(self, rows: Sequence[int], durations_s: NDArray[np.float64]) -> Any:
        raise NotImplementedError

    def plan(self, durations_s: NDArray[np.float64]) -> list[list[int]]:
        raise NotImplementedError


Sides = dict[str, tuple[type[_Side], dict[str, Any]]]


class Peer(_Side):
    """Random or length-grouped batches, padded by the feature extractor; no mask, as wav2vec2-base uses none."""

    def __init__(self, config: dict[str, Any], *, precision: str = "fp32", grouped: bool = False) -> None:
        super().__init__(config, precision=precision)
        from transformers import Wav2Vec2FeatureExtractor

        self.grouped = grouped
        self.extractor = Wav2Vec2FeatureExtractor(return_attention_mask=False)

    def plan(self, durations_s: NDArray[np.float64]) -> list[list[int]]:
        import torch
        from transformers.trainer_pt_utils import LengthGroupedSampler

        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(durations_s), generator=generator).tolist()
        if self.grouped:
            samples = (durations_s * SAMPLING_RATE).astype(int).tolist()
            order = list(LengthGroupedSampler(BATCH, lengths=samples, generator=generator))
        return [order[i : i + BATCH] for i in range(0, len(order) - BATCH + 1, BATCH)]

    def batch(self, rows: Sequence[int], durations_s: NDArray[np.float64]) -> Any:
        import torch

        values = [{"input_values": noise(durations_s[row], seed=row)} for row in rows]
        inputs = self.extractor.pad(values, padding=True, return_tensors="pt")
        labels = [torch.from_numpy(letters(durations_s[row], row)) for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
        return {"input_values": inputs["input_values"].float(), "labels": padded}

    def loss(self, batch: Any) -> Any:
        return self.model(**batch).loss


class Ours(_Side):
    """Buckets, invariant padding, the machine's matrix products."""

    def __init__(self, config: dict[str, Any], *, precision: str = "fp32") -> None:
        super().__init__(config, precision=precision)
        from transformers import Wav2Vec2FeatureExtractor

        from speechtune.models.ctc.recogniser import CtcRecogniser
        from speechtune.models.encoder.attention import use_own_attention
        from speechtune.models.encoder.padding import make_padding_invariant
        from speechtune.models.inputs import input_for
        from speechtune.plan.hardware import choose_precision

        make_padding_invariant(self.model)
        chosen = choose_precision(precision, use_cpu=True)
        chosen.apply()
        self.matmul = chosen.matmul
        use_own_attention(self.model)
        with tempfile.TemporaryDirectory() as folder:
            tokenizer = letter_tokenizer(Path(folder))
        self.recogniser = CtcRecogniser(
            self.model,
            tokenizer=tokenizer,
            model_input=input_for(Wav2Vec2FeatureExtractor(return_attention_mask=False)),
        )

    def plan(self, durations_s: NDArray[np.float64]) -> list[list[int]]:
        from speechtune.data.batching import BatchSettings, plan_epoch

        steps = plan_epoch(durations_s, BatchSettings(utterances_per_step=BATCH), epoch=0)
        return [step.tolist() for step in steps if len(step) == BATCH]

    def batch(self, rows: Sequence[int], durations_s: NDArray[np.float64]) -> Any:
        import torch

        from speechtune.data.dataset import _pad_labels
        from speechtune.models.batch import Batch

        model_input = self.recogniser.model_input
        features = [model_input.features(noise(durations_s[row], seed=row)) for row in rows]
        labels = [letters(durations_s[row], row) for row in rows]
        return Batch(
            utterances=[None] * len(rows),  # type: ignore[list-item]
            texts=[],
            rows=list(rows),
            inputs={name: torch.from_numpy(value) for name, value in model_input.pad(features).items()},
            labels=torch.from_numpy(_pad_labels(labels)),
            label_lengths=[len(row) for row in labels],
            input_lengths=[len(row) for row in features],
            seconds=float(durations_s[list(rows)].sum()),
        )

    def loss(self, batch: Any) -> Any:
        return self.recogniser.losses(self.model, batch).sum() / len(batch)


def letters(duration_s: float, seed: int) -> NDArray[np.int64]:
    """Return the labels of a clip, (L,)."""
    return np.random.default_rng(seed).integers(3, 29, int(duration_s * LETTERS_PER_S))


def compare(sides: Sides, corpus: str, *, rounds: int, steps: int, scale: float = 1.0) -> Rounds:
    """Alternate the sides step by step, in `rounds` of `steps` steps; each side in its own process.

    Args:
        sides: name -> Peer or Ours, and its arguments.
        corpus: "cv" or "ls".
        scale: of all lengths (tests).
    """
    context = multiprocessing.get_context("spawn")
    pipes, workers = {}, {}
    for name, (side, options) in sides.items():
        pipes[name], theirs = context.Pipe()
        job = (theirs, side, options, corpus, rounds * steps, scale)
        workers[name] = context.Process(target=_worker, args=job, daemon=True)
        workers[name].start()
        theirs.close()
    measured = Rounds()
    for pipe in pipes.values():
        assert pipe.recv() == "warm"
    for number in range(rounds):
        sums = {name: Cost() for name in sides}
        for i in range(steps):
            for name, pipe in pipes.items():
                pipe.send(number * steps + i)
                sums[name] += pipe.recv()
        for name, cost in sums.items():
            measured.add(name, cost)
    for name, pipe in pipes.items():
        pipe.send(None)
        measured.memory_mb[name] = pipe.recv()
        workers[name].join()
    return measured


def _worker(
    pipe: Any, side_class: type[_Side], options: dict[str, Any], corpus: str, num_steps: int, scale: float
) -> None:
    one_thread()
    side = side_class(**options)
    durations_s = lengths_like(corpus, NUM_CLIPS) * scale
    plan = _spread_over_lengths(side.plan(durations_s), durations_s, num_steps)
    # In a run of thousands of steps the longest batch occurs early.
    by_length = sorted(plan, key=lambda rows: float(durations_s[rows].max()))
    for rows in (by_length[-1], by_length[0]):
        side.step(side.batch(rows, durations_s))
    pipe.send("warm")
    while (number := pipe.recv()) is not None:
        rows = plan[number]
        batch = side.batch(rows, durations_s)
        pipe.send(cost_of(functools.partial(side.step, batch), audio_s=float(durations_s[rows].sum())))
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


def _spread_over_lengths(plan: list[list[int]], durations_s: NDArray[np.float64], num_steps: int) -> list[list[int]]:
    """Return `num_steps` steps evenly from the shortest to the longest, with the same mix in each round."""
    by_length = sorted(plan, key=lambda rows: float(durations_s[rows].sum()))
    places = (np.arange(num_steps) + 0.5) * len(by_length) / num_steps
    chosen = [by_length[int(place)] for place in places]
    # Shortest with longest, and so on: each pair has about the same duration.
    pairs = [
        chosen[i : i + 1] + chosen[num_steps - 1 - i : num_steps - i][: num_steps - 2 * i - 1]
        for i in range((num_steps + 1) // 2)
    ]
    order = np.random.default_rng(0).permutation(len(pairs))
    return [step for i in order for step in pairs[i]]


def memory_worse(measured: Rounds, ours: str, peer: str) -> str:
    """Return a note if ours takes more memory, else an empty string."""
    mb, peer_mb = measured.memory_mb[ours], measured.memory_mb[peer]
    return f"peak memory {mb:,.0f} MB against {peer_mb:,.0f} MB" if mb > peer_mb else ""


def model_config(tiny: bool) -> dict[str, Any]:
    return tiny_ctc() if tiny else base_shaped()


def padding_share(side: type[_Side], corpus: str, *, grouped: bool = False) -> float:
    """Return the share of padding in an epoch of a side's batches."""
    durations_s = lengths_like(corpus, NUM_CLIPS)
    plan = side.plan(SimpleNamespace(grouped=grouped), durations_s)  # type: ignore[arg-type]
    padded = sum(len(rows) * durations_s[rows].max() for rows in plan)
    return 1 - float(sum(durations_s[rows].sum() for rows in plan)) / float(padded)
