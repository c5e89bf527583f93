"""Alone, a process is told what it said; two are told what both said; a lost one is one message."""

from __future__ import annotations

import multiprocessing
import multiprocessing.resource_sharer
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.data

from speechtune.distributed import explain_lost_process, from_first, gathered, leave_processes, on_first
from speechtune.errors import TrainingError


def one_of_two(rank: int, meeting: Path) -> None:
    """What each of two processes does; fails by its exit code."""
    import torch.distributed as distributed

    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    found = gathered({"rank": rank, "text": "ş" * (1 + 1000 * rank)})
    assert [row["rank"] for row in found] == [0, 1]
    assert [len(row["text"]) for row in found] == [1, 1001]
    assert from_first(("a", None) if rank == 0 else "ignored") == ("a", None)
    assert gathered(None) == [None, None]
    with pytest.raises(TrainingError, match=r"Another process of this run was lost: \[gloo\] Connection reset by peer"):
        with_error(RuntimeError("[gloo] Connection reset by peer\nmore lines"))
    with pytest.raises(TrainingError, match="was lost: Application timeout"):  # of a process that hangs
        with_error(RuntimeError("Application timeout caused pair closure"))
    with pytest.raises(RuntimeError, match="out of memory"):
        with_error(RuntimeError("out of memory"))
    distributed.destroy_process_group()


def with_error(error: Exception) -> None:
    with explain_lost_process():
        raise error


def exit_codes_of_two(function: Callable[[int, Path], None], meeting: Path) -> list[int | None]:
    fork = multiprocessing.get_context("fork")  # spares them the seconds that torch takes to load
    both = [fork.Process(target=function, args=(rank, meeting)) for rank in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    return [process.exitcode for process in both]


def test_alone_a_process_is_told_what_it_said():
    value = object()
    assert gathered(value) == [value] and from_first(value) is value and gathered(None) == [None]


def test_two_processes_are_told_what_both_said_in_their_order(tmp_path: Path):
    assert exit_codes_of_two(one_of_two, tmp_path / "meeting") == [0, 0]


def test_a_lost_loader_is_a_message_in_one_process_too():
    said = r"(?s)A loader process .*\(pid\(s\) 12\).*--dataloader_num_workers"
    with pytest.raises(TrainingError, match=said), explain_lost_process():
        raise RuntimeError("DataLoader worker (pid(s) 12) exited unexpectedly\nmore lines")


class Tensors(torch.utils.data.Dataset):
    """A batch each; or an error where there is none."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def __len__(self) -> int:
        return 2

    def __getitem__(self, row: int) -> torch.Tensor:
        if self.error is not None:
            raise self.error
        return torch.ones(1000)


@pytest.mark.parametrize("error", [EOFError(), ConnectionRefusedError(111, "Connection refused"), FileNotFoundError()])
def test_a_loader_lost_while_its_batch_is_taken_over_is_the_same_message(error: Exception, monkeypatch: Any):
    def ended(*_: Any) -> None:
        raise error

    loader = torch.utils.data.DataLoader(Tensors(), num_workers=1, multiprocessing_context="fork")
    batches = iter(loader)
    monkeypatch.setattr(multiprocessing.resource_sharer._ResourceSharer, "get_connection", ended)
    with pytest.raises(TrainingError, match="A loader process of this run was lost"), explain_lost_process():
        next(batches)


def test_an_error_of_the_data_itself_passes_as_it_is():
    with pytest.raises(FileNotFoundError, match="nosuch"), explain_lost_process():
        next(iter(torch.utils.data.DataLoader(Tensors(FileNotFoundError("nosuch")))))


def test_alone_a_broken_connection_is_not_of_another_process():
    with pytest.raises(RuntimeError, match="Connection reset by peer"), explain_lost_process():
        raise RuntimeError("Connection reset by peer")


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), ValueError("Broken pipe"), KeyboardInterrupt()])
def test_other_errors_pass_as_they_are(error: BaseException):
    with pytest.raises(type(error)) as caught, explain_lost_process():
        raise error
    assert caught.value is error


def test_without_an_error_nothing_happens():
    with explain_lost_process():
        done = True
    assert done


def refused(rank: int, meeting: Path) -> None:
    """The first process raises its error; the others exit with its code and say nothing."""
    import os

    import torch.distributed as distributed

    os.environ.update(RANK=str(rank), WORLD_SIZE="2")
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    assert on_first(lambda: {"plan": 1}) == {"plan": 1}

    def fail() -> None:
        raise TrainingError("the plan can't be made")

    with pytest.raises(TrainingError if rank == 0 else SystemExit) as caught:
        on_first(fail)
    assert rank == 0 or caught.value.code == TrainingError.exit_code  # type: ignore[attr-defined]
    leave_processes()
    assert not distributed.is_initialized()


def test_what_the_first_process_decides_holds_for_all(tmp_path: Path):
    assert exit_codes_of_two(refused, tmp_path / "meeting") == [0, 0]
