"""Clips of long recordings: where they are cut, and the corpus folder that they become."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import soundfile

from speechtune.audio.samples import Samples, quantise
from speechtune.errors import OutputError
from speechtune.files import explain_write_errors, write_atomically

__all__ = ["PAD_S", "Clip", "ClipFolder", "Dropped", "bounds_of"]

PAD_S = 0.15  # of a clip before its first word and after its last, where the pause is long enough
COLUMNS = ("file_name", "transcription", "recording", "start_s", "end_s", "confidence")


@dataclass(frozen=True, slots=True)
class Clip:
    """A stretch of a recording with its text."""

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Dropped:
    """A stretch or line that becomes no clip, and why. Listed in dropped.jsonl."""

    recording: str
    line: int | None  # of the transcript, from 1
    text: str
    reason: str
    start_s: float | None = None
    end_s: float | None = None
    confidence: float | None = None


def bounds_of(
    spans: Sequence[tuple[float, float]], others: Sequence[tuple[float, float]], duration_s: float
) -> list[tuple[float, float]]:
    """Return where clips are cut: PAD_S around each span, but at most to the middle of the pause to its neighbours.

    Args:
        spans: first word's start and last word's end of each clip, in order, in seconds.
        others: other speech: in no clip, in any order.
        duration_s: of the recording.
    """
    everything = sorted([(start, end, True) for start, end in spans] + [(start, end, False) for start, end in others])
    found: list[tuple[float, float]] = []
    before_s = 0.0
    for place, (start, end, is_clip) in enumerate(everything):
        is_first, is_last = place == 0, place == len(everything) - 1
        after_s = duration_s if is_last else everything[place + 1][0]
        if is_clip:
            left = 0.0 if is_first else (min(before_s, start) + start) / 2
            right = duration_s if is_last else (max(after_s, end) + end) / 2
            found.append((max(start - PAD_S, left, 0.0), min(end + PAD_S, right, duration_s)))
        before_s = max(before_s, end)
    return found


class ClipFolder:
    """A new corpus: metadata.csv, clips/*.flac, and dropped.jsonl beside them.

    The table is written last: a folder with metadata.csv is complete.

    Raises:
        OutputError: there is a corpus, or the folder can't be written.
    """

    def __init__(self, folder: Path) -> None:
        if (folder / "metadata.csv").exists():
            raise OutputError(f"{folder}: has a corpus already (metadata.csv).\nGive another folder, or remove it.")
        self.folder = folder
        self.duration_s = 0.0
        self.num_clips = 0
        self.dropped: list[Dropped] = []
        self._rows: list[tuple[str, ...]] = []

    def add(self, recording: str, samples: Samples, sampling_rate: int, clips: Sequence[Clip]) -> None:
        """Write the clips of one recording."""
        if not clips:
            return
        stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in Path(recording).stem)[:80] or "clip"
        with explain_write_errors("clips", self.folder):
            (self.folder / "clips").mkdir(parents=True, exist_ok=True)
            for clip in clips:
                part = quantise(samples[round(clip.start_s * sampling_rate) : round(clip.end_s * sampling_rate)])
                self.num_clips += 1
                name = f"clips/{stem}-{self.num_clips:06d}.flac"
                soundfile.write(self.folder / name, part, sampling_rate, format="FLAC", subtype="PCM_16")
                numbers = f"{clip.start_s:.3f}", f"{clip.end_s:.3f}", f"{clip.confidence:.4f}"
                self._rows.append((name, clip.text, recording, *numbers))
                self.duration_s += clip.end_s - clip.start_s

    def finish(self) -> None:
        """Write the tables."""
        table = io.StringIO()
        csv.writer(table).writerows([COLUMNS, *self._rows])
        rows = "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in self.dropped)
        with explain_write_errors("the tables of a corpus", self.folder):
            write_atomically(self.folder / "dropped.jsonl", rows)
            write_atomically(self.folder / "metadata.csv", table.getvalue())
