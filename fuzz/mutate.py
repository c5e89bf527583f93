"""Odd values, flipped bits, and JSON whose values are replaced. Damaged bytes are those of the tests (damage.py)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

__all__ = ["NASTY_NUMBERS", "NASTY_VALUES", "NASTY_WORDS", "damage_json", "flip_bits"]

NASTY_NUMBERS = [
    0,
    -1,
    1,
    2,
    3,
    7,
    1e-9,
    0.5,
    1e6,
    10**7,
    10**9,
    2**31,
    2**63,
    10**30,
    1e308,
    float("inf"),
    float("nan"),
]
NASTY_WORDS = [
    "", " ", "nope", "-1", "0", "1e999", "nan", "true", "null", "None", "[]", "{}", '{"a": ', "\x1b[31mred", "a\nb",
    "\ttab", "\u202ereversed", "\udcff", "x" * 5000, "../../..", "~", "/dev/null", "/proc/self/environ", "%s%n", "--",
]  # fmt: skip
NASTY_VALUES: list[Any] = [*NASTY_NUMBERS, *NASTY_WORDS[:12], None, True, False, [], {}, [[]], {"a": None}, [1, "a"]]


def flip_bits(path: Path, rng: Random, number: int = 1) -> None:
    """Flip single bits of a file in place."""
    data = bytearray(path.read_bytes())
    for _ in range(number if data else 0):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def damage_json(path: Path, rng: Random, values: Sequence[Any] = NASTY_VALUES) -> None:
    """Replace or remove one or two values anywhere in a JSON file."""
    content = json.loads(path.read_text("utf-8"))
    for _ in range(rng.randint(1, 2)):
        places = list(_places(content))
        if not places:
            break
        owner, key = rng.choice(places)
        if rng.random() < 0.2:
            del owner[key]
        else:
            owner[key] = rng.choice(values)
    text = json.dumps(content)
    path.write_text(text.replace("Infinity", "1e999") if rng.random() < 0.5 else text, "utf-8")


def _places(content: Any) -> Any:
    """Yield (container, key) of every value."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in list(items)[:2000]:
        yield content, key
        yield from _places(value)
