"""What `--lora` asks for: `--lora`, or `--lora r=16,alpha=32,targets=q_proj+v_proj,dora`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from speechtune.errors import OptionError

__all__ = ["LEARNING_RATE", "Lora", "read_lora"]

LEARNING_RATE = 5e-4  # where the user gives none; transformers' own, 5e-5, is for training all weights
_EXPECTED = "expected any of r=32, alpha=64, targets=auto and dora, joined by commas"
_TARGET = re.compile(r"[A-Za-z_][\w.]*")


@dataclass(frozen=True, slots=True)
class Lora:
    """Low-rank updates of linear layers.

    Args:
        r: rank of the update.
        alpha: the update is scaled by alpha / r.
        targets: the last parts of the layers' names; empty: all linear layers of encoder and decoder.
        dora: train a magnitude for each output beside the direction.

    Sources: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models"; Liu et al. 2024, "DoRA:
    Weight-Decomposed Low-Rank Adaptation".
    """

    r: int = 32
    alpha: int = 64
    targets: tuple[str, ...] = ()
    dora: bool = False

    def __str__(self) -> str:
        targets = "+".join(self.targets) or "auto"
        return f"r={self.r},alpha={self.alpha},targets={targets}" + (",dora" if self.dora else "")


def read_lora(given: bool | str) -> Lora | None:
    """Return what was asked for, or None. `alpha` is twice the rank where only the rank is given.

    Raises:
        OptionError: it is not what `--lora` takes.
    """
    if not given:
        return None
    parts = {} if given is True else dict(_part(word.strip()) for word in given.split(","))
    r = _number("r", parts.get("r", "32"))
    targets = parts.get("targets", "auto").split("+")
    wrong = next((name for name in targets if not _TARGET.fullmatch(name)), None)
    if wrong is not None:
        raise OptionError(f"--lora: targets are names of layers joined by +, such as q_proj+v_proj; found {wrong!r}")
    return Lora(
        r=r,
        alpha=_number("alpha", parts.get("alpha", str(2 * r))),
        targets=() if targets == ["auto"] else tuple(dict.fromkeys(targets)),
        dora="dora" in parts,
    )


def _part(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if (name in ("r", "alpha", "targets") and equals) or word == "dora":
        return name, value
    raise OptionError(f"--lora: {_EXPECTED}; found {word!r}")


def _number(name: str, word: str) -> int:
    if not word.isascii() or not word.isdigit() or not 1 <= int(word) <= 4096:
        raise OptionError(f"--lora: {name} is a whole number from 1 to 4096; found {word!r}")
    return int(word)
