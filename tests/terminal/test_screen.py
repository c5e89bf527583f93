"""The one live area of a terminal."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import textwrap

import pytest
from rich.console import Console
from rich.text import Text

from speechtune.terminal.screen import Screen, console, screen


@pytest.fixture
def terminal():
    screen = Screen(Console(file=io.StringIO(), width=60, height=20, force_terminal=True, color_system=None))
    yield screen
    screen.close()


def on_a_terminal(script):
    """Runs Python with a terminal as stderr; returns stdout and what the terminal got."""
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            stdout=subprocess.PIPE,
            stderr=slave,
            text=True,
            timeout=60,
            env={**os.environ, "TERM": "xterm"},
            check=False,
        )
    finally:
        os.close(slave)
    seen = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        seen += part
        if not part:
            break
    os.close(master)
    return done, seen.decode()


def test_there_is_one_console_and_one_screen():
    assert console() is console()
    assert screen() is screen()
    assert console().stderr


def test_a_stream_that_is_no_terminal_is_never_live_even_with_colour_forced(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not Screen(Console(file=io.StringIO())).can_be_live


def test_what_is_said_appears_above_and_the_live_area_is_taken_away(terminal):
    terminal.show(Text("BAR"))
    terminal.say("a line [bold]kept as it is[/bold] :smile:")
    terminal.close()
    text = terminal.console.file.getvalue()
    assert "a line [bold]kept as it is[/bold] :smile:" in text
    assert text.index("BAR") < text.index("a line")
    assert "\x1b[2K" in text[text.rindex("BAR") :]  # the bar's line is cleared


def test_streams_and_log_handlers_are_given_back(terminal):
    before = sys.stderr
    handler = logging.StreamHandler()
    logger = logging.getLogger("speechtune.test_screen")
    logger.addHandler(handler)
    try:
        terminal.show(Text("BAR"))
        assert sys.stderr is not before
        assert handler.stream is sys.stderr
        logger.warning("logged while live")
        terminal.hide(terminal._shown[0])
        assert sys.stderr is before
        assert handler.stream is before
    finally:
        logger.removeHandler(handler)
    assert "logged while live" in terminal.console.file.getvalue()


def test_closing_twice_or_hiding_what_is_not_shown_does_nothing(terminal):
    terminal.hide(Text("never shown"))
    terminal.show(Text("BAR"))
    terminal.close()
    terminal.close()


def test_the_last_one_hidden_ends_the_live_area(terminal):
    outer, inner = Text("OUTER"), Text("INNER")
    before = sys.stderr
    terminal.show(outer)
    terminal.show(inner)
    terminal.hide(inner)
    assert sys.stderr is not before
    terminal.hide(outer)
    assert sys.stderr is before


def test_on_a_terminal_results_that_go_to_a_file_stay_there_and_the_cursor_is_shown():
    done, seen = on_a_terminal(
        """
        from rich.text import Text
        from speechtune.terminal.screen import screen
        assert screen().can_be_live
        screen().show(Text("BAR"))
        print("result")
        """
    )
    assert (done.returncode, done.stdout) == (0, "result\n")
    assert "BAR" in seen
    assert "result" not in seen
    assert seen.rindex("\x1b[?25h") > seen.rfind("\x1b[?25l")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_worker_does_not_wait_for_a_lock_that_nobody_will_give_back():
    done, seen = on_a_terminal(
        """
        import logging, os, sys, threading, time, warnings
        from rich.text import Text
        from speechtune.terminal.screen import console, screen

        logging.getLogger("worker").addHandler(logging.StreamHandler())
        screen().show(Text("BAR"))
        held = threading.Event()

        def hold():  # as the refreshing thread does while it draws
            with screen()._live._lock, console()._lock:
                held.set()
                time.sleep(30)

        threading.Thread(target=hold, daemon=True).start()
        held.wait()
        child = os.fork()
        if child == 0:
            print("a print", file=sys.stderr)
            logging.getLogger("worker").warning("a warning")
            os._exit(7)
        for _ in range(100):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            time.sleep(0.1)
        else:
            os.kill(child, 9)
        print(os.waitstatus_to_exitcode(status) if done else "hangs", flush=True)
        os._exit(0)
        """
    )
    assert done.stdout == "7\n"
    assert "a print" in seen
    assert "a warning" in seen
