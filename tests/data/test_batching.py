"""The plan of an epoch: every utterance once, the same for all, the same again after an interruption."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechtune.data.batching import BatchSettings, EpochPart, plan_epoch, split_step, with_total

DURATIONS_S = np.random.default_rng(0).lognormal(1.4, 0.4, 500)


def rows_of(steps):
    return sorted(row for step in steps for row in step.tolist())


@pytest.mark.parametrize("order", ["bucketed", "random", "sequential"])
@pytest.mark.parametrize("size", [{"utterances_per_step": 32}, {"seconds_per_step": 120.0}])
def test_an_epoch_has_every_utterance_once(order, size):
    assert rows_of(plan_epoch(DURATIONS_S, BatchSettings(order=order, **size), epoch=3)) == list(range(500))


@pytest.mark.parametrize("size", [{"utterances_per_step": 32}, {"seconds_per_step": 120.0}])
def test_the_number_of_steps_does_not_depend_on_the_epoch(size):
    lengths = {len(plan_epoch(DURATIONS_S, BatchSettings(**size), epoch=epoch)) for epoch in range(20)}
    assert len(lengths) == 1


def test_epochs_differ_and_the_same_epoch_is_the_same():
    batches = BatchSettings(utterances_per_step=16)
    first, again = plan_epoch(DURATIONS_S, batches, epoch=0), plan_epoch(DURATIONS_S, batches, epoch=0)
    other = plan_epoch(DURATIONS_S, batches, epoch=1)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any(set(a.tolist()) != set(b.tolist()) for a, b in zip(first, other, strict=True))


def test_a_step_of_seconds_stays_in_its_budget_when_padded():
    steps = plan_epoch(DURATIONS_S, BatchSettings(seconds_per_step=100.0), epoch=2)
    assert max(len(step) * DURATIONS_S[step].max() for step in steps) <= 100.0


def test_buckets_pad_a_tenth_of_what_random_batches_do():
    def padding(order):
        steps = plan_epoch(np.tile(DURATIONS_S, 8), BatchSettings(utterances_per_step=16, order=order), epoch=0)
        padded = sum(len(step) * np.tile(DURATIONS_S, 8)[step].max() for step in steps)
        return 1 - np.tile(DURATIONS_S, 8).sum() / padded

    assert padding("random") > 0.35
    assert padding("bucketed") < 0.05


def test_a_clip_longer_than_the_budget_gets_a_step_of_its_own():
    steps = plan_epoch(np.array([1.0, 50.0, 1.0]), BatchSettings(seconds_per_step=10.0), epoch=0)
    assert sorted(len(step) for step in steps) == [1, 2]


def test_unknown_durations_count_as_the_median():
    durations_s = np.array([1.0, np.nan, 3.0, 2.0])
    assert rows_of(plan_epoch(durations_s, BatchSettings(seconds_per_step=4.0), epoch=0)) == [0, 1, 2, 3]


@settings(max_examples=60, deadline=None)
@given(
    num=st.integers(1, 80),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    taken=st.lists(st.integers(0, 6), min_size=4, max_size=4),
    epoch=st.integers(0, 3),
)
def test_an_epoch_resumed_with_other_sizes_has_every_utterance_once(num, sizes, taken, epoch):
    durations_s = np.random.default_rng(num).uniform(1, 20, num)
    done, trained = [], []
    for size, num_steps in zip(sizes, taken, strict=False):
        batches = BatchSettings(utterances_per_step=size)
        steps = plan_epoch(durations_s, batches, epoch=epoch, done=done)[:num_steps]
        trained += rows_of(steps)
        done.append(EpochPart(batches, len(steps)))
    rest = rows_of(plan_epoch(durations_s, BatchSettings(seconds_per_step=40.0), epoch=epoch, done=done))
    assert sorted(trained + rest) == list(range(num))


def test_a_part_survives_its_json():
    part = EpochPart(BatchSettings(seconds_per_step=12.5, order="random", seed=3), 7)
    assert EpochPart.from_json(part.as_json()) == part


def test_one_process_and_two_see_the_same_steps():
    one = with_total(BatchSettings(utterances_per_step=16), num_parts=1)
    two = with_total(BatchSettings(utterances_per_step=8), num_parts=2)
    assert one == two


@pytest.mark.parametrize("num_parts", [1, 2, 3, 8])
def test_a_step_is_shared_out_whole_and_evenly(num_parts):
    parts = split_step(np.arange(100, 117), DURATIONS_S, num_parts=num_parts)
    assert len(parts) == num_parts
    assert rows_of(parts) == list(range(100, 117))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_short_last_step_leaves_parts_empty():
    assert [len(part) for part in split_step(np.array([4]), DURATIONS_S, num_parts=3)] == [1, 0, 0]
