"""Several processes of one run, started by torchrun; everything here also works in a single process."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from speechtune.errors import SpeechtuneError, TrainingError

__all__ = [
    "explain_lost_process",
    "from_first",
    "gathered",
    "is_first_process",
    "join_processes",
    "leave_processes",
    "on_first",
]

T = TypeVar("T")
DEFAULT_TIMEOUT_S = 1800.0  # of TrainingArguments' --ddp_timeout
_LOST_MESSAGES = (
    "connection closed", "connection reset", "connection refused", "broken pipe", "socket", "nccl", "timed out",
    "timeout", "pair closure",
)  # fmt: skip


def is_first_process() -> bool:
    """Whether this process writes files and messages; known from the environment, before processes are joined."""
    return os.environ.get("RANK", "0") == "0"


def join_processes(*, timeout_s: float = DEFAULT_TIMEOUT_S, use_cpu: bool = False, backend: str | None = None) -> None:
    """Join the processes that torchrun started; nothing happens in a single process.

    Args:
        timeout_s: after so long without an answer a process counts as lost. (Without GPUs transformers ignores
            --ddp_timeout: a process that hangs would hold the others for half an hour.)
        use_cpu: even where there are GPUs.
        backend: --ddp_backend.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        return
    import torch

    if torch.distributed.is_initialized():
        return
    timeout = timedelta(seconds=timeout_s)
    if (use_cpu or not torch.cuda.is_available()) and backend in (None, "gloo"):
        torch.distributed.init_process_group("gloo", timeout=timeout)
        return
    from accelerate import PartialState

    PartialState(cpu=use_cpu, timeout=timeout, **({"backend": backend} if backend else {}))


def leave_processes() -> None:
    """Close the connections that join_processes opened, so that the interpreter can end.

    With gloo's threads still running it may abort (SIGABRT) at its end, and the exit code is lost. NCCL's groups are
    left as they are: closing one waits for the other processes, which may have failed.
    """
    if "torch.distributed" not in sys.modules:
        return
    import torch.distributed as distributed

    if distributed.is_available() and distributed.is_initialized() and distributed.get_backend() == "gloo":
        distributed.destroy_process_group()


def _are_several() -> bool:
    import torch.distributed as distributed

    return bool(distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1)


def gathered(value: T) -> list[T]:
    """Return the value of each process, in the order of their ranks. Every process has to call it."""
    if not _are_several():
        return [value]
    import torch.distributed as distributed

    values: list[T] = [value] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def from_first(value: T) -> T:
    """Return the first process's value. Every process has to call it."""
    if not _are_several():
        return value
    import torch.distributed as distributed

    shared = [value]
    distributed.broadcast_object_list(shared)
    return shared[0]


def on_first(function: Callable[[], T]) -> T:
    """Call `function` on the first process only, and return its result on all of them.

    An error of the first is raised there; the others exit with its exit code and without a message of their own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        return function()
    result: list[T] = []
    failure: SpeechtuneError | None = None
    if is_first_process():
        try:
            result.append(function())
        except SpeechtuneError as error:
            failure = error
    result, exit_code = from_first((result, failure.exit_code if failure else 0))
    if failure is not None:
        raise failure
    if exit_code:
        raise SystemExit(exit_code)
    return result[0]


@contextmanager
def explain_lost_process() -> Iterator[None]:
    """Turn a broken connection to another process, or a dead loader worker, into one message; other errors pass.

    The end of another process shows at once, as a closed connection; one that hangs, after --ddp_timeout seconds.

    Raises:
        TrainingError: a process or a loader worker was lost.
    """
    try:
        yield
    except (EOFError, OSError) as error:
        if not _raised_in_loader(error):  # the worker died while its batch was received
            raise
        raise _lost_loader(error) from error
    except RuntimeError as error:  # torch.distributed raises subclasses of it
        if "DataLoader worker (pid" in str(error):
            raise _lost_loader(error) from error
        if not _are_several() or not any(words in str(error).lower() for words in _LOST_MESSAGES):
            raise
        raise TrainingError(
            f"Another process of this run was lost: {str(error).strip().splitlines()[0][:200]}\n"
            "Its own last lines say more. The same command resumes from the last whole checkpoint."
        ) from error


def _lost_loader(error: Exception) -> TrainingError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return TrainingError(
        f"A loader process of this run was lost: {first}\n"
        "Most often the machine ran out of memory, or a container of shared memory (/dev/shm): lower "
        "--dataloader_num_workers or the batch. The same command resumes from the last whole checkpoint."
    )


def _raised_in_loader(error: BaseException) -> bool:
    """Whether the error came up while a batch was received from a loader process."""
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    return "torch.utils.data.dataloader" in modules and any(name.startswith("multiprocessing.") for name in modules)
