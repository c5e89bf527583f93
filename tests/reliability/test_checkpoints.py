"""Checkpoints of real runs: damaged, half written, on a full disk, of another run, hostile."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from reliability.faults import change_row
from reliability.forks import ForkServer
from reliability.tiny import (
    CALM,
    RANDOMNESS,
    assert_same_weights,
    read_json,
    read_manifest,
    run,
    words,
    write_corpus,
    write_manifest,
)

from speechtune.errors import CorpusError, OutputError
from speechtune.plan.checkpoints import MANIFEST, checkpoints, finish_checkpoint, is_whole


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A corpus and the folder of a whole run on it."""
    from reliability.tiny import write_corpus

    folder = tmp_path_factory.mktemp("finished")
    corpus = write_corpus(folder / "corpus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPEECHTUNE_CACHE", str(folder / "cache"))
        assert run(*words(corpus, folder / "out", *RANDOMNESS, "--save_steps", "4")) == 0
    return corpus, folder / "out"


def copy_of(finished: tuple[Path, Path], tmp_path: Path, *, without: tuple[str, ...] = ()) -> Path:
    """The run as it was before its end: without the final model and some checkpoints."""
    output = tmp_path / "out"
    shutil.copytree(finished[1], output)
    for name in (*without, "model.safetensors"):
        path = output / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return output


