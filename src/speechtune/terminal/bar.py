"""Progress of long work on files: a bar on a terminal, a line now and then in a log, nothing for short work."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

__all__ = ["progress_bar"]

QUIET_S = 1.0  # shorter work shows nothing
FIRST_LINE_S = 3.0  # in a log, which gets its first line then
LINE_EVERY_S = 20.0  # and others at this distance


@contextlib.contextmanager
def progress_bar(what: str, *, unit: str, shown: bool = True) -> Iterator[Callable[[float, float], None]]:
    """Give a function update(done, total) to call as often as wanted; total 0 means unknown.

    Args:
        what: "indexing common_voice/tr train".
        unit: "clips"; "bytes" is shown as MB.
        shown: False shows nothing at all, for ranks other than the first.
    """
    if not shown:
        yield lambda done, total: None
    elif sys.stderr.isatty():
        with _bar(what, unit) as update:
            yield update
    else:
        yield _lines(what, unit)


@contextlib.contextmanager
def _bar(what: str, unit: str) -> Iterator[Callable[[float, float], None]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn(escape(what)),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task(what, total=None, amount="")
    start_s = time.monotonic()
    started = False

    def update(done: float, total: float) -> None:
        nonlocal started
        if not started and time.monotonic() - start_s > QUIET_S:
            bar.start()
            started = True
        bar.update(task, completed=done, total=total or None, amount=_amount(done, total, unit))

    try:
        yield update
    finally:
        if started:
            bar.stop()


def _lines(what: str, unit: str) -> Callable[[float, float], None]:
    next_s = time.monotonic() + FIRST_LINE_S

    def update(done: float, total: float) -> None:
        nonlocal next_s
        if time.monotonic() >= next_s:
            next_s = time.monotonic() + LINE_EVERY_S
            print(f"{what}: {_amount(done, total, unit)}", file=sys.stderr, flush=True)

    return update


def _amount(done: float, total: float, unit: str) -> str:
    if unit == "bytes":
        done, total, unit = done / 1e6, total / 1e6, "MB"
    return f"{done:,.0f} of {total:,.0f} {unit}" if total else f"{done:,.0f} {unit}"
