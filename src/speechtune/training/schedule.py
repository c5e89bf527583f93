"""The learning rate of a resumed training: at the checkpoint's step, and scaled where the user gives another one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["advance_schedule", "change_rates"]

log = logging.getLogger("speechtune")


def advance_schedule(scheduler: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Bring the learning rate to that of `step`, which is all that is known of its schedule."""
    if not hasattr(scheduler, "lr_lambdas"):  # one that follows the evaluations
        return
    scheduler.last_epoch = step
    for group, base, factor in zip(optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
        group["lr"] = base * factor(step)
    scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]


def change_rates(scheduler: Any, optimizer: torch.optim.Optimizer, wanted: Sequence[float | None]) -> None:
    """Scale the learning rates of a loaded optimiser to those that were asked for today, one a group."""
    for number, (group, rate) in enumerate(zip(optimizer.param_groups, wanted, strict=True)):
        before = group.get("initial_lr")
        if rate and before and rate != before:
            log.info(f"learning rate: {rate:g} from here on, {before:g} before")
            group["initial_lr"], group["lr"] = rate, group["lr"] * rate / before
            scheduler.base_lrs[number] = rate
            scheduler._last_lr[number] = group["lr"]
