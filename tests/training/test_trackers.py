"""--report_to: what a tracker has after a training is what the run's own files say."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from reliability.tiny import run, words, write_corpus


def test_tensorboard_and_trackio_get_losses_and_error_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when trackio is imported
    pytest.importorskip("trackio", reason="trackio is not installed")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    corpus, out = write_corpus(tmp_path / "corpus"), tmp_path / "out"
    more = (
        "--report_to",
        "tensorboard",
        "trackio",
        "--max_steps",
        "4",
        "--eval_strategy",
        "steps",
        "--eval_steps",
        "2",
    )
    assert run(*words(corpus, out, *more, "--save_strategy", "no")) == 0

    history = json.loads((out / "trainer_state.json").read_text("utf-8"))["log_history"]
    losses = {row["step"]: row["loss"] for row in history if "loss" in row}
    rates = {row["step"]: row["eval_wer"] for row in history if "eval_wer" in row}
    assert list(losses) == [1, 2, 3, 4] and list(rates) == [2, 4]
    events = accumulator.EventAccumulator(str(next(out.rglob("*tfevents*"))))
    events.Reload()
    assert {event.step: event.value for event in events.Scalars("train/loss")} == pytest.approx(losses)
    assert {event.step: event.value for event in events.Scalars("eval/wer")} == pytest.approx(rates)
    rows = trackio_rows(tmp_path / "trackio")
    assert {row["train/global_step"]: row["train/loss"] for row in rows if "train/loss" in row} == pytest.approx(losses)
    assert [row["eval/wer"] for row in rows if "eval/wer" in row] == pytest.approx(list(rates.values()))


def trackio_rows(folder: Path) -> list[dict[str, Any]]:
    with sqlite3.connect(next(folder.rglob("*.db"))) as database:
        return [json.loads(row) for (row,) in database.execute("select metrics from metrics order by id")]
