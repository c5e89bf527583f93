"""WER and CPU time of Whisper on recordings of minutes: clips of a corpus, joined, by several ways of recognising them.

    python benchmarks/long_form.py path/to/whisper-base path/to/common_voice de it sv-SE tr --ctranslate2 path/to/model

The folder of the corpus holds LANGUAGE/test.tsv, LANGUAGE/dev.tsv and LANGUAGE/clips. `--ctranslate2` names the same
weights converted by ct2-transformers-converter; faster-whisper must be installed.
"""

from __future__ import annotations

import argparse
import csv
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from speechtune.audio.decode import load_audio
from speechtune.decoding import long_form, whisper_windows
from speechtune.decoding.pauses import cut_at_pauses
from speechtune.decoding.transcribe import Transcriber
from speechtune.evaluation.metrics.wer import word_edits

RATE = 16_000
NAMES = {"sv-SE": "sv"}
WAYS = ["cut", "ours", "no fallback", "transformers", "faster-whisper", "clips"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("languages", nargs="+")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--ways", nargs="+", default=WAYS)
    parser.add_argument("--ctranslate2")
    args = parser.parse_args()
    print("| language | recording | way | WER | words | CPU time |\n|---|---|---|---|---|---|", flush=True)
    for language in args.languages:
        clips, text = joined(args.corpus / language, args.seconds)
        whole = np.concatenate(clips)
        ways = ways_of(args.model, NAMES.get(language, language), clips, args.ctranslate2)
        for name in args.ways:
            start = time.process_time()
            found = ways[name](whole)
            seconds = time.process_time() - start
            counts = word_edits(normalised(text), normalised(found))
            where = f"{len(clips)} clips, {len(whole) / RATE:.0f} s"
            print(
                f"| {language} | {where} | {name} | {counts.rate:.3f} | {len(found.split())} | {seconds:.0f} s |",
                flush=True,
            )


def joined(folder: Path, seconds: float) -> tuple[list[np.ndarray], str]:
    """Return clips of about so many seconds in all, and their text."""
    clips: list[np.ndarray] = []
    texts: list[str] = []
    for split in ("test", "dev"):
        with (folder / f"{split}.tsv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                if sum(map(len, clips)) < seconds * RATE:
                    clips.append(load_audio(str(folder / "clips" / row["path"]), RATE, name=row["path"]))
                    texts.append(row["sentence"])
    return clips, " ".join(texts)


def normalised(text: str) -> str:
    kept = (char if unicodedata.category(char)[0] not in "PS" else " " for char in text.lower())
    return " ".join("".join(kept).split())


def ways_of(
    model: str, language: str, clips: list[np.ndarray], ctranslate2: str | None
) -> dict[str, Callable[[np.ndarray], str]]:
    recogniser = Transcriber(model, device="cpu", language=language).recogniser

    def clip_by_clip(samples: np.ndarray) -> str:
        return " ".join(long_form.transcribe_samples(recogniser, clip) for clip in clips)

    def cut(samples: np.ndarray) -> str:
        pieces = cut_at_pauses(samples, RATE)
        return " ".join(long_form.transcribe_samples(recogniser, piece) for piece in pieces)

    def ours(samples: np.ndarray) -> str:
        return long_form.transcribe_samples(recogniser, samples)

    def without_fallback(samples: np.ndarray) -> str:
        with mock.patch.object(whisper_windows, "TEMPERATURES", (0.0,)):
            return ours(samples)

    def transformers(samples: np.ndarray) -> str:
        extractor = recogniser.model_input.feature_extractor
        inputs = extractor(
            samples, sampling_rate=RATE, truncation=False, padding="longest", return_attention_mask=True,
            return_tensors="pt",
        )  # fmt: skip
        with torch.inference_mode():
            ids = recogniser.model.generate(**inputs, return_timestamps=True)
        return str(recogniser.tokenizer.batch_decode(ids, skip_special_tokens=True)[0])

    def faster_whisper(samples: np.ndarray) -> str:
        from faster_whisper import WhisperModel  # type: ignore[import-not-found]

        threads = torch.get_num_threads()
        fast = WhisperModel(str(ctranslate2), device="cpu", compute_type="float32", cpu_threads=threads)
        segments, _ = fast.transcribe(samples, language=language, beam_size=1, condition_on_previous_text=False)
        return " ".join(segment.text for segment in segments)

    return {
        "clips": clip_by_clip, "cut": cut, "ours": ours, "no fallback": without_fallback,
        "transformers": transformers, "faster-whisper": faster_whisper,
    }  # fmt: skip


if __name__ == "__main__":
    main()
