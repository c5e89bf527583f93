"""The demo's corpus: everyday Turkish sentences in synthetic voices, with the layout of a Common Voice release.

    FOLDER/cv-corpus-1.0-synthetic/tr/               train.tsv, dev.tsv, test.tsv, validated.tsv, clips/*.mp3
    FOLDER/cv-corpus-1.0-synthetic-unseen-voice/tr/  test.tsv: the same test sentences in voices not in train.tsv

Unseen voices have a release of their own, since the splits of Common Voice have fixed names. No test sentence is in
train.tsv or dev.tsv. The files are the same on every machine: `turkish.txt` and the constants below determine them.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from speechtune.demo.synthesis import SAMPLING_RATE, Speaker
from speechtune.errors import OutputError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["UNSEEN_VARIANTS", "VARIANTS", "DemoCorpus", "build_corpus", "sentences"]

LANGUAGE = "tr"
VARIANTS = {  # voice variant of espeak-ng -> gender it imitates
    "f1": "female", "f2": "female", "f3": "female", "f4": "female", "Annie": "female", "aunty": "female",
    "belinda": "female", "linda": "female", "shelby": "female", "steph": "female",
    "m1": "male", "m2": "male", "m3": "male", "m4": "male", "m5": "male", "m6": "male", "m7": "male",
    "Andy": "male", "paul": "male", "quincy": "male",
}  # fmt: skip
UNSEEN_VARIANTS = {"f5": "female", "m8": "male"}  # neither in this training data nor in the base model's

SEED = 2
NUM_TRAIN, NUM_DEV, NUM_TEST = 800, 40, 120  # sentences; voices alternate
RATE_WPM, PITCH, PITCH_RANGE = (140, 200), (30, 70), (30, 70)  # ranges; random for each utterance
RELEASE, RELEASE_UNSEEN_VOICE = "cv-corpus-1.0-synthetic", "cv-corpus-1.0-synthetic-unseen-voice"
# of Common Voice 6.1
COLUMNS = ("client_id", "path", "sentence", "up_votes", "down_votes", "age", "gender", "accent", "locale", "segment")


@dataclass(frozen=True, slots=True)
class DemoCorpus:
    """The corpus on disk: two folders with the layout of a Common Voice release."""

    release: Path
    release_unseen_voice: Path
    num_clips: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class _Clip:
    release: str
    split: str
    variant: str
    name: str
    sentence: str
    rate_wpm: int
    pitch: int
    pitch_range: int


def build_corpus(folder: Path, *, on_clip: Callable[[int, int], None] | None = None) -> DemoCorpus:
    """Build the corpus in `folder`, unless it is there already.

    Args:
        folder: replaced if it has the corpus of another version.
        on_clip: called with (clips done, all clips).

    Raises:
        OptionError: espeakng-loader is not installed.
        OutputError: `folder` has other files.
    """
    clips = _plan()
    stamp = folder / "fingerprint.txt"
    fingerprint = _fingerprint(clips)
    if not stamp.is_file() or not stamp.read_text().startswith(fingerprint):
        building = folder.with_name(f"{folder.name}.building")
        if folder.exists() and not stamp.is_file():
            raise OutputError(
                f"{folder}: has files that the demo did not make, where its corpus should go.\n"
                "Give another --output_dir, or move them away."
            )
        for old in (building, folder):
            if old.exists():
                shutil.rmtree(old)
        duration_s = _record(building, clips, on_clip)
        (building / "fingerprint.txt").write_text(f"{fingerprint} {duration_s:.3f}\n")
        building.rename(folder)
    duration_s = float(stamp.read_text().split()[1])
    return DemoCorpus(folder / RELEASE, folder / RELEASE_UNSEEN_VOICE, len(clips), duration_s)


def sentences(count: int, seed: int = SEED) -> list[str]:
    """Return `count` different sentences of the grammar in `turkish.txt`."""
    slots, templates = _grammar()
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[_fill(draw.choice(templates), slots, draw)] = None
    return list(found)


def _grammar() -> tuple[dict[str, list[str]], list[str]]:
    slots: dict[str, list[str]] = {}
    templates: list[str] = []
    for line in Path(__file__).with_name("turkish.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("> "):
            templates.append(line[2:])
        elif line and not line.startswith("#"):
            slot, _, words = line.partition(":")
            slots[slot] = [word.strip() for word in words.split("|")]
    return slots, templates


def _fill(template: str, slots: dict[str, list[str]], draw: random.Random) -> str:
    template = re.sub(r"\[(.*?)\]", lambda part: part[1] if draw.random() < 0.5 else "", template)
    sentence = re.sub(r"\{(.*?)\}", lambda slot: draw.choice(slots[slot[1]]), template)
    sentence = " ".join(sentence.split())
    return {"i": "İ", "ı": "I"}.get(sentence[0], sentence[0].upper()) + sentence[1:]


def _plan() -> list[_Clip]:
    """Return all clips: split, voice, file, sentence and manner of speaking."""
    drawn = sentences(NUM_TRAIN + NUM_DEV + NUM_TEST)
    draw = random.Random(SEED)
    train, dev, test = drawn[:NUM_TRAIN], drawn[NUM_TRAIN : NUM_TRAIN + NUM_DEV], drawn[NUM_TRAIN + NUM_DEV :]
    clips: list[_Clip] = []
    for release, split, part, variants in (
        (RELEASE, "train", train, list(VARIANTS)),
        (RELEASE, "dev", dev, list(VARIANTS)),
        (RELEASE, "test", test, list(VARIANTS)),
        (RELEASE_UNSEEN_VOICE, "test", test, list(UNSEEN_VARIANTS)),
    ):
        for index, sentence in enumerate(part):
            name = f"common_voice_{LANGUAGE}_{len(clips):06d}.mp3"
            how = (draw.randint(*RATE_WPM), draw.randint(*PITCH), draw.randint(*PITCH_RANGE))
            clips.append(_Clip(release, split, variants[index % len(variants)], name, sentence, *how))
    return clips


def _fingerprint(clips: list[_Clip]) -> str:
    try:
        voices = version("espeakng-loader")
    except PackageNotFoundError:
        voices = "none"
    return hashlib.sha256(f"1 {voices} {clips}".encode()).hexdigest()[:16]


def _record(folder: Path, clips: list[_Clip], on_clip: Callable[[int, int], None] | None) -> float:
    """Synthesise and encode all clips, write the tables, and return the corpus' duration in seconds."""
    import soundfile

    for release in (RELEASE, RELEASE_UNSEEN_VOICE):
        (folder / release / LANGUAGE / "clips").mkdir(parents=True)
    durations_s: dict[str, float] = {}
    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 4)) as encoders:  # the encoder releases the GIL
        waiting = []
        for clip, samples in _spoken(clips):
            durations_s[clip.name] = len(samples) / SAMPLING_RATE
            path = folder / clip.release / LANGUAGE / "clips" / clip.name
            waiting.append(encoders.submit(soundfile.write, path, samples, SAMPLING_RATE, format="MP3"))
            if on_clip is not None:
                on_clip(len(waiting), len(clips))
        for encoded in waiting:
            encoded.result()
    for release in (RELEASE, RELEASE_UNSEEN_VOICE):
        _write_tables(folder / release / LANGUAGE, [clip for clip in clips if clip.release == release], durations_s)
    return sum(durations_s.values())


