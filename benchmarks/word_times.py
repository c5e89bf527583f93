"""Errors of word times, for the words that are recognised: synthetic voices, whose every word is known, and real clips.

    python benchmarks/word_times.py path/to/whisper-base --language de --corpus path/to/common_voice/de --text_given
    python benchmarks/word_times.py path/to/whisper-base --language tr --aligner runs/demo

The sentences are those of the corpus (LANGUAGE/test.tsv and clips/), or of the demo's. espeak-ng says when each word
of its voice starts. Real clips, cut to where they are louder than -35 dB of their loudest 20 ms, are joined with pauses
of 0.6 s: the first word of a clip starts, and its last word ends, where its speech does.
"""

from __future__ import annotations

import argparse
import csv
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from rapidfuzz.distance import Levenshtein

from speechtune.audio.decode import load_audio
from speechtune.decoding.align import Aligner
from speechtune.decoding.transcribe import Transcriber
from speechtune.decoding.whisper_windows import WhisperWindows
from speechtune.demo.corpus import sentences as demo_sentences
from speechtune.demo.synthesis import SAMPLING_RATE, Speaker
from speechtune.models.seq2seq.recogniser import Seq2SeqRecogniser
from speechtune.types import Segment, Transcript

RATE = 16_000
EVENT_LIST_TERMINATED, EVENT_WORD = 0, 1  # of espeak-ng/speak_lib.h
VARIANTS = ("f2", "m3", "f4", "m7", "Andy", "linda")
QUIET_DB = -35.0
PAUSE_S, JOINED = 0.6, 3  # clips of a recording

Way = Callable[[np.ndarray, str], Transcript]  # samples and their right text -> words with times
Known = list[tuple[str, float | None, float | None]]  # word, start and end, as far as they are known


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--language", required=True)
    parser.add_argument("--aligner")
    parser.add_argument("--corpus", type=Path, help="folder with test.tsv and clips/")
    parser.add_argument("--text_given", action="store_true", help="Whisper: times of the right text, recognised or not")
    parser.add_argument("--sentences", type=int, default=60)
    args = parser.parse_args()
    texts = sentences(args.corpus, args.sentences)
    recordings = {"synthetic": list(synthetic(texts, args.language))}
    if args.corpus:
        recordings["joined clips"] = list(joined(args.corpus))
    print("| recordings | times by | edge | words | median error | 90 % within | within 60 ms | mean, signed |")
    print("|---|---|---|---|---|---|---|---|")
    transcriber = Transcriber(args.model, device="cpu", vad="none", language=args.language)
    ways: dict[str, Way] = {"the model": lambda samples, text: transcriber.recognise(samples)}
    if args.text_given:
        ways = {"the model, text given": lambda samples, text: attended(transcriber, samples, text)}
    if args.aligner:
        aligner = Aligner(args.aligner, language=args.language)
        ways["the aligner"] = lambda samples, text: aligner.timed(
            transcriber.recognise(samples, words=False), samples, RATE
        )
    for name, parts in recordings.items():
        for by, recognise in ways.items():
            starts, ends = errors(recognise, parts)
            show(name, by, "start", starts)
            show(name, by, "end", ends)


def sentences(corpus: Path | None, count: int) -> list[str]:
    if corpus is None:
        return demo_sentences(count, seed=99)  # not those that it was trained on
    with (corpus / "test.tsv").open(encoding="utf-8") as file:
        return [row["sentence"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)][:count]


class Reader(Speaker):
    """A voice that also tells when each word starts."""

    def __init__(self, voice: str) -> None:
        super().__init__(voice)
        self.starts: list[int] = []

    def _collect(self, samples: int | None, num_samples: int, events: Any) -> int:
        index = 0
        while (event := events[index]).type != EVENT_LIST_TERMINATED:
            if event.type == EVENT_WORD:
                self.starts.append(event.sample)
            index += 1
        return super()._collect(samples, num_samples, events)


