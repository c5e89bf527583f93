"""Damaged output folders: the run resumes from a whole checkpoint, exactly to its last step, or is refused."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path
from random import Random

from damage import damaged
from reliability.tiny import words

from fuzz.case import Case, Place
from fuzz.material import CORPUS, CTC
from fuzz.mutate import damage_json, flip_bits

__all__ = ["make"]


def make(place: Place, rng: Random) -> Case:
    shutil.copytree(place.material / CTC, place.output)
    steps = rng.choice((4, 4, 6))
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        _damage(place.output, rng)
    what = rng.choice(("train", "train", "train", "train", "report", "export", "evaluate", "push"))
    output = str(place.output)
    if what == "train":
        command = [
            "train",
            *words(place.material / CORPUS, place.output, "--max_steps", str(steps), "--save_steps", "2"),
        ]
        return Case([command], check=lambda: _not_exact(place.output, steps))
    if what == "evaluate":
        corpus = str(place.material / CORPUS)
        command = ["evaluate", "--model_name_or_path", output, "--dataset_name", corpus, "--output_dir", output]
        return Case([[*command, "--precision", "fp32", "--use_cpu", "true"]])
    return Case(
        [
            {
                "report": ["report", output],
                "export": ["export", output, "--output_dir", "new"],
                "push": ["push", output],
            }[what]
        ]
    )


def _not_exact(folder: Path, steps: int) -> list[str]:
    wrong = []
    last = json.loads((folder / "trainer_state.json").read_text())["global_step"]
    if last != steps:
        wrong.append(f"trained to step {last} of {steps}")
    beyond = [path.name for path in folder.glob("checkpoint-[0-9]") if int(path.name[-1]) > steps]
    return wrong + ([f"later checkpoints: {beyond}"] if beyond else [])


def _damage(output: Path, rng: Random) -> None:
    """Damage a file of the folder or of its newest checkpoint, sometimes with a checksum that fits."""
    newest = max(output.glob("checkpoint-*"), default=output, key=_step)
    folder = newest if rng.random() < 0.7 else output
    victim = rng.choice(sorted(path for path in folder.iterdir() if path.is_file() and path.name != ".lock"))
    what = rng.choice(("bytes", "json", "bits", "gone", "empty", "half", "fields"))
    if what == "gone":
        victim.unlink()
    elif what == "empty":
        victim.write_bytes(b"")
    elif what == "bits":
        flip_bits(victim, rng, 3)
    elif what == "half":
        shutil.copytree(
            newest,
            output / rng.choice(("tmp-checkpoint-6", "checkpoint-99", "checkpoint-", "checkpoint-x")),
            dirs_exist_ok=True,
        )
        return
    elif what in ("json", "fields") and victim.suffix == ".json":
        try:
            damage_json(victim, rng) if what == "json" else _add_fields(victim)
        except ValueError:
            victim.write_bytes(damaged(victim.read_bytes(), rng))
    else:
        victim.write_bytes(damaged(victim.read_bytes(), rng))
    if rng.random() < 0.6 and victim.name != "manifest.json" and (folder / "manifest.json").exists():
        _write_manifest(folder)


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdigit() and len(number) == 1 else 0


def _add_fields(path: Path) -> None:
    """What a newer version of a library may write."""
    content = json.loads(path.read_text())
    if isinstance(content, dict):
        path.write_text(json.dumps({**content, "field_of_a_newer_version": {"a": [1]}}))


def _write_manifest(folder: Path) -> None:
    """Make the checksums fit what is there."""
    paths = [path for path in folder.iterdir() if path.is_file() and path.name != "manifest.json"]
    files = {
        path.name: {"bytes": path.stat().st_size, "crc32": f"{zlib.crc32(path.read_bytes()):08x}"} for path in paths
    }
    (folder / "manifest.json").write_text(json.dumps({"step": 4, "files": files}))
