"""Hypotheses and evaluations by hand, and their files as a run writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from speechtune.evaluation.evaluate import Evaluation, write_evaluation
from speechtune.evaluation.metrics.cer import character_edits
from speechtune.evaluation.metrics.wer import word_edits
from speechtune.types import Hypothesis

WORDS = {"hits": 5, "substitutions": 2, "deletions": 1, "insertions": 0}


def hypothesis(id: str, reference: str, text: str, **more: Any) -> Hypothesis:
    words, characters = word_edits(reference, text), character_edits(reference, text)
    return Hypothesis(id, reference, text, words, characters, **more)


def write(folder: Path, *rows: Hypothesis, suffix: str = "", **results: Any) -> None:
    evaluation = Evaluation(list(rows))
    content = {**evaluation.metrics(), "scores": evaluation.scores(), **results}
    write_evaluation(evaluation, content, folder=folder, suffix=suffix)


def write_rows(folder: Path, name: str, *rows: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def whole_run(folder: Path, *, text: str = "bir iki üç", alien: str = "") -> None:
    """A small run with every file that a report reads."""
    reference = f"{text} dört {alien}"
    facts = {"file": f"clips/u1.mp3{alien}", "speaker": f"s{alien}", "duration_s": 3.5}
    wrong = hypothesis(f"u1{alien}", reference, f"{text} dord {alien[::-1]}", **facts)
    right = hypothesis("u2", reference, reference, speaker="other", duration_s=9.0)
    score = {**WORDS, "rate": 0.375, "low": 0.3, "high": 0.45, "interval": {"unit": "speakers", "groups": 2}}
    filters = {"name": f"default{alien}", "normalizer": "lower", "filters": {f"f{alien}": 1}}
    write(
        folder,
        wrong,
        right,
        scores={"wer": score, "cer": {**score, "rate": 0.125}},
        protocol={**filters, "skipped": 3, "precision": "bf16", "language": None, "hash": "ab12"},
        dataset=f"common_voice/tr{alien}",
        split="test",
    )
    write(folder, wrong, suffix="_unseen_voice")
    skipped = {"split": "train", "id": f"x{alien}", "file": f"f{alien}", "reason": f"too_long{alien}"}
    write_rows(folder, "skipped.jsonl", *[skipped] * 2)
    write_rows(
        folder,
        "bad_steps.jsonl",
        {"step": 7, "non_finite": "loss", "utterances": [{"id": f"bad{alien}", "loss": "nan"}]},
    )
    history = [{"step": 5, "loss": 2.0, "learning_rate": 1e-4}, {"step": 10, "eval_wer": 0.4, "eval_loss": 1.0}]
    write_rows(folder, "trainer_state.json", {"global_step": 10, "max_steps": 10, "epoch": 1.0, "log_history": history})
    write_rows(folder, "train_results.json", {"train_runtime": 65.0, "train_samples": 63})
    write_rows(
        folder, "settings.json", {"model_name_or_path": f"facebook/wav2vec2-base{alien}", f"odd{alien}": [alien]}
    )
