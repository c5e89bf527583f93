"""Steps whose loss or gradient is not finite: skipped and counted, and the utterances that caused them are named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from speechtune.distributed import gathered
from speechtune.types import Utterance

__all__ = ["MAX_IN_A_ROW", "BadSteps"]

MAX_IN_A_ROW = 20


@dataclass(frozen=True, slots=True)
class _Step:
    number: int
    utterances: list[Utterance]
    losses: list[torch.Tensor]  # one a forward pass, (B,) each
    finite: torch.Tensor  # ()


class BadSteps:
    """Records the steps of a training.

    Args:
        on_bad_step: called on the first process with one JSON-able row for each bad step.
    """

    def __init__(self, on_bad_step: Callable[[dict[str, Any]], None]) -> None:
        self.on_bad_step = on_bad_step
        self.count = 0
        self.in_a_row = 0
        self.utterances: list[Utterance] = []  # of this process, in the current step
        self._losses: list[torch.Tensor] = []
        self._pending: list[_Step] = []

    @property
    def too_many(self) -> bool:
        """Whether so many steps in a row were bad that training is pointless."""
        return self.in_a_row >= MAX_IN_A_ROW

    def add(self, utterances: Sequence[Utterance], losses: torch.Tensor) -> None:
        """Add one forward pass of the current step: B utterances and their losses (B,)."""
        if utterances:
            self.utterances += utterances
            self._losses.append(losses.detach())

    def losses_finite(self) -> torch.Tensor:
        """Return whether all losses of the current step are finite on this process, ()."""
        if not self._losses:
            return torch.tensor(True)
        return torch.stack([torch.isfinite(losses).all() for losses in self._losses]).all()

    def end_step(self, number: int, finite: torch.Tensor) -> None:
        """End the current step; `finite` () is the same on all processes."""
        self._pending.append(_Step(number, self.utterances, self._losses, finite))
        self.utterances, self._losses = [], []

    def check(self, *, keep: int) -> None:
        """Check ended steps but the last `keep`: on a GPU, reading the result of the last one would wait for it."""
        while len(self._pending) > keep:
            step = self._pending.pop(0)
            if bool(step.finite):
                self.in_a_row = 0
                continue
            self.count += 1
            self.in_a_row += 1
            self._report(step)

    def _report(self, step: _Step) -> None:
        losses = torch.cat(step.losses).float().tolist() if step.losses else []
        ours = [
            {"id": said.id, "file": said.file, "loss": repr(loss)}
            for said, loss in zip(step.utterances, losses, strict=True)
            if loss - loss != 0
        ]
        parts = gathered((ours, [said.id for said in step.utterances]))
        culprits = [row for rows, _ in parts for row in rows]
        if torch.distributed.is_initialized() and torch.distributed.get_rank() > 0:
            return
        self.on_bad_step(
            {
                "step": step.number,
                "non_finite": "loss" if culprits else "gradient",
                "utterances": culprits,
                "all_ids": [name for _, names in parts for name in names],
            }
        )
