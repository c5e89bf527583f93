"""Recordings inside report.html: MP3 and the outline of the waveform, up to a size; beyond it, links to the files.

MP3, because every browser plays it: 32 kbit/s at 16 kHz is 4 kB a second, 5.5 kB as base64. Opus is a third smaller,
but older phones play it in no container that the others do. Nothing here is uploaded: publishing/publish.py
sends no report.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechtune.audio.decode import load_audio
from speechtune.audio.samples import quantise
from speechtune.errors import AudioError
from speechtune.evaluation.comparison import ChangedUtterance
from speechtune.terminal.formatting import visible
from speechtune.types import Hypothesis

__all__ = ["AUDIO_MB", "SAMPLING_RATE", "Clips", "ReadPcm", "encode_mp3", "outline", "read_file"]

AUDIO_MB = 5.0  # of the audio in a page: about 15 minutes
SAMPLING_RATE = 16_000  # Hz, in the page
BIT_RATE = 32_000
PAGE_BYTES_PER_S = BIT_RATE / 8 * 4 / 3  # as base64
NUM_PEAKS = 120  # of an outline
LEVELS = "0123456789abcdefghijklmnopqrstuvwxyz"
QUIET = 0.05  # of full scale: the outline of a recording below it is not drawn to full height

Recorded = Hypothesis | ChangedUtterance
ReadPcm = Callable[[Recorded, float], NDArray[np.int16] | None]


def read_file(row: Recorded, max_duration_s: float) -> NDArray[np.int16] | None:
    """Return the samples (num_samples,) of the file that an utterance names; None where there is no such file.

    Raises:
        AudioError: it can't be decoded, or is longer than `max_duration_s`.
    """
    if not _is_file(row.file):
        return None
    return quantise(load_audio(row.file, SAMPLING_RATE, max_duration_s=max_duration_s))


class Clips:
    """The recordings of a page, each once.

    Args:
        max_bytes: of all audio in the page, as base64; 0 neither embeds nor links any.
        read: returns an utterance's samples at SAMPLING_RATE.
    """

    def __init__(self, max_bytes: float, read: ReadPcm = read_file) -> None:
        self.max_bytes, self._read = max_bytes, read
        self.facts: list[dict[str, Any]] = []  # for the page: outline "p" and words "w" of what is in it, or link "f"
        self.audio: list[str] = []  # base64, of the embedded ones: facts[n]["a"] is a place in it
        self.num_missing = 0
        self._size = 0.0
        self._places: dict[tuple[str, str], int | None] = {}

    @property
    def num_linked(self) -> int:
        return len(self.facts) - len(self.audio)

    def add(self, row: Recorded) -> None:
        """Embed an utterance's recording, or link it where it no longer fits."""
        key = (row.id, row.file)
        if self.max_bytes <= 0 or key in self._places:
            return
        self._places[key] = None
        facts = self._embedded(row) or self._linked(row)
        if facts is None:
            self.num_missing += 1
            return
        self._places[key] = len(self.facts)
        self.facts.append(facts)

    def place(self, row: Recorded) -> int | None:
        """Return where in `facts` an utterance's recording is; None where it has none."""
        return self._places.get((row.id, row.file))

    def _embedded(self, row: Recorded) -> dict[str, Any] | None:
        room_s = (self.max_bytes - self._size) / PAGE_BYTES_PER_S - 0.5  # with MP3's own padding
        if room_s <= 0 or row.duration_s > room_s:
            return None
        try:
            pcm = self._read(row, room_s)
        except AudioError:
            return None
        if pcm is None or not len(pcm):
            return None
        text = base64.b64encode(encode_mp3(pcm)).decode()
        self._size += len(text)
        self.audio.append(text)
        return {"a": len(self.audio) - 1, "p": outline(pcm), "s": round(len(pcm) / SAMPLING_RATE, 2), **_words(row)}

    def _linked(self, row: Recorded) -> dict[str, Any] | None:
        if not _is_file(row.file):
            return None
        duration = {} if math.isnan(row.duration_s) else {"s": round(row.duration_s, 2)}
        return {"f": Path(row.file).resolve().as_uri(), **duration}


def _words(row: Recorded) -> dict[str, Any]:
    """Return the words that were recognised with their times in seconds, where they are known."""
    if not isinstance(row, Hypothesis) or not row.word_times:
        return {}
    return {"w": [[visible(word), *times] for word, times in zip(row.hypothesis.split(), row.word_times, strict=True)]}


def encode_mp3(pcm: NDArray[np.int16]) -> bytes:
    """Encode mono samples (num_samples,) at SAMPLING_RATE as MP3."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=SAMPLING_RATE)
        stream.layout, stream.bit_rate = "mono", BIT_RATE
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm)[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLING_RATE
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


def outline(pcm: NDArray[np.int16]) -> str:
    """Return the peak of each of at most 120 equal stretches, as a digit of base 36, the loudest one "z"."""
    starts = np.linspace(0, len(pcm), min(NUM_PEAKS, len(pcm)), endpoint=False).astype(np.int64)
    peaks = np.maximum.reduceat(np.abs(pcm.astype(np.int32)), starts) if len(starts) else np.zeros(0, np.int32)
    highest = max(float(peaks.max(initial=0)), QUIET * 32768)
    return "".join(LEVELS[round(35 * float(peak) / highest)] for peak in peaks)


def _is_file(name: str) -> bool:
    try:
        return bool(name) and Path(name).is_file()
    except (OSError, ValueError):  # names of strangers: too long, or with a null character
        return False
