"""Progress of long work: on a terminal one live display below the log lines, elsewhere a plain line now and then.

Progress goes to stderr, results to stdout. All bars of a process are rows of one display, so an evaluation inside a
training adds a row. The display redraws itself several times a second, so its clock runs during long steps too.
Importing this module is cheap: rich is imported when first used.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from speechtune.terminal.formatting import clock_text, visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.progress import Progress, Task

__all__ = ["AUDIO", "Bar", "Display", "Fact", "console", "display", "evaluation_progress", "progress_bar", "speed_text"]

Fact = tuple[str, str]  # text and rich style, shown below a bar: ("loss 0.41", "")

QUIET_S = 1.0  # shorter work shows nothing on a terminal
FIRST_LINE_S, LINE_EVERY_S = 10.0, 30.0  # of a log
REFRESHES_PER_S = 4.0
MARGIN = 4  # columns kept free: the terminal's "^C" would else begin a line that is never cleared
SPEED_WINDOW_S = 600.0  # long enough to count the evaluations inside a training
AUDIO = "s of audio"  # the unit of bars that show their speed as a multiple of real time


@functools.cache
def console() -> Console:
    """Return this process' console on stderr (the sys.stderr at the time of printing)."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


@functools.cache
def display() -> Display:
    """Return this process' display."""
    shared = Display(console())
    atexit.register(shared.close)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=shared.forget_after_fork)
    return shared


@contextlib.contextmanager
def progress_bar(what: str, *, unit: str, shown: bool = True) -> Iterator[Callable[[float, float], None]]:
    """Show the progress of the work inside the `with` block.

    Args:
        what: "indexing common_voice/tr train".
        unit: "clips"; "bytes" are shown as MB.
        shown: False shows nothing, for ranks other than the first.

    Yields:
        update(done, total), cheap enough for every item; total 0 means unknown.
    """
    if not shown:
        yield lambda done, total: None
        return
    bar = display().add_bar(what, unit=unit)
    try:
        yield bar.update
    finally:
        bar.close()


@contextlib.contextmanager
def evaluation_progress(
    total_s: float, *, label: str = "Evaluating", enabled: bool | None = None
) -> Iterator[Callable[[float], None]]:
    """Show the progress of an evaluation.

    Args:
        total_s: seconds of audio that this process will recognise; 0 or nan if unknown.
        label: what is done.
        enabled: False shows nothing; None shows it on the first process of torchrun only.

    Yields:
        advance(audio_s), to be called with the seconds of audio that were just recognised.
    """
    done_s = 0.0

    def advance(audio_s: float) -> None:
        nonlocal done_s
        done_s += audio_s
        update(done_s, total_s)

    is_first = os.environ.get("RANK", "0") in ("", "0")
    with progress_bar(label, unit=AUDIO, shown=is_first if enabled is None else enabled) as update:
        yield advance


def speed_text(audio_s_per_s: float) -> str:
    """Return 46.2 as "46x real time", 2.54 as "2.5x real time"."""
    return f"{audio_s_per_s:,.{0 if audio_s_per_s >= 10 else 1}f}x real time"


class Display:
    """All bars of a process, as rows of one live area of a terminal or as plain lines in a log."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self.clock = console, clock
        self.progress = _rich_progress(console, clock)
        self._live: Live | None = None
        self._streams: tuple[TextIO, TextIO] = (sys.stdout, sys.stderr)  # before the live area redirected them

    @property
    def is_live(self) -> bool:
        """Whether stderr is a terminal that can move its cursor; colour forced into a log does not make it one."""
        return self.console.file.isatty() and not self.console.is_dumb_terminal

    def add_bar(self, what: str, *, unit: str, total: float = 0.0, done: float = 0.0) -> Bar:
        """Add a row below the others; the caller must close it."""
        bar = Bar(self, what, unit=unit, total=total, done=done)
        if self.is_live and self._live is None:
            self._start()
        return bar

    def say(self, text: str) -> None:
        """Print one line above the live area."""
        self.console.print(visible(text), markup=False, emoji=False, soft_wrap=self._live is None)

    def remove(self, task: Task) -> None:
        """Remove a bar's row, and the live area with the last one."""
        if task in self.progress.tasks:
            self.progress.remove_task(task.id)
        if not self.progress.tasks:
            self.close()

    def close(self) -> None:
        """Restore the terminal; safe at any time and more than once."""
        live, self._live = self._live, None
        if live is not None:
            redirected = (sys.stdout, sys.stderr)
            live.stop()
            _move_log_handlers(redirected, self._streams)

    def rows(self) -> RenderableType:
        """Return the bars and the facts below them, as drawn now."""
        from rich.columns import Columns
        from rich.console import Group
        from rich.constrain import Constrain
        from rich.padding import Padding
        from rich.text import Text

        tasks = [task for task in self.progress.tasks if (task.elapsed or 0.0) >= QUIET_S]
        if not tasks:
            return Group()
        facts = [Columns([Text(*fact) for fact in task.fields["facts"]], padding=(0, 2)) for task in tasks]
        below = [Padding(row, (0, 0, 0, 2)) for row in facts if row.renderables]
        rows = Group(self.progress.make_tasks_table(tasks), *below)
        return Constrain(rows, max(self.console.width - MARGIN, 1))

    def forget_after_fork(self) -> None:
        """Return to the plain streams in a forked loader worker, without taking a lock.

        The parent's refresh thread may have held rich's lock during the fork; a warning that the child prints through
        the redirected stderr would then wait forever, and the training with it.
        """
        if self._live is not None:
            self._live = None
            _move_log_handlers((sys.stdout, sys.stderr), self._streams)
            sys.stdout, sys.stderr = self._streams
        display.cache_clear()
        console.cache_clear()

    def _start(self) -> None:
        from rich.live import Live

        self._streams = (sys.stdout, sys.stderr)
        self._live = Live(
            get_renderable=self.rows,
            console=self.console,
            refresh_per_second=REFRESHES_PER_S,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # results that go to a file must not go through the display
        )
        self._live.start()
        self.console.show_cursor(True)  # a killed run would leave the terminal without one
        _move_log_handlers(self._streams, (sys.stdout, sys.stderr))


