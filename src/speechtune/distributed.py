"""What several processes of one run tell each other; alone, a process is told what it said."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from speechtune.errors import TrainingError

__all__ = ["from_first", "gathered", "lost_process_means"]

T = TypeVar("T")
_SIGNS_OF_LOSS = (
    "connection closed", "connection reset", "connection refused", "broken pipe", "socket", "nccl", "timed out",
    "timeout", "pair closure",
)  # fmt: skip


def _are_several() -> bool:
    import torch.distributed as distributed

    return bool(distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1)


def gathered(value: T) -> list[T]:
    """What each process gave, in the order of their numbers. All have to call it."""
    if not _are_several():
        return [value]
    import torch.distributed as distributed

    values: list[T] = [value] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def from_first(value: T) -> T:
    """What the first process gave. All have to call it."""
    if not _are_several():
        return value
    import torch.distributed as distributed

    shared = [value]
    distributed.broadcast_object_list(shared)
    return shared[0]


def _loader_lost(error: Exception) -> TrainingError:
    said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return TrainingError(
        f"A loader process of this run was lost: {said}\n"
        "Most often the machine ran out of memory, or a container of shared memory (/dev/shm): lower "
        "--dataloader_num_workers or the batch. The same command goes on from the last whole checkpoint."
    )


def _met_in_loader(error: BaseException) -> bool:
    """Whether it came up while this process took over a batch from a loader's process."""
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    return "torch.utils.data.dataloader" in modules and any(name.startswith("multiprocessing.") for name in modules)


@contextmanager
def lost_process_means() -> Iterator[None]:
    """Turn a broken connection to another process, or a loader's end, into one message; other errors pass.

    The others' end shows at once, as a closed connection; one that hangs shows after `--ddp_timeout` seconds.
    """
    try:
        yield
    except (EOFError, OSError) as error:
        if not _met_in_loader(error):  # it died while a batch of its was taken over
            raise
        raise _loader_lost(error) from error
    except RuntimeError as error:  # torch.distributed raises kinds of it
        if "DataLoader worker (pid" in str(error):
            raise _loader_lost(error) from error
        if not _are_several() or not any(sign in str(error).lower() for sign in _SIGNS_OF_LOSS):
            raise
        raise TrainingError(
            f"Another process of this run was lost: {str(error).strip().splitlines()[0][:200]}\n"
            "Its own last lines say more. The same command goes on from the last whole checkpoint."
        ) from error