def again(finished: tuple[Path, Path], output: Path, *more: str) -> int:
    return run(*words(finished[0], output, *RANDOMNESS, "--save_steps", "4", *more))


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["optimizer.pt", "model.safetensors"])
def test_a_damaged_newest_checkpoint_is_passed_over(
    name: str, finished: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    output = copy_of(finished, tmp_path, without=())
    flip_a_bit(output / "checkpoint-12" / name)
    with caplog.at_level("INFO", "speechtune"):
        assert again(finished, output) == 0
    assert f"resuming from {output / 'checkpoint-8'}" in caplog.text
    assert_same_weights(output, finished[1])


def test_a_finished_run_is_not_trained_again(finished: tuple[Path, Path], tmp_path: Path):
    output = copy_of(finished, tmp_path)
    before = (output / "checkpoint-12" / MANIFEST).stat().st_mtime_ns
    assert again(finished, output) == 0
    assert (output / "checkpoint-12" / MANIFEST).stat().st_mtime_ns == before
    assert_same_weights(output, finished[1])


def test_more_epochs_resume_from_the_end(finished: tuple[Path, Path], tmp_path: Path):
    output = copy_of(finished, tmp_path)
    assert again(finished, output, "--num_train_epochs", "2.5") == 0
    assert read_json(output / "trainer_state.json")["global_step"] == 15


def test_the_best_and_the_last_checkpoint_are_kept(corpus: Path, tmp_path: Path):
    more = [
        "--eval_strategy",
        "steps",
        "--eval_steps",
        "2",
        "--save_total_limit",
        "1",
        "--metric_for_best_model",
        "loss",
    ]
    output = tmp_path / "out"
    assert run(*words(corpus, output, *more, "--learning_rate", "1")) == 0  # gets worse, so the first is the best
    best = read_json(output / "trainer_state.json")["best_global_step"]
    kept = {int(path.name.rpartition("-")[2]) for path in output.glob("checkpoint-*")}
    assert best in kept and len(kept) <= 2 and best < 12


def test_a_new_learning_rate_holds_after_a_resume(finished: tuple[Path, Path], tmp_path: Path):
    output = copy_of(finished, tmp_path, without=("checkpoint-12",))
    assert again(finished, output, "--learning_rate", "5e-4") == 0
    rates = {
        row["step"]: row["learning_rate"]
        for row in read_json(output / "trainer_state.json")["log_history"]
        if "loss" in row
    }
    assert rates[9] == pytest.approx(rates[8] / 2 * (4 / 5))  # half of it, one step further down the slope


def test_new_saving_intervals_hold_after_a_resume(finished: tuple[Path, Path], tmp_path: Path):
    output = copy_of(finished, tmp_path, without=("checkpoint-12",))
    assert again(finished, output, "--save_steps", "1") == 0
    assert (output / "checkpoint-9").is_dir()


# ---- a checkpoint that doesn't fit


def test_a_changed_vocabulary_is_one_message(finished: tuple[Path, Path], tmp_path: Path):
    output = copy_of(finished, tmp_path, without=("checkpoint-12",))
    corpus = shutil.copytree(finished[0], tmp_path / "corpus")
    change_row(corpus, "train", 3, text="xylophon")
    settings = json.loads((output / "settings.json").read_text())
    settings["identity"]["dataset_name"] = str(corpus)
    (output / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(OutputError, match=r"checkpoint-8: has another vocabulary(.|\n)*--overwrite_output_dir"):
        run(*words(corpus, output, *RANDOMNESS))


def test_changed_utterances_start_the_epoch_again(
    finished: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    output = copy_of(finished, tmp_path, without=("checkpoint-12",))
    corpus = shutil.copytree(finished[0], tmp_path / "corpus")
    rows = read_manifest(corpus, "train")
    write_manifest(corpus, "train", [*rows, rows[0] | {"audio": "train/001.wav"}])
    settings = json.loads((output / "settings.json").read_text())
    settings["identity"]["dataset_name"] = str(corpus)
    (output / "settings.json").write_text(json.dumps(settings))
    assert run(*words(corpus, output, *RANDOMNESS)) == 0
    assert "The training utterances have changed since checkpoint-8: its epoch starts again." in caplog.text
    assert read_json(output / "trainer_state.json")["global_step"] == 8 + 7


def test_another_model_in_the_same_folder_is_one_message(finished: tuple[Path, Path], tmp_path: Path):
    output = copy_of(finished, tmp_path)
    with pytest.raises(OutputError, match=r"in use by another run, with --model_config"):
        run(*words(finished[0], output, model={"hidden_size": 32}))


@pytest.mark.parametrize("missing", ["data_state.json", "trainer_state.json", "model.safetensors", "everything"])
def test_a_folder_that_is_no_checkpoint_is_one_message(missing: str, finished: tuple[Path, Path], tmp_path: Path):
    given = tmp_path / "given"
    if missing != "everything":
        shutil.copytree(finished[1] / "checkpoint-8", given)
        (given / missing).unlink()
    with pytest.raises(OutputError, match=r"given: (training can't resume from|no whole)"):
        run(*words(finished[0], tmp_path / "out", "--resume_from_checkpoint", str(given)))


def test_a_run_resumes_from_a_given_checkpoint(finished: tuple[Path, Path], tmp_path: Path):
    more = ["--save_steps", "4", "--resume_from_checkpoint", str(finished[1] / "checkpoint-8")]
    assert run(*words(finished[0], tmp_path / "out", *RANDOMNESS, *more)) == 0
    assert_same_weights(tmp_path / "out", finished[1])


class Hostile:
    """A pickle that writes a file where it is loaded without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_no_pickle_of_a_checkpoint_is_run(name: str, finished: tuple[Path, Path], tmp_path: Path):
    output = copy_of(finished, tmp_path, without=("checkpoint-12",))
    checkpoint, mark = output / "checkpoint-8", tmp_path / "mark"
    (checkpoint / name).write_bytes(pickle.dumps(Hostile(mark)))
    (checkpoint / MANIFEST).unlink()
    half = checkpoint.rename(output / "tmp-checkpoint-8")
    finish_checkpoint(half, 8)  # with checksums that fit
    with pytest.raises(OutputError, match="checkpoint-8: training can't resume from it: "):
        again(finished, output)
    assert not mark.exists()


def test_no_checkpoint_and_no_model_holds_a_pickle_of_the_settings(finished: tuple[Path, Path]):
    assert not list(finished[1].rglob("training_args.bin"))
    pickles = {path.name for path in finished[1].rglob("*") if path.suffix in (".pt", ".pth", ".bin", ".pkl")}
    assert pickles == {"optimizer.pt", "scheduler.pt", "rng_state.pth"}


def test_others_may_read_the_model(finished: tuple[Path, Path]):
    folder = finished[1]
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


# ---- a full disk


@pytest.mark.parametrize("setup", ["full_disk_at_third_checkpoint", "full_disk_for_weights"])
def test_a_full_disk_while_saving_keeps_the_last_whole_checkpoint(
    setup: str, server: ForkServer, finished: tuple[Path, Path], tmp_path: Path
):
    output = tmp_path / "out"
    command = ["train", *words(finished[0], output, *RANDOMNESS, "--save_steps", "4")]
    how = {"SPEECHTUNE_CACHE": str(tmp_path / "cache")}
    full = server.run(command, setup=f"reliability.faults:{setup}", environment=how)
    assert full.code == 2, full.output
    assert "no space left while writing checkpoint 12" in full.output and "Traceback" not in full.output
    assert f"The last whole checkpoint is intact: {output / 'checkpoint-8'}." in full.output
    assert not list(output.glob("tmp-*")) and not (output / "checkpoint-12").exists()
    assert server.run(command, environment=how).code == 0
    assert_same_weights(output, finished[1])


def test_a_full_disk_ends_both_of_two_processes(server: ForkServer, finished: tuple[Path, Path], tmp_path: Path):
    command = ["train", *words(finished[0], tmp_path / "out", "--save_steps", "1")]
    how = {"SPEECHTUNE_CACHE": str(tmp_path / "cache")}
    setup = "reliability.faults:full_disk_at_third_checkpoint"
    full = server.run(command, setup=setup, processes=2, environment=how)
    assert full.codes == [2, 1], full.output
    assert "no space left while writing checkpoint 3" in full.output and "Traceback" not in full.output
    assert not list((tmp_path / "out").glob("tmp-*"))


def test_a_disk_that_fills_up_under_the_audio_cache_is_no_matter(
    server: ForkServer, finished: tuple[Path, Path], tmp_path: Path
):
    command = ["train", *words(finished[0], tmp_path / "out", *RANDOMNESS, "--save_steps", "4")]
    how = {"SPEECHTUNE_CACHE": str(tmp_path / "cache")}
    full = server.run(command, setup="reliability.faults:full_audio_cache", environment=how)
    assert full.code == 0, full.output
    assert_same_weights(tmp_path / "out", finished[1])


def no_space(*args: Any, **kwargs: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_under_the_index_is_one_message(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("speechtune.corpora.cache.os.fsync", no_space)
    with pytest.raises((CorpusError, OutputError), match=r"(?i)no space left"):
        run(*words(finished[0], tmp_path / "out"))


def test_a_full_disk_under_the_results_is_one_message(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    output = copy_of(finished, tmp_path)
    monkeypatch.setattr("speechtune.evaluation.evaluate.write_atomically", no_space)
    with pytest.raises(OutputError, match=rf"no space left while writing the results(.|\n)*{output}/checkpoint-12"):
        again(finished, output)


def test_an_output_folder_that_cannot_be_made_is_one_message(finished: tuple[Path, Path], tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't be written"):
        run(*words(finished[0], tmp_path / "file" / "out"))


STEPS = ["--max_steps", "4", "--save_steps", "2", "--lr_scheduler_type", "constant"]


def test_a_run_that_has_all_its_steps_takes_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Also where max_steps ends in the middle of an epoch, which has 6 steps here."""
    corpus = write_corpus(tmp_path / "corpus")
    argv = words(corpus, tmp_path / "out", *STEPS)
    assert run(*argv) == 0
    shutil.copytree(tmp_path / "out", tmp_path / "before")
    with caplog.at_level("INFO", "speechtune"):
        assert run(*argv) == 0
    assert "already finished: step 4 of 4" in caplog.text
    assert_same_weights(tmp_path / "out", tmp_path / "before")
    assert sorted(path.name for path in (tmp_path / "out").glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    now, before = (read_json(tmp_path / folder / "train_results.json") for folder in ("out", "before"))
    assert now == before  # its time and speed are those of the training


def test_a_run_killed_after_its_last_checkpoint_only_saves_its_model(tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus")
    argv = words(corpus, tmp_path / "out", *STEPS)
    assert run(*argv) == 0
    shutil.copytree(tmp_path / "out", tmp_path / "before")
    for name in ("model.safetensors", "train_results.json", "eval_results.json"):
        (tmp_path / "out" / name).unlink()
    assert run(*argv) == 0
    assert_same_weights(tmp_path / "out", tmp_path / "before")


def test_the_mean_loss_after_a_resume_is_of_all_steps(finished: tuple[Path, Path], tmp_path: Path):
    output = copy_of(finished, tmp_path, without=("checkpoint-12",))
    assert again(finished, output) == 0
    resumed, whole = (read_json(folder / "train_results.json")["train_loss"] for folder in (output, finished[1]))
    assert resumed == pytest.approx(whole, rel=1e-5)


def test_a_checkpoint_without_random_states_is_refused(finished: tuple[Path, Path], tmp_path: Path):
    given = tmp_path / "given"
    shutil.copytree(finished[1] / "checkpoint-8", given)
    (given / "rng_state.pth").unlink()
    with pytest.raises(OutputError, match=r"given: its random states \(rng_state.pth\) are missing"):
        run(*words(finished[0], tmp_path / "out", *RANDOMNESS, "--resume_from_checkpoint", str(given)))


def test_a_state_of_a_newer_transformers_is_one_message(finished: tuple[Path, Path], tmp_path: Path):
    given = tmp_path / "given"
    shutil.copytree(finished[1] / "checkpoint-8", given)
    state = read_json(given / "trainer_state.json")
    (given / "trainer_state.json").write_text(json.dumps({**state, "field_of_next_year": 1}))
    with pytest.raises(OutputError, match=r"training can't resume from it: .*field_of_next_year"):
        run(*words(finished[0], tmp_path / "out", *RANDOMNESS, "--resume_from_checkpoint", str(given)))


def test_two_processes_both_end_with_the_best_weights(server: ForkServer, tmp_path: Path):
    """The best checkpoint is made an early one: its loss is the highest."""
    corpus = write_corpus(tmp_path / "corpus", num_test=6)
    out, cache = tmp_path / "out", {"SPEECHTUNE_CACHE": str(tmp_path / "cache")}
    best = ["--eval_strategy", "steps", "--eval_steps", "2", "--save_steps", "2", "--load_best_model_at_end"]
    best += ["--metric_for_best_model", "loss", "--greater_is_better", "true", "--max_steps", "6", *CALM]
    trained = server.run(["train", *words(corpus, out, *best)], processes=2, environment=cache)
    assert trained.code == 0, trained.output
    argv = ["evaluate", str(out), "--dataset_name", str(corpus), "--output_dir", str(tmp_path / "again")]
    again = server.run([*argv, "--precision", "fp32", "--use_cpu", "true"], environment=cache)
    assert again.code == 0, again.output
    state = read_json(out / "trainer_state.json")
    assert state["best_model_checkpoint"].endswith("checkpoint-2") and state["global_step"] == 6
    found, alone = (read_json(folder / "eval_results.json")["eval_loss"] for folder in (out, tmp_path / "again"))
    assert found == pytest.approx(alone, rel=1e-6)


def rates(folder: Path) -> list[float]:
    return [row["learning_rate"] for row in read_json(folder / "trainer_state.json")["log_history"] if "loss" in row]


def test_the_newest_two_checkpoints_keep_the_optimisers_state(
    finished: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """From an older one training resumes at its step and learning rate, and says what is lost."""
    holding = {path.name: (path / "optimizer.pt").exists() for path in checkpoints(finished[1])}
    assert holding == {"checkpoint-4": False, "checkpoint-8": True, "checkpoint-12": True}
    assert all(is_whole(path) for path in checkpoints(finished[1]))
    older = str(finished[1] / "checkpoint-4")
    assert run(*words(finished[0], tmp_path / "out", *RANDOMNESS, "--resume_from_checkpoint", older)) == 0
    assert "checkpoint-4: holds weights only" in caplog.text
    assert rates(tmp_path / "out") == pytest.approx(rates(finished[1]))


def test_with_weights_alone_a_run_resumes_where_it_was(
    finished: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    out, more = tmp_path / "out", [*RANDOMNESS, "--save_only_model", "--do_eval", "false"]
    assert run(*words(finished[0], out, *more, "--save_steps", "6")) == 0
    assert not any(path.match("*.p*t*") for path in out.glob("checkpoint-*/*"))
    shutil.rmtree(out / "checkpoint-12")
    assert run(*words(finished[0], out, *more)) == 0
    assert "not exactly: the optimiser starts again" in caplog.text
    assert (
        rates(out) == pytest.approx(rates(finished[1])) and read_json(out / "trainer_state.json")["global_step"] == 12
    )
