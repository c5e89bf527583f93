"""Commands in processes of their own that may be killed, without paying for the import of torch each time.

A `ForkServer` is one Python process that has imported everything; each command runs in a fork of it, as `speechtune`
would run it. Forking the test's own process would copy its threads' locks.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ended:
    """How the processes of a command ended.

    Args:
        codes: exit code of each; -9 where it was killed.
        seconds: from start to end of the last.
        output: what all of them wrote.
    """

    codes: list[int]
    seconds: float
    output: str

    @property
    def code(self) -> int:
        return self.codes[0]


class Running:
    """A command under way."""

    def __init__(self, server: ForkServer, number: int, pids: list[int], log: Path) -> None:
        self._server, self._number, self.pids, self.log = server, number, pids, log

    def kill(self, number: int = signal.SIGKILL, *, rank: int | None = None) -> None:
        """Send a signal to one process of the command, or to all."""
        for pid in self.pids if rank is None else [self.pids[rank]]:
            os.kill(pid, number)

    def wait_for(self, text: str, *, timeout_s: float = 60) -> None:
        """Wait until the output holds `text`."""
        end_s = time.monotonic() + timeout_s
        while text not in self.log.read_text(errors="replace"):
            assert time.monotonic() < end_s, f"{text!r} did not come:\n{self.log.read_text(errors='replace')[-3000:]}"
            time.sleep(0.005)

    def end(self) -> Ended:
        """Wait for the end."""
        answer = self._server.ask({"wait": self._number})
        return Ended(answer["codes"], answer["seconds"], self.log.read_text(errors="replace"))


class ForkServer:
    """`with ForkServer(folder) as server: server.run(argv)`.

    Args:
        folder: for the commands' outputs.
        environment: of the server and so of all commands.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._count = 0
        own = {
            "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "HF_HUB_OFFLINE": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "reliability.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **own, **environment},
        )

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        # Said, not only closed: a loader process forked meanwhile by a test has a copy of this end of the pipe.
        self._process.stdin.write(json.dumps({"stop": True}) + "\n")
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the fork server died"
        return dict(json.loads(line))

    def start(
        self,
        argv: Sequence[str],
        *,
        processes: int = 1,
        kill_at: tuple[str, int] | None = None,
        kill_with: tuple[int, ...] = (signal.SIGKILL,),
        kill_rank: int | None = None,
        kill_group: bool = False,
        seen: Path | None = None,
        setup: str | None = None,
        environment: Mapping[str, str] | None = None,
        script: Path | None = None,
        folder: Path | None = None,
        one_a_machine: bool = False,
    ) -> Running:
        """Start `speechtune ARGV`.

        Args:
            processes: that torchrun would start.
            kill_at: ("module:function", n): a process sends itself signals when it calls this the n-th time, from 1:
            kill_with: these.
            kill_rank: only in this process.
            kill_group: and in all that it started, as a terminal and a scheduler do.
            seen: folder for the rows trained on: one line a step and process.
            setup: "module:function" of the tests, called in each process before the command.
            environment: of the command. What `huggingface_hub` reads of it when it is imported is read again.
            script: `python SCRIPT ARGV` instead.
            folder: the working folder.
            one_a_machine: each process is told that it is the only one of its machine.
        """
        self._count += 1
        log = self.folder / f"log-{self._count}.txt"
        question = {
            "start": list(argv),
            "processes": processes,
            "kill_at": kill_at,
            "kill_with": kill_with,
            "kill_rank": kill_rank,
            "kill_group": kill_group,
            "seen": str(seen) if seen else None,
            "setup": setup,
            "environment": dict(environment or {}),
            "script": str(script) if script else None,
            "folder": str(folder) if folder else None,
            "one_a_machine": one_a_machine,
            "log": str(log),
        }
        answer = self.ask(question)
        return Running(self, answer["number"], answer["pids"], log)

    def run(self, argv: Sequence[str], *, kill_after_s: float | None = None, **how: Any) -> Ended:
        """Start a command and wait for its end, or kill all its processes after some seconds."""
        running = self.start(argv, **how)
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            running.kill()
        return running.end()


# ---- in the server


