"""The terminal: one console on stderr, and one live area at its foot that all displays share.

Progress goes to stderr, results to stdout. While something is live, lines printed or logged appear above it. This
module is light: rich is imported when first used.

Not rich's own nesting of live displays: that needs rich 14.1, and the fork of a loader's worker can hang in it (see
`Screen.forget_after_fork`).
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

__all__ = ["Screen", "console", "screen"]

REFRESHES_PER_S = 4.0


@functools.cache
def console() -> Console:
    """The console of this process, on whatever sys.stderr is at the time of printing."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


@functools.cache
def screen() -> Screen:
    """The screen of this process: a terminal has one foot, so there is one."""
    return Screen(console())


class Screen:
    """Renderables one below the other at the foot of a terminal, redrawn some times a second until they are hidden."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._shown: list[RenderableType] = []
        self._live: Live | None = None
        self._streams: tuple[Any, Any] = (None, None)  # stdout and stderr as they were before
        self._handlers: list[tuple[logging.StreamHandler[Any], Any]] = []

    @property
    def can_be_live(self) -> bool:
        """Whether stderr is a terminal that can move its cursor; colour forced into a log does not make it one."""
        is_terminal = getattr(self.console.file, "isatty", lambda: False)()
        return bool(is_terminal) and not self.console.is_dumb_terminal

    def show(self, renderable: RenderableType) -> None:
        """Adds `renderable` at the very foot."""
        self._shown.append(renderable)
        if self._live is None:
            self._start()
        self.refresh()

    def hide(self, renderable: RenderableType) -> None:
        """Takes `renderable` away; nothing happens if it is not shown."""
        if renderable in self._shown:
            self._shown.remove(renderable)
        self.refresh()
        if not self._shown:
            self.close()

    def refresh(self) -> None:
        if self._live is not None:
            self._live.refresh()

    def say(self, text: str, *, style: str = "") -> None:
        """One line above the live area; `text` is never read as markup and not folded in a log."""
        self.console.print(text, style=style, markup=False, emoji=False, soft_wrap=self._live is None)

    def close(self) -> None:
        """Leaves the terminal as it was. Safe to be called at any time and more than once."""
        live, self._live = self._live, None
        self._shown.clear()
        if live is not None:
            live.stop()
            self._give_back_handlers()

    def _start(self) -> None:
        from rich.live import Live

        self._streams = (sys.stdout, sys.stderr)
        self._live = Live(
            get_renderable=self._foot,
            console=self.console,
            refresh_per_second=REFRESHES_PER_S,
            transient=True,
            # Results that go to a file stay there.
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=True,
        )
        self._live.start(refresh=False)
        self.console.show_cursor(True)  # else a killed run would leave the terminal without one
        self._take_handlers()
        _clean_up_once()

    def _foot(self) -> RenderableType:
        from rich.console import Group

        return Group(*self._shown)

    def _take_handlers(self) -> None:
        """Handlers of `logging` hold the stream they were made with and would write through the live area."""
        loggers = [logging.getLogger(), *map(logging.getLogger, list(logging.Logger.manager.loggerDict))]
        for handler in {handler for logger in loggers for handler in logger.handlers}:
            if type(handler) is logging.StreamHandler and handler.stream in self._streams:
                new = sys.stdout if handler.stream is self._streams[0] else sys.stderr
                self._handlers.append((handler, handler.stream))
                handler.setStream(new)

    def _give_back_handlers(self) -> None:
        while self._handlers:
            handler, stream = self._handlers.pop()
            handler.setStream(stream)

    def forget_after_fork(self) -> None:
        """In a forked child (a loader's worker): back to the plain streams, without asking for a lock.

        The parent's refreshing thread may have held rich's lock while forking; a warning printed by the child through
        the redirected stderr would then wait for ever, and the training with it.
        """
        if self._live is None:
            return
        self._live = None
        self._shown.clear()
        sys.stdout, sys.stderr = self._streams
        for handler, stream in self._handlers:
            handler.stream = stream
        self._handlers.clear()
        console.cache_clear()


@functools.cache
def _clean_up_once() -> None:
    atexit.register(lambda: screen().close())
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    screen().forget_after_fork()
    screen.cache_clear()
