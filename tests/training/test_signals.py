"""Signals ask for an end, and their handlers are restored; an output folder belongs to one run at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from speechtune.plan.output_folder import lock_folder
from speechtune.training.signals import StopAtSignal, stop_signals


@pytest.fixture
def callback() -> StopAtSignal:
    callback = StopAtSignal()
    agreement = SimpleNamespace(stop_requested=False, stop_agreed=False)
    callback.trainer = SimpleNamespace(agreement=agreement, data_state=SimpleNamespace(evaluation_due=""))
    return callback


def control(**on: bool) -> SimpleNamespace:
    names = ("should_save", "should_evaluate", "should_training_stop")
    return SimpleNamespace(**{name: on.get(name, False) for name in names})


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGINT, 130, "SIGINT: finishing this step, then saving; Ctrl-C again leaves at once, without saving."),
        (signal.SIGTERM, 143, "SIGTERM: finishing this step, then saving."),
    ],
)
def test_the_first_signal_asks_and_says_so(number: int, code: int, words: str, callback: StopAtSignal):
    said: list[str] = []
    with stop_signals(callback, said.append):
        os.kill(os.getpid(), number)
    assert callback.trainer.agreement.stop_requested and callback.exit_code == code and said == [words]


def test_a_second_ctrl_c_leaves(callback: StopAtSignal):
    with pytest.raises(KeyboardInterrupt), stop_signals(callback, lambda text: None):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_sigterm_does_not_hurry(callback: StopAtSignal):
    with stop_signals(callback, lambda text: None):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    assert callback.exit_code == 143


def test_handlers_are_restored(callback: StopAtSignal):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ZeroDivisionError), stop_signals(callback, lambda text: None):
        assert signal.getsignal(signal.SIGINT) is not before[0]
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_in_a_thread_signals_are_left_alone(callback: StopAtSignal):
    before, seen = signal.getsignal(signal.SIGINT), []

    def inside() -> None:
        with stop_signals(callback, lambda text: None):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_stop_saves_and_puts_the_evaluation_off(callback: StopAtSignal):
    callback.trainer.agreement.stop_agreed = True
    asked = control(should_evaluate=True, should_save=True)
    callback.on_step_end(SimpleNamespace(world_size=2), SimpleNamespace(), asked)
    assert asked == control(should_save=True, should_training_stop=True)
    assert callback.trainer.data_state.evaluation_due == "best"


def test_a_request_to_one_of_two_processes_waits_for_the_other(callback: StopAtSignal):
    callback.trainer.agreement.stop_requested = True
    asked = control()
    callback.on_step_end(SimpleNamespace(world_size=2), SimpleNamespace(), asked)
    assert asked == control() and not callback.stopped
    callback.on_step_end(SimpleNamespace(world_size=1), SimpleNamespace(), asked)
    assert asked == control(should_save=True, should_training_stop=True) and callback.stopped


@pytest.mark.parametrize(("epoch", "due"), [(1.0, "best"), (1.5, "")])
def test_a_broken_off_epoch_is_not_evaluated(epoch: float, due: str, callback: StopAtSignal):
    callback.trainer.agreement.stop_agreed = True
    asked = control(should_evaluate=True, should_save=True, should_training_stop=True)
    callback.on_epoch_end(SimpleNamespace(), SimpleNamespace(epoch=epoch), asked)
    assert asked == control(should_save=bool(due), should_training_stop=True)
    assert callback.trainer.data_state.evaluation_due == due


ANOTHER = """
import pathlib, sys, speechtune.errors, speechtune.plan.output_folder
try:
    with speechtune.plan.output_folder.lock_folder(pathlib.Path(sys.argv[1])):
        print("free")
except speechtune.errors.OutputError as error:
    print(error)
"""


def another_process_says(folder: Path) -> str:
    command = [sys.executable, "-c", ANOTHER, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_folder_belongs_to_one_run_at_a_time(tmp_path: Path):
    with lock_folder(tmp_path / "out"):
        said = another_process_says(tmp_path / "out")
    assert f"in use by another run (process {os.getpid()}).\nWait for it, or give another --output_dir." in said
    with lock_folder(tmp_path / "out"):
        pass


def test_a_loader_that_outlives_a_killed_run_does_not_hold_its_folder(tmp_path: Path):
    child = os.fork()
    if not child:
        with lock_folder(tmp_path):
            loader = os.fork()
            if not loader:
                time.sleep(30)
            (tmp_path / "loader").write_text(str(loader))
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    loader = int((tmp_path / "loader").read_text())
    try:
        with lock_folder(tmp_path):
            os.kill(loader, 0)  # it lives
    finally:
        os.kill(loader, signal.SIGKILL)