def serve() -> None:
    """Answer questions on stdin until told to stop."""
    import accelerate  # noqa: F401
    import av  # noqa: F401
    import rich.progress
    import rich.table  # noqa: F401
    import torch.distributed  # noqa: F401
    import transformers.models.wav2vec2.modeling_wav2vec2
    import transformers.training_args_seq2seq  # noqa: F401

    import speechtune

    for module in pkgutil.walk_packages(speechtune.__path__, "speechtune."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.freeze()  # what the imports made is no garbage, and is not copied into the forks
    children: dict[int, tuple[float, list[int]]] = {}
    number = 0
    for line in sys.stdin:
        question = json.loads(line)
        if "stop" in question:
            return
        if "wait" in question:
            started_s, pids = children.pop(question["wait"])
            codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
            answer: dict[str, Any] = {"codes": codes, "seconds": time.monotonic() - started_s}
        else:
            port = str(_free_port()) if question["processes"] > 1 else ""
            started_s = time.monotonic()
            pids = [_fork(question, rank, port) for rank in range(question["processes"])]
            number += 1
            children[number] = (started_s, pids)
            answer = {"number": number, "pids": pids}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _fork(question: dict[str, Any], rank: int, port: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        code = _child(question, rank, port)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _child(question: dict[str, Any], rank: int, port: str) -> int:
    log = os.open(question["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(question["environment"])
    _read_environment_again()
    processes = question["processes"]
    if processes > 1:
        local_rank, local_size = (0, 1) if question["one_a_machine"] else (rank, processes)
        os.environ.update(
            RANK=str(rank), LOCAL_RANK=str(local_rank), WORLD_SIZE=str(processes), LOCAL_WORLD_SIZE=str(local_size),
            MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
        )  # fmt: skip
    _forget_random_states()
    if question["kill_at"] and question["kill_rank"] in (None, rank):
        if question["kill_group"]:
            os.setpgid(0, 0)
        _die_at(*question["kill_at"], question["kill_with"], group=question["kill_group"])
    if question["seen"]:
        _write_seen(Path(question["seen"]), rank)
    if question["setup"]:
        _attribute(question["setup"])[2]()
    if question["folder"]:
        os.chdir(question["folder"])
    if question["script"]:
        return _run_script(question["script"], question["start"])
    from speechtune.cli.main import main

    return main(question["start"])


def _run_script(script: str, argv: list[str]) -> int:
    sys.argv = [script, *argv]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _read_environment_again() -> None:
    """Which hub it is and where its cache: read when the server imported the library."""
    import huggingface_hub.constants

    importlib.reload(huggingface_hub.constants)


def _forget_random_states() -> None:
    """A fork begins with its parent's; a command typed by a user does not."""
    import random

    import numpy as np
    import torch

    torch.seed()
    random.seed()
    np.random.seed()


def _attribute(target: str) -> tuple[Any, str, Any]:
    module, _, path = target.partition(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    return owner, name, getattr(owner, name)


def _die_at(target: str, number: int, kill_with: Sequence[int], *, group: bool) -> None:
    owner, name, function = _attribute(target)
    calls = 0

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        for signal_number in kill_with if calls == number else ():
            os.kill(0 if group else os.getpid(), signal_number)
        return function(*args, **kwargs)

    setattr(owner, name, dying)


def _write_seen(folder: Path, rank: int) -> None:
    """Write what each step of training is made of, when it is about to be taken."""
    from speechtune.training.trainer import SpeechTrainer

    folder.mkdir(parents=True, exist_ok=True)
    step_taken = SpeechTrainer._get_grad_norm

    def seen(self: Any, *args: Any, **kwargs: Any) -> Any:
        ids = [said.id for said in self.bad_steps.utterances]
        row = {"step": self.state.global_step + 1, "epoch": self.data_state.epoch, "ids": ids}
        with (folder / f"{rank}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        return step_taken(self, *args, **kwargs)

    SpeechTrainer._get_grad_norm = seen  # type: ignore[method-assign]


def read_seen(folder: Path) -> dict[int, tuple[int, list[str]]]:
    """Step -> (epoch, ids of all processes, sorted). Of a step that was taken twice, after a kill, the last counts."""
    steps: dict[int, dict[str, tuple[int, list[str]]]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            steps.setdefault(row["step"], {})[path.name] = (row["epoch"], row["ids"])
    return {
        step: (next(iter(parts.values()))[0], sorted(name for _, ids in parts.values() for name in ids))
        for step, parts in sorted(steps.items())
    }


if __name__ == "__main__":
    serve()
