"""Trainings that start from a model which can recognise: a CTC model with a head for the corpus' own letters."""

from __future__ import annotations

from pathlib import Path

from reliability.tiny import read_manifest, write_corpus
from trained_folders import ctc_folder

CPU = ["--use_cpu", "true", "--precision", "fp32", "--dataloader_num_workers", "0"]


def write_corpora(folder: Path) -> Path:
    """`folder`/first with train, validation and test, and `folder`/second with a test split; returns the first."""
    first = write_corpus(folder / "first", num_train=6, num_test=4)
    write_corpus(folder / "second", num_train=1, num_test=3)
    return first


def with_validation(corpus: Path) -> Path:
    """Give the corpus a validation split of recordings of its own."""
    write_corpus(corpus / "more", num_train=4, num_test=1)
    (corpus / "validation.jsonl").write_text(
        (corpus / "more" / "train.jsonl").read_text().replace("train/", "more/train/")
    )
    for split in ("train", "test"):
        (corpus / "more" / f"{split}.jsonl").unlink()
    return corpus


def model_for(corpus: Path, folder: Path) -> Path:
    letters = "".join(sorted({letter for row in read_manifest(corpus, "train") for letter in row["text"]} - {" "}))
    return ctc_folder(folder, letters=letters)


def words(model: Path, corpus: Path, out: Path, *more: str) -> list[str]:
    """The command line of a training of four steps, with two checkpoints."""
    begin = ["train", "--model_name_or_path", str(model), "--dataset_name", str(corpus), "--output_dir", str(out)]
    steps = ["--train_split_name", "train", "--max_steps", "4", "--save_steps", "2"]
    steps += ["--per_device_train_batch_size", "2", "--learning_rate", "1e-3", "--mask_time_prob", "0"]
    return [*begin, *steps, *CPU, *more]
