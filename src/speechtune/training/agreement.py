"""What the processes of a training have to know at the same step: that one was asked to stop, and what one skipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers import TrainingArguments

from speechtune.distributed import gathered
from speechtune.types import Skipped

__all__ = ["Agreement"]


class Agreement:
    """Shares two flags of each process with the all-reduce that a step needs anyway.

    Args:
        args: TrainingArguments.
        check_skipped: called on every process with all that was skipped so far, whenever that grows; may raise.
    """

    def __init__(self, args: TrainingArguments, check_skipped: Callable[[Sequence[Skipped]], None]) -> None:
        self.stop_requested = False  # by a signal to this process
        self.stop_agreed = False  # by all processes, at the same step
        self.skipped: dict[tuple[str, str, str], Skipped] = {}
        self._args, self._check_skipped = args, check_skipped
        self._flags: torch.Tensor | None = None  # of the last step: processes asked to stop, utterances skipped
        self._num_new = 0  # utterances skipped by this process that the others do not know of

    def add_skipped(self, rows: Sequence[Skipped]) -> None:
        """Add what this process could not use; the others are told at the next step."""
        for row in rows:
            self._num_new += row.key not in self.skipped
            self.skipped.setdefault(row.key, row)

    def share_skipped(self) -> None:
        """Make the rows that each process skipped known to all. Every process has to call it."""
        for rows in gathered(self.skipped):
            self.skipped.update(rows)
        self._num_new = 0
        self._check_skipped(list(self.skipped.values()))

    def total(self, count: float, device: torch.device) -> torch.Tensor:
        """Return the sum of `count` over all processes, at least 1; all of them then act on the flags.

        On a GPU, on those of the step before, which it has finished: reading them waits for nothing.
        """
        if self._args.world_size == 1:
            self.stop_agreed = self.stop_requested
            if self._num_new:
                self.share_skipped()
            return torch.tensor(max(count, 1.0), device=device)
        self.sync_flags()
        ours = torch.tensor([count, float(self.stop_requested), float(self._num_new)], device=device)
        self._num_new = 0
        torch.distributed.all_reduce(ours)
        self._flags = ours[1:]
        if not ours.is_cuda:
            self.sync_flags()
        return ours[0].clamp(min=1.0)

    def sync_flags(self) -> None:
        """Act on the flags that were exchanged and not read yet."""
        if self._flags is None:
            return
        num_stops, num_new = self._flags.tolist()
        self._flags = None
        self.stop_agreed |= num_stops > 0
        if num_new:
            self.share_skipped()

    def finish(self) -> None:
        """Share what happened in the last step."""
        self.stop_agreed = any(gathered(self.stop_requested)) or self.stop_agreed
        self.share_skipped()

    def stop_votes(self, num_batches: int) -> Callable[[], bool]:
        """Return a function to call before each batch of an evaluation: whether any process was asked to stop.

        Args:
            num_batches: of all processes.
        """
        if self._args.world_size == 1:
            return lambda: self.stop_requested
        rounds = iter(range(num_batches // self._args.world_size))  # a share may have a batch more than another

        def is_stopped() -> bool:
            if next(rounds, None) is None:
                return False
            num_stops = torch.tensor(float(self.stop_requested), device=self._args.device)
            torch.distributed.all_reduce(num_stops)
            return bool(num_stops > 0)

        return is_stopped
