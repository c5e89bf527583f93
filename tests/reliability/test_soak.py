"""A long run holds no more memory and no more files at its end than after its first evaluations."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import psutil
import pytest
from reliability.tiny import CALM, run, words

LONG = bool(os.environ.get("SPEECHTUNE_LONG_TESTS"))
STEPS, EVERY = (2000, 100) if LONG else (60, 5)


class Watch:
    """Memory and open files after each checkpoint."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int, int]] = []  # resident bytes, open files, threads, child processes

    def look(self) -> None:
        gc.collect()
        process = psutil.Process()
        self.rows.append(
            (process.memory_info().rss, process.num_fds(), process.num_threads(), len(process.children(recursive=True)))
        )


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.long)])
@pytest.mark.timeout(1800)
def test_a_long_run_holds_no_more_at_its_end(
    workers: int, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import speechtune.training.resume

    watch = Watch()
    finish = speechtune.training.resume.finish_checkpoint

    def finish_and_look(*args: Any) -> Any:
        place = finish(*args)
        watch.look()
        return place

    monkeypatch.setattr(speechtune.training.resume, "finish_checkpoint", finish_and_look)
    more = ["--max_steps", str(STEPS), "--eval_strategy", "steps", "--eval_steps", str(EVERY)]
    more += ["--save_steps", str(EVERY), "--save_total_limit", "2", "--dataloader_num_workers", str(workers)]
    assert run(*words(corpus, tmp_path / "out", *CALM, *more, "--logging_steps", "50")) == 0
    assert len(watch.rows) == STEPS // EVERY
    settled, last = watch.rows[len(watch.rows) // 4], watch.rows[-1]
    grown_mb = (last[0] - settled[0]) / 1e6
    print(f"{STEPS} steps, {workers} workers: {settled[0] / 1e6:.0f} MB, grown by {grown_mb:.1f} MB; {last[1:]}")
    assert grown_mb < 30
    assert last[2:] == settled[2:]  # threads and processes
    half = len(watch.rows) // 2
    in_flight = 12 if workers else 0  # batches that workers have ready hold files of shared memory
    assert max(row[1] for row in watch.rows[half:]) <= max(row[1] for row in watch.rows[:half]) + in_flight
    assert len(list((tmp_path / "out").glob("checkpoint-*"))) == 2
