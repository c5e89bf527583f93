"""A CTC model on its test clips joined to one recording, with pauses, without, and with ten minutes of noise inside.

python benchmarks/ctc_recordings.py runs/demo runs/demo/corpus/cv-corpus-1.0-synthetic/tr/test.tsv --repeat 1 6
"""

from __future__ import annotations

import argparse
import csv
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from common import SAMPLING_RATE, one_thread

MINUTES_OF_NOISE, NOISE_DB = 10, -26.0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("table", type=Path, help="a Common Voice TSV file beside clips/")
    parser.add_argument("--repeat", type=int, nargs="+", default=[1], help="how often the clips are joined")
    arguments = parser.parse_args()
    one_thread()
    import rapidfuzz
    import soundfile

    import speechtune as st
    from speechtune.audio.decode import load_audio

    rows = list(csv.DictReader(arguments.table.read_text("utf-8").splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    clips = [load_audio(str(arguments.table.parent / "clips" / row["path"]), SAMPLING_RATE) for row in rows]
    model = st.load(arguments.model)
    words = [_words(row["sentence"]) for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording.flac"

        def write(parts: list[np.ndarray]) -> None:
            soundfile.write(path, np.concatenate(parts), SAMPLING_RATE)

        errors = 0
        for clip, reference in zip(clips, words, strict=True):
            write([clip])
            errors += rapidfuzz.distance.Levenshtein.distance(_words(model.transcribe(path).text), reference)
        print(f"clip by clip: {100 * errors / sum(map(len, words)):.1f} %")
        noise = np.random.default_rng(0).normal(0, 10 ** (NOISE_DB / 20), 60 * MINUTES_OF_NOISE * SAMPLING_RATE)
        for repeat in arguments.repeat:
            for pause_s, extra in ((0.3, None), (1.0, None), (0.0, None), (0.3, noise)):
                pause = np.zeros(int(pause_s * SAMPLING_RATE))
                parts = [part for clip in clips * repeat for part in (clip, pause)]
                middle = [] if extra is None else [extra]
                write([*parts[: len(parts) // 2], *middle, *parts[len(parts) // 2 :]])
                start_s = time.process_time()
                found = _words(model.transcribe(path).text)
                cpu_s = time.process_time() - start_s
                said = [word for part in words for word in part] * repeat
                wer = rapidfuzz.distance.Levenshtein.distance(found, said) / len(said)
                peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                name = f"{repeat} x, pauses of {pause_s} s{', noise' if middle else ''}"
                num_words = f"{len(found)} words of {len(said)}"
                print(f"{name}: WER {100 * wer:.1f} %, {num_words}, {cpu_s:.0f} s CPU, peak {peak_mb:.0f} MB")
    return 0


def _words(text: str) -> list[str]:
    """Return the words of a Turkish text as the demo scores them."""
    text = text.replace("I", "ı").replace("İ", "i").lower()
    return "".join(letter for letter in text if letter not in ",?.!").split()


if __name__ == "__main__":
    raise SystemExit(main())
