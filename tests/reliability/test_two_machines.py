"""Two machines: each process is the only one of its own, and two agents of torchrun meet at a rendezvous."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from reliability.forks import ForkServer
from reliability.tiny import losses, read_json, run, words, write_corpus

CALM = ["--mask_time_prob", "0", "--num_train_epochs", "1", "--do_eval", "--save_strategy", "no"]


@pytest.fixture
def alone(tmp_path: Path) -> list[float]:
    """The losses of one process."""
    assert run(*words(write_corpus(tmp_path / "corpus"), tmp_path / "alone", *CALM)) == 0
    return losses(tmp_path / "alone")


def command(tmp_path: Path) -> list[str]:
    argv = words(tmp_path / "corpus", tmp_path / "together", *CALM)
    argv[argv.index("--per_device_train_batch_size") + 1] = "1"  # the same two utterances a step
    return ["train", *argv]


def assert_same(tmp_path: Path, alone: list[float]) -> None:
    assert losses(tmp_path / "together") == pytest.approx(alone, abs=1e-5)
    assert read_json(tmp_path / "together" / "eval_results.json")["eval_samples"] == 4


def test_two_machines_train_as_one_process_does(server: ForkServer, tmp_path: Path, alone: list[float]):
    ended = server.run(command(tmp_path), processes=2, one_a_machine=True)
    assert ended.codes == [0, 0], ended.output
    assert_same(tmp_path, alone)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.long
def test_two_agents_train_as_one_process_does(tmp_path: Path, alone: list[float]):
    """Here both on loopback."""
    meeting = ["--rdzv_id", "test", "--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{free_port()}"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1", *meeting]
    agents = [
        subprocess.Popen(
            [*torchrun, "--node_rank", str(number), "-m", "speechtune", *command(tmp_path)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(2)
    ]
    outputs = [agent.communicate(timeout=200)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], "\n".join(outputs)
    assert_same(tmp_path, alone)
