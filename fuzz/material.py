"""The undamaged corpus and models that cases start from, made once a run by the real commands."""

from __future__ import annotations

from pathlib import Path

from audio_files import encode, voice
from reliability.tiny import words, write_corpus
from standins.whisper import build_whisper

__all__ = ["CTC", "NUM_TEST", "NUM_TRAIN", "WHISPER", "build", "write_outside"]

NUM_TRAIN, NUM_TEST = 8, 3
CORPUS, CTC, WHISPER = "corpus", "ctc", "whisper"


def build(folder: Path) -> None:
    """Write a corpus, a tiny CTC model trained on it with two checkpoints, and a tiny Whisper."""
    from speechtune.cli.main import main

    corpus = write_corpus(folder / CORPUS, num_train=NUM_TRAIN, num_test=NUM_TEST)
    code = main(["train", *words(corpus, folder / CTC, "--max_steps", "4", "--save_steps", "2")])
    assert code == 0, "the undamaged training failed"
    build_whisper(folder / WHISPER)


def write_outside(folder: Path) -> None:
    """Write what no command may read: recordings that decode, and texts."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = voice(0.5, 16_000, seed=99)
    for name in ("diary.wav", "diary.flac"):
        (folder / name).write_bytes(encode(samples, 16_000, name.rpartition(".")[2]))
    (folder / "secret.txt").write_text("a secret that no file may repeat\n")
    (folder / "metadata.csv").write_text("file_name,text\ndiary.wav,a secret that no file may repeat\n")
