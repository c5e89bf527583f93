"""Freeze weights by their names: `--freeze "encoder.layers.[0-11]"`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from speechtune.errors import OptionError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["freeze_by_name"]

_RANGE = re.compile(r"\[(\d+)-(\d+)\]")


def freeze_by_name(model: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze every weight that a pattern names, in place.

    Args:
        patterns: one or more adjacent parts of a name, joined by dots: "encoder.layers.[0-11]", "lm_head", "fc*".
            `[a-b]` is any number from a to b, `*` anything within a part.

    Raises:
        OptionError: a pattern names nothing, or nothing is left to train.
    """
    parameters = dict(model.named_parameters())
    for pattern in patterns:
        found = [name for name in parameters if _names(pattern.split("."), name.split("."))]
        if not found:
            raise OptionError(f"--freeze {pattern}: no weight has such a name. Close: {_closest(pattern, parameters)}.")
        for name in found:
            parameters[name].requires_grad = False
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise OptionError(f"--freeze {' '.join(patterns)}: nothing is left to train. Freeze less.")


def _names(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    """Return whether a run of `parts` is what the parts of the pattern say."""
    runs = (parts[start : start + len(pattern)] for start in range(len(parts) - len(pattern) + 1))
    return any(all(map(_fits, pattern, run)) for run in runs)


def _fits(pattern: str, part: str) -> bool:
    bounds = _RANGE.fullmatch(pattern)
    if bounds is None:
        return fnmatchcase(part, pattern)
    return part.isdigit() and int(bounds[1]) <= int(part) <= int(bounds[2])


def _closest(pattern: str, names: Iterable[str]) -> str:
    """Return the names most like a pattern, as patterns themselves: numbers are joined into a range."""
    numbers: dict[str, set[int]] = {}  # "encoder.layers.#" -> its numbers
    for name in names:
        parts = name.split(".")
        for start in range(len(parts)):
            for end in range(start + 1, len(parts) + 1):
                run = parts[start:end]
                joined = ".".join("#" if part.isdigit() else part for part in run)
                numbers.setdefault(joined, set()).update(int(part) for part in run if part.isdigit())
    wanted = re.sub(r"\d+", "#", _RANGE.sub("#", pattern))
    close = difflib.get_close_matches(wanted, numbers, n=4, cutoff=0.5)
    close = close or sorted({name.partition(".")[0] for name in names})
    return ", ".join(
        name.replace("#", f"[{min(numbers[name])}-{max(numbers[name])}]") if numbers[name] else name for name in close
    )
