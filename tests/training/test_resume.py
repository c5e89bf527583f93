"""The same command again: it resumes where it stopped, and not beyond its last step."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from reliability.tiny import assert_same_weights, read_json, words, write_corpus

from speechtune.cli.main import main
from speechtune.plan.checkpoints import finish_checkpoint

STEPS = ["--max_steps", "4", "--save_steps", "2", "--lr_scheduler_type", "constant"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), num_train=6, num_test=2)


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "out"
    assert main(["train", *words(corpus, out, *STEPS)]) == 0
    return out


@pytest.fixture
def again(trained: Path, tmp_path: Path) -> Path:
    """A copy of the finished run's folder."""
    return Path(shutil.copytree(trained, tmp_path / "out"))


def test_a_finished_run_takes_no_step_more(
    corpus: Path, trained: Path, again: Path, capsys: pytest.CaptureFixture[str]
):
    for _ in range(2):
        assert main(["train", *words(corpus, again, *STEPS)]) == 0
        assert "already finished: step 4 of 4" in capsys.readouterr().err
    assert_same_weights(again, trained)
    assert sorted(path.name for path in again.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]


def test_a_run_killed_after_its_last_checkpoint_takes_no_step_more(corpus: Path, trained: Path, again: Path):
    (again / "model.safetensors").unlink()
    (again / "trainer_state.json").unlink()
    assert main(["train", *words(corpus, again, *STEPS)]) == 0
    assert_same_weights(again, trained)
    assert sorted(path.name for path in again.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]


def test_the_loss_of_a_resumed_run_covers_all_its_steps(corpus: Path, trained: Path, again: Path):
    shutil.rmtree(again / "checkpoint-4")
    assert main(["train", *words(corpus, again, *STEPS)]) == 0
    whole, resumed = (read_json(folder / "train_results.json")["train_loss"] for folder in (trained, again))
    assert resumed == pytest.approx(whole, rel=1e-6)


def test_a_state_that_a_newer_transformers_wrote_is_one_message(
    corpus: Path, again: Path, capsys: pytest.CaptureFixture[str]
):
    newest = again / "checkpoint-4"
    state = read_json(newest / "trainer_state.json")
    (newest / "trainer_state.json").write_text(json.dumps({**state, "field_of_tomorrow": 1}))
    (newest / "manifest.json").unlink()
    newest.rename(again / "tmp-checkpoint-4")
    finish_checkpoint(again / "tmp-checkpoint-4", 4)
    assert main(["train", *words(corpus, again, "--max_steps", "6")]) == 2
    assert "checkpoint-4: training can't resume from it" in capsys.readouterr().err
