"""Single bits flipped in the cache: the same answers as before, from what is written again."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

from damage import damaged

from fuzz.case import Case, Place
from fuzz.commands import evaluate
from fuzz.material import CORPUS
from fuzz.mutate import flip_bits

__all__ = ["make"]

ANSWERS = ("hypotheses.jsonl", "skipped.jsonl")


def make(place: Place, rng: Random) -> Case:
    """Evaluate, damage the cache, evaluate again into another folder."""
    from speechtune.cli.main import main

    corpus = place.folder / "corpus"
    shutil.copytree(place.material / CORPUS, corpus)
    words = evaluate(corpus, place)
    assert main(words) == 0
    first = place.folder / "first"
    place.output.rename(first)
    cache = place.folder / "cache"
    for _ in range(rng.choice((1, 1, 1, 3))):
        files = sorted(path for path in cache.rglob("*") if path.is_file() and path.stat().st_size)
        victim = rng.choice(files)
        kind = rng.choices(("bit", "bits", "bytes", "cut", "gone"), (6, 2, 1, 1, 1))[0]
        if kind in ("bit", "bits"):
            flip_bits(victim, rng, 1 if kind == "bit" else 20)
        elif kind == "bytes":
            victim.write_bytes(damaged(victim.read_bytes(), rng))
        elif kind == "cut":
            victim.write_bytes(victim.read_bytes()[: rng.randrange(victim.stat().st_size)])
        else:
            victim.unlink()
    return Case([words], check=lambda: _different(first, place.output))


def _different(first: Path, second: Path) -> list[str]:
    return [f"other {name}" for name in ANSWERS if (first / name).read_bytes() != (second / name).read_bytes()]