def _move_log_handlers(before: tuple[TextIO, TextIO], after: tuple[TextIO, TextIO]) -> None:
    """Move handlers of `logging` from old streams to new ones: each holds the stream that it was created with."""
    loggers = [logging.getLogger(), *map(logging.getLogger, list(logging.Logger.manager.loggerDict))]
    for handler in {handler for logger in loggers for handler in logger.handlers}:
        if type(handler) is logging.StreamHandler and handler.stream in before:
            handler.stream = after[before.index(handler.stream)]  # not `setStream`, which waits for locks


class Bar:
    """One row of the display; in a log a line after 10 s, then one every 30 s."""

    def __init__(self, display: Display, what: str, *, unit: str, total: float, done: float) -> None:
        self._display, self._what = display, visible(what)
        progress = display.progress
        task_id = progress.add_task(self._what, total=_known(total), completed=int(done), unit=unit, facts=())
        self._task = next(task for task in progress.tasks if task.id == task_id)
        self._next_line_s = display.clock() + FIRST_LINE_S

    def update(self, done: float, total: float = 0.0, facts: Sequence[Fact] = ()) -> None:
        """Show that `done` of `total` is done; total 0 means unknown. Facts are listed below the bar."""
        self._task.total = _known(total)  # not through `progress.update`, for which a new total is a new start
        self._display.progress.update(self._task.id, completed=done, facts=facts)
        now_s = self._display.clock()
        if now_s >= self._next_line_s and not self._display.is_live:
            self._next_line_s = now_s + LINE_EVERY_S
            words = [_amount(self._task), _time_left(self._task), _speed(self._task), *(text for text, _ in facts)]
            self._display.say(f"{self._what}: {', '.join(filter(None, words))}")

    def close(self) -> None:
        """Remove the row; safe at any time and more than once."""
        self._display.remove(self._task)


def _rich_progress(console: Console, clock: Callable[[], float]) -> Progress:
    """Return the rows' columns; text that is too wide for the terminal is folded, never cut."""
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
    from rich.table import Column
    from rich.text import Text

    class Words(ProgressColumn):
        def __init__(self, describe: Callable[[Task], str]) -> None:
            super().__init__(Column(overflow="fold", justify="right"))
            self.describe = describe

        def render(self, task: Task) -> Text:
            return Text(self.describe(task))

    columns = (
        TextColumn("{task.description}", markup=False, table_column=Column(overflow="fold")),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        Words(lambda task: ", ".join(filter(None, (_amount(task).removesuffix(" of audio"), _speed(task))))),
        Words(lambda task: ", ".join(filter(None, (clock_text(task.elapsed or 0.0), _time_left(task))))),
    )
    return Progress(*columns, console=console, expand=True, speed_estimate_period=SPEED_WINDOW_S, get_time=clock)


def _known(total: float) -> float | None:
    return total if total > 0 else None


def _amount(task: Task) -> str:
    done, total, unit = task.completed, task.total, task.fields["unit"]
    if unit == "bytes":
        done, total, unit = done / 1e6, total and total / 1e6, "MB"
    return f"{done:,.0f} of {total:,.0f} {unit}" if total else f"{done:,.0f} {unit}"


def _time_left(task: Task) -> str:
    return "" if task.time_remaining is None else f"{clock_text(task.time_remaining)} left"


def _speed(task: Task) -> str:
    return speed_text(task.speed) if task.speed and task.fields["unit"] == AUDIO else ""
