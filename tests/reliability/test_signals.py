"""Ctrl-C, SIGTERM, and a process that is lost: a saved state and a message, then the same command resumes exactly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from reliability.forks import Ended, ForkServer, read_seen
from reliability.tiny import CALM, RANDOMNESS, assert_same_weights, read_json, words, write_corpus

STEP = "speechtune.training.trainer:SpeechTrainer.compute_loss"
EVALUATION_BATCH = "speechtune.models.ctc.recogniser:CtcRecogniser.recognise"
EVALUATING = ["--eval_strategy", "steps", "--eval_steps", "4", "--save_steps", "4", "--load_best_model_at_end"]


def seen_of(output: Path) -> Path:
    return output.with_name(f"{output.name}-seen")


class Reference:
    """Undisturbed runs of one process and of two, to compare with."""

    def __init__(self, server: ForkServer, folder: Path) -> None:
        self.server, self.corpus = server, write_corpus(folder / "corpus")
        self.cache = {"SPEECHTUNE_CACHE": str(folder / "cache")}
        self.outputs = {1: folder / "one", 2: folder / "two"}
        for processes, output in self.outputs.items():
            ended = self.run(output, processes=processes)
            assert set(ended.codes) == {0}, ended.output
        self.seen = {number: read_seen(seen_of(output)) for number, output in self.outputs.items()}

    def command(self, output: Path, *more: str) -> list[str]:
        return ["train", *words(self.corpus, output, *RANDOMNESS, *EVALUATING, *more)]

    def run(self, output: Path, *more: str, **how: object) -> Ended:
        return self.server.run(
            self.command(output, *more),
            environment=self.cache,
            seen=seen_of(output),
            **how,  # type: ignore[arg-type]
        )

    def assert_same(self, output: Path, *, processes: int = 1) -> None:
        undisturbed = self.outputs[processes]
        assert_same_weights(output, undisturbed)
        assert read_seen(seen_of(output)) == self.seen[processes]
        states = [read_json(folder / "trainer_state.json") for folder in (output, undisturbed)]
        evaluated = [
            [(row["step"], row["eval_wer"], row["eval_loss"]) for row in state["log_history"] if "eval_wer" in row]
            for state in states
        ]
        assert evaluated[0] == evaluated[1]
        assert [state["best_global_step"] for state in states] == [states[1]["best_global_step"]] * 2


@pytest.fixture(scope="module")
def reference(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return Reference(server, tmp_path_factory.mktemp("reference"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_step_saves_and_the_same_command_resumes(
    number: int, code: int, reference: Reference, tmp_path: Path
):
    output = tmp_path / "out"
    stopped = reference.run(output, kill_at=(STEP, 7), kill_with=(number,))
    assert stopped.code == code, stopped.output
    assert f"stopped after step 7; saved in {output / 'checkpoint-7'}" in stopped.output
    assert not (output / "model.safetensors").exists()
    again = reference.run(output)
    assert again.code == 0 and f"resuming from {output / 'checkpoint-7'}" in again.output
    reference.assert_same(output)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long)]
)
def test_a_signal_to_all_of_the_runs_processes_leaves_the_loaders_their_work(
    number: int, code: int, reference: Reference, tmp_path: Path
):
    output = tmp_path / "out"
    workers = ["--dataloader_num_workers", "2"]
    stopped = reference.run(output, *workers, kill_at=(STEP, 7), kill_with=(number,), kill_group=True)
    assert stopped.code == code, stopped.output
    assert f"stopped after step 7; saved in {output / 'checkpoint-7'}" in stopped.output
    assert reference.run(output, *workers).code == 0
    reference.assert_same(output)


def test_a_signal_amid_an_evaluation_ends_it_and_the_next_run_makes_up_for_it(reference: Reference, tmp_path: Path):
    output = tmp_path / "out"
    more = ["--per_device_eval_batch_size", "1"]
    stopped = reference.run(output, *more, kill_at=(EVALUATION_BATCH, 2), kill_with=(signal.SIGTERM,))
    assert stopped.code == 143 and "stopped after step 4" in stopped.output, stopped.output
    assert read_json(output / "checkpoint-4" / "data_state.json")["evaluation_due"] == "best"
    assert reference.run(output).code == 0
    reference.assert_same(output)


def test_a_signal_at_a_step_with_an_evaluation_puts_it_off(reference: Reference, tmp_path: Path):
    output = tmp_path / "out"
    stopped = reference.run(output, kill_at=(STEP, 4), kill_with=(signal.SIGTERM,))
    assert stopped.code == 143 and "step 4:" not in stopped.output, stopped.output
    assert reference.run(output).code == 0
    reference.assert_same(output)


def test_a_signal_in_the_last_step_saves_the_model_too(reference: Reference, tmp_path: Path):
    output = tmp_path / "out"
    stopped = reference.run(output, kill_at=(STEP, 12), kill_with=(signal.SIGTERM,))
    assert stopped.code == 143, stopped.output
    assert (output / "model.safetensors").exists() and not (output / "eval_results.json").exists()
    assert reference.run(output).code == 0
    assert (output / "eval_results.json").exists()
    reference.assert_same(output)


def test_a_second_ctrl_c_leaves_at_once(reference: Reference, tmp_path: Path):
    output = tmp_path / "out"
    stopped = reference.run(output, kill_at=(STEP, 7), kill_with=(signal.SIGINT, signal.SIGINT))
    assert stopped.code == 130 and "Traceback" not in stopped.output, stopped.output
    assert sorted(path.name for path in output.glob("checkpoint-*")) == ["checkpoint-4"]
    assert reference.run(output).code == 0
    reference.assert_same(output)


@pytest.mark.parametrize(
    "where", ["speechtune.corpora.index:TableWriter.write", "speechtune.training.evaluations:write_evaluation"]
)
def test_ctrl_c_outside_the_training_leaves_without_a_traceback(where: str, reference: Reference, tmp_path: Path):
    output, cache = tmp_path / "out", {"SPEECHTUNE_CACHE": str(tmp_path / "cache")}
    command = reference.command(output, "--max_steps", "2")
    how = {"kill_at": (where, 1), "kill_with": (signal.SIGINT,), "environment": cache}
    stopped = reference.server.run(command, **how)  # type: ignore[arg-type]
    assert stopped.code == 130 and "Traceback" not in stopped.output, stopped.output
    assert reference.server.run(command, environment=cache).code == 0
    assert (output / "eval_results.json").exists()


def test_a_signal_to_one_of_two_processes_stops_both_at_the_same_step(reference: Reference, tmp_path: Path):
    output = tmp_path / "out"
    stopped = reference.run(output, processes=2, kill_at=(STEP, 3), kill_with=(signal.SIGTERM,), kill_rank=1)
    assert stopped.codes == [143, 143], stopped.output
    assert "stopped after step 4; saved in" in stopped.output  # the other one hears of it at the start of step 4
    again = reference.run(output, processes=2)
    assert again.codes == [0, 0], again.output
    reference.assert_same(output, processes=2)


def test_a_signal_to_one_of_two_processes_amid_an_evaluation_stops_both(reference: Reference, tmp_path: Path):
    output = tmp_path / "out"
    how = {"processes": 2, "kill_at": (EVALUATION_BATCH, 1), "kill_with": (signal.SIGTERM,), "kill_rank": 1}
    stopped = reference.run(output, "--per_device_eval_batch_size", "1", **how)
    assert stopped.codes == [143, 143], stopped.output
    assert "stopped after step 4" in stopped.output
    again = reference.run(output, processes=2)
    assert again.codes == [0, 0], again.output
    reference.assert_same(output, processes=2)


# ---- a lost process


@pytest.mark.parametrize(
    "where",
    [
        STEP,
        pytest.param(EVALUATION_BATCH, marks=pytest.mark.long),
        "speechtune.training.resume:DataState.write",
    ],
)
def test_a_lost_process_ends_the_others_with_a_message(where: str, reference: Reference, tmp_path: Path):
    output = tmp_path / "out"
    rank = 0 if "DataState" in where else 1
    started_s = time.monotonic()
    more = ["--per_device_eval_batch_size", "1"]  # or one process would do the whole evaluation
    lost = reference.run(output, *more, processes=2, kill_at=(where, 1), kill_rank=rank)
    assert time.monotonic() - started_s < 60
    assert lost.codes[rank] == -signal.SIGKILL and lost.codes[1 - rank] == 1, lost.output
    assert "Another process of this run was lost" in lost.output and "Traceback" not in lost.output
    again = reference.run(output, processes=2)
    assert again.codes == [0, 0], again.output
    reference.assert_same(output, processes=2)


def test_a_lost_loader_process_is_a_message(reference: Reference, tmp_path: Path):
    output = tmp_path / "out"
    lost = reference.run(output, "--dataloader_num_workers", "1", setup="reliability.faults:kill_loader")
    assert lost.code == 1, lost.output
    assert "A loader process of this run was lost" in lost.output and "Traceback" not in lost.output
    assert reference.run(output).code == 0
    reference.assert_same(output)


@pytest.mark.long
def test_a_process_that_hangs_ends_the_others_after_the_timeout(
    server: ForkServer, reference: Reference, tmp_path: Path
):
    command = reference.command(tmp_path / "out", "--ddp_timeout", "10")
    how = {"kill_at": (STEP, 3), "kill_with": (signal.SIGSTOP,), "kill_rank": 1}
    running = server.start(command, processes=2, environment=reference.cache, **how)  # type: ignore[arg-type]
    running.wait_for("Another process of this run was lost", timeout_s=60)
    running.kill(rank=1)
    ended = running.end()
    assert ended.codes[0] == 1 and "Traceback" not in ended.output


@pytest.mark.long
def test_ctrl_c_under_torchrun_saves_and_the_same_command_resumes(reference: Reference, tmp_path: Path):
    output = tmp_path / "out"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    more = ["--num_train_epochs", "200", "--save_steps", "1000", *CALM]
    command += ["-m", "speechtune", "train", *words(reference.corpus, output, *more)]
    environment = {**os.environ, **reference.cache, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while not (output / "settings.json").exists() or "protocol" not in read_json(output / "settings.json"):
            time.sleep(0.1)
            assert process.poll() is None, process.communicate()[0]
        time.sleep(5)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=120)[0].decode(errors="replace")
    (saved,) = output.glob("checkpoint-*")
    assert f"saved in {saved}" in said
    assert (saved / "manifest.json").exists()
