"""What the options of training make of a plan: the order of the training utterances."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from reliability.tiny import write_corpus

from speechtune.data.batching import plan_epoch
from speechtune.options.parse import parse_options
from speechtune.plan.resolve import resolve
from speechtune.training.build import batch_settings

DURATIONS_S = np.random.default_rng(0).permutation(np.linspace(1.0, 20.0, 96))
BATCH = 8


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), num_train=3, num_test=2)


def epochs(corpus: Path, *words: str) -> list[list[list[int]]]:
    """The rows of every step, of two epochs."""
    argv = ["--model_config", '{"model_type": "wav2vec2"}', "--dataset_name", str(corpus)]
    plan = resolve(parse_options([*argv, "--output_dir", str(corpus.parent / "out"), *words]))
    args: Any = SimpleNamespace(per_device_train_batch_size=BATCH, seed=1)
    settings = batch_settings(plan, None, SimpleNamespace(train=None), args)  # type: ignore[arg-type]
    return [[step.tolist() for step in plan_epoch(DURATIONS_S, settings, epoch=epoch)] for epoch in (0, 1)]


def longest_over_shortest(steps: list[list[int]]) -> float:
    """Mean over steps: how unequal in length the utterances are that are trained together."""
    return float(np.mean([DURATIONS_S[step].max() / DURATIONS_S[step].min() for step in steps]))


def test_sequential_is_the_order_of_the_corpus_in_every_epoch(corpus: Path):
    first, second = epochs(corpus, "--train_sampling_strategy", "sequential")
    assert first == second == np.arange(96).reshape(-1, BATCH).tolist()


def test_random_mixes_lengths_and_differs_between_epochs(corpus: Path):
    first, second = epochs(corpus, "--train_sampling_strategy", "random")
    assert first != second and longest_over_shortest(first) > 3.0
    assert sorted(chain.from_iterable(first)) == list(range(96))


def test_group_by_length_puts_similar_lengths_together_and_is_the_default(corpus: Path):
    grouped = epochs(corpus, "--train_sampling_strategy", "group_by_length")
    assert grouped == epochs(corpus) and grouped[0] != grouped[1]
    assert longest_over_shortest(grouped[0]) < 0.7 * longest_over_shortest(
        epochs(corpus, "--train_sampling_strategy", "random")[0]
    )
    assert sorted(chain.from_iterable(grouped[0])) == list(range(96))
