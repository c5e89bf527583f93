"""Alone, a process is told what it said; two are told what both said; a lost one is one message."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from speechtune.errors import TrainingError
from speechtune.processes import from_first, gathered, lost_process_means


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
    with lost_process_means():
        raise error


def test_alone_a_process_is_told_what_it_said():
    value = object()
    assert gathered(value) == [value] and from_first(value) is value and gathered(None) == [None]


def test_two_processes_are_told_what_both_said_in_their_order(tmp_path: Path):
    fork = multiprocessing.get_context("fork")  # spares them the seconds that torch takes to load
    both = [fork.Process(target=one_of_two, args=(rank, tmp_path / "meeting")) for rank in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]


def test_a_lost_loader_is_a_message_in_one_process_too():
    said = r"(?s)A loader process .*\(pid\(s\) 12\).*--dataloader_num_workers"
    with pytest.raises(TrainingError, match=said), lost_process_means():
        raise RuntimeError("DataLoader worker (pid(s) 12) exited unexpectedly\nmore lines")


def test_alone_a_broken_connection_is_not_of_another_process():
    with pytest.raises(RuntimeError, match="Connection reset by peer"), lost_process_means():
        raise RuntimeError("Connection reset by peer")


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), ValueError("Broken pipe"), KeyboardInterrupt()])
def test_other_errors_pass_as_they_are(error: BaseException):
    with pytest.raises(type(error)) as caught, lost_process_means():
        raise error
    assert caught.value is error


def test_without_an_error_nothing_happens():
    with lost_process_means():
        done = True
    assert done