def _spoken(clips: list[_Clip]) -> Iterator[tuple[_Clip, np.ndarray]]:
    by_voice: dict[str, list[_Clip]] = {}
    for clip in clips:
        by_voice.setdefault(clip.variant, []).append(clip)
    for variant, of_voice in by_voice.items():
        with Speaker(f"{LANGUAGE}+{variant}") as speaker:
            for clip in of_voice:
                how = {"rate_wpm": clip.rate_wpm, "pitch": clip.pitch, "pitch_range": clip.pitch_range}
                yield clip, speaker.say(clip.sentence, **how)


def _write_tables(folder: Path, clips: list[_Clip], durations_s: dict[str, float]) -> None:
    genders = {**VARIANTS, **UNSEEN_VARIANTS}
    rows: dict[str, list[str]] = {}
    for clip in clips:
        voice = f"espeak-ng-{LANGUAGE}+{clip.variant}"
        row = "\t".join((voice, clip.name, clip.sentence, "2", "0", "", genders[clip.variant], "", LANGUAGE, ""))
        rows.setdefault(clip.split, []).append(row)
    rows["validated"] = [row for split in list(rows) for row in rows[split]]
    for split, lines in rows.items():
        (folder / f"{split}.tsv").write_text("\n".join(["\t".join(COLUMNS), *lines, ""]), encoding="utf-8")
    durations = [f"{clip.name}\t{round(1000 * durations_s[clip.name])}" for clip in clips]
    (folder / "clip_durations.tsv").write_text("\n".join(["clip\tduration[ms]", *durations, ""]), encoding="utf-8")
