"""A step whose loss or gradient is not finite is counted, and the utterances that caused it are named."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from speechtune.training.non_finite import MAX_IN_A_ROW, BadSteps
from speechtune.types import Utterance

GOOD, BAD = torch.tensor(True), torch.tensor(False)


def utterances(*names: str) -> list[Utterance]:
    return [Utterance(name, "", "", "", 1.0, f"{name}.wav") for name in names]


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def steps(rows: list[dict[str, Any]]) -> BadSteps:
    return BadSteps(rows.append)


def one_step(steps: BadSteps, number: int, finite: torch.Tensor, *, keep: int = 0) -> None:
    steps.add(utterances("a"), torch.tensor([1.0]))
    steps.end_step(number, finite)
    steps.check(keep=keep)


def test_the_utterances_of_a_loss_that_is_not_finite_are_named(steps: BadSteps, rows: list[dict[str, Any]]):
    steps.add(utterances("a", "b"), torch.tensor([1.0, math.nan]))
    steps.add(utterances("ç", "d"), torch.tensor([math.inf, -math.inf], dtype=torch.float16))
    steps.end_step(7, BAD)
    steps.check(keep=0)
    (row,) = rows
    assert (row["step"], row["non_finite"], row["all_ids"]) == (7, "loss", ["a", "b", "ç", "d"])
    assert [(said["id"], said["file"], said["loss"]) for said in row["utterances"]] == [
        ("b", "b.wav", "nan"),
        ("ç", "ç.wav", "inf"),
        ("d", "d.wav", "-inf"),
    ]


def test_finite_losses_mean_that_the_gradient_was_not(steps: BadSteps, rows: list[dict[str, Any]]):
    steps.add(utterances("a", "b"), torch.tensor([1.0, 2.0]))
    steps.end_step(1, BAD)
    steps.check(keep=0)
    assert rows == [{"step": 1, "non_finite": "gradient", "utterances": [], "all_ids": ["a", "b"]}]


def test_a_step_without_an_utterance_can_be_bad_too(steps: BadSteps, rows: list[dict[str, Any]]):
    steps.add([], torch.tensor([0.0]))  # the stand-in of silence
    steps.end_step(1, BAD)
    steps.check(keep=0)
    assert rows[0]["all_ids"] == [] and steps.count == 1


def test_utterances_belong_to_the_step_they_were_seen_in(steps: BadSteps, rows: list[dict[str, Any]]):
    steps.add(utterances("a"), torch.tensor([math.nan]))
    assert [said.id for said in steps.utterances] == ["a"]
    steps.end_step(1, BAD)
    assert steps.utterances == []
    steps.add(utterances("b"), torch.tensor([math.nan]))
    steps.end_step(2, BAD)
    steps.check(keep=0)
    assert [(row["step"], row["all_ids"]) for row in rows] == [(1, ["a"]), (2, ["b"])]


def test_the_last_steps_wait_for_their_verdict(steps: BadSteps, rows: list[dict[str, Any]]):
    for number in range(1, 4):
        one_step(steps, number, BAD, keep=1)
        assert [row["step"] for row in rows] == list(range(1, number))
    steps.check(keep=0)
    assert [row["step"] for row in rows] == [1, 2, 3] and steps.count == 3
    steps.check(keep=0)
    assert len(rows) == 3


def test_good_steps_are_not_reported(steps: BadSteps, rows: list[dict[str, Any]]):
    one_step(steps, 1, GOOD)
    assert rows == [] and (steps.count, steps.in_a_row, steps.too_many) == (0, 0, False)


def test_only_bad_steps_in_a_row_are_too_many(steps: BadSteps):
    for number in range(MAX_IN_A_ROW - 1):
        one_step(steps, number, BAD)
    assert not steps.too_many
    one_step(steps, 100, GOOD)
    assert (steps.count, steps.in_a_row) == (MAX_IN_A_ROW - 1, 0)
    for number in range(MAX_IN_A_ROW):
        assert not steps.too_many
        one_step(steps, number, BAD)
    assert steps.too_many and steps.count == 2 * MAX_IN_A_ROW - 1


def test_losses_are_kept_without_their_graph(steps: BadSteps):
    weight = torch.ones(2, requires_grad=True)
    steps.add(utterances("a", "b"), weight * 2)
    steps.end_step(1, GOOD)
    assert not steps._pending[0].losses[0].requires_grad