def synthetic(texts: Sequence[str], language: str) -> Iterator[tuple[np.ndarray, Known]]:
    """Yield each sentence in a voice, with the start of every word."""
    for number, text in enumerate(texts):
        voice = Reader(f"{language}+{VARIANTS[number % len(VARIANTS)]}")
        with voice:
            said = voice.say(text, rate_wpm=160)
        starts = voice.starts
        words = [word for word in text.split() if any(map(str.isalnum, word))]
        if len(starts) != len(words):  # it reads numbers and abbreviations as several
            continue
        samples = soxr.resample(said.astype(np.float32) / 32768, SAMPLING_RATE, RATE)
        yield samples, [(word, start / SAMPLING_RATE, None) for word, start in zip(words, starts, strict=True)]


def joined(corpus: Path) -> Iterator[tuple[np.ndarray, Known]]:
    """Yield recordings of some clips, with the start of each one's first word and the end of its last."""
    with (corpus / "test.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    pause = np.random.default_rng(0).standard_normal(round(PAUSE_S * RATE)).astype(np.float32) * 1e-4
    for first in range(0, len(rows) - JOINED + 1, JOINED):
        parts, known, at = [pause], [], len(pause)
        for row in rows[first : first + JOINED]:
            samples = load_audio(str(corpus / "clips" / row["path"]), RATE)
            start, end = speech(samples)
            words = [word for word in row["sentence"].split() if any(map(str.isalnum, word))]
            clip: Known = [(word, None, None) for word in words]
            clip[0] = (words[0], at / RATE, None)
            clip[-1] = (words[-1], clip[-1][1], (at + end - start) / RATE)
            known += clip
            parts += [samples[start:end], pause]
            at += end - start + len(pause)
        yield np.concatenate(parts), known


def speech(samples: np.ndarray) -> tuple[int, int]:
    """Return the first and last sample of what is loud."""
    size = RATE // 50
    levels = (samples[: len(samples) // size * size].reshape(-1, size) ** 2).mean(1)
    loud = np.flatnonzero(10 * np.log10(levels / levels.max() + 1e-12) > QUIET_DB)
    return int(loud[0]) * size, (int(loud[-1]) + 1) * size


def attended(transcriber: Transcriber, samples: np.ndarray, text: str) -> Transcript:
    """Return a text with the times that Whisper's attention gives its words."""
    recogniser = transcriber.recogniser
    assert isinstance(recogniser, Seq2SeqRecogniser)
    with torch.inference_mode():
        words = WhisperWindows(recogniser, samples).words_of(text)
    return Transcript(text, segments=(Segment(text, 0.0, 0.0, tuple(words)),))


def errors(recognise: Way, parts: Sequence[tuple[np.ndarray, Known]]) -> tuple[list[float], list[float]]:
    """Return found minus known start, and end, of the words that are recognised right, in seconds."""
    starts: list[float] = []
    ends: list[float] = []
    for samples, known in parts:
        found = recognise(samples, " ".join(word for word, *_ in known)).words
        words = [plain(word) for word, *_ in known], [plain(word.text) for word in found]
        for i, j, length in Levenshtein.editops(*words).as_matching_blocks():
            for (_, start, end), word in zip(known[i : i + length], found[j : j + length], strict=True):
                starts += [] if start is None else [word.start_s - start]
                ends += [] if end is None else [word.end_s - end]
    return starts, ends


def plain(word: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", word).casefold() if c.isalnum())


def show(name: str, by: str, edge: str, errors_s: list[float]) -> None:
    if not errors_s:
        return
    sizes = np.abs(errors_s)
    print(
        f"| {name} | {by} | {edge} | {len(sizes)} | {1000 * np.median(sizes):.0f} ms | "
        f"{1000 * np.quantile(sizes, 0.9):.0f} ms | {(sizes <= 0.06).mean():.0%} | "
        f"{1000 * np.mean(errors_s):+.0f} ms |",
        flush=True,
    )


if __name__ == "__main__":
    main()
