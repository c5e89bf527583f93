"""Bars on a terminal, lines in a log."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from rich.console import Console

import speechtune.terminal
from speechtune.terminal import progress
from speechtune.terminal.progress import AUDIO, Display, console, display, evaluation_progress, progress_bar, speed_text

FACTS = [("loss 0.41", ""), ("WER 31.2 % (best)", "green")]


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log(monkeypatch, clock):
    """The process' display, as in a log file."""
    shared = Display(Console(file=io.StringIO(), width=200), clock=clock)
    monkeypatch.setattr(progress, "display", lambda: shared)
    return shared


@pytest.fixture
def terminal(monkeypatch, clock):
    """The process' display, as on a terminal of 80 columns."""
    output = Console(file=Screen(), width=80, height=20, force_terminal=True, color_system=None, _environ={})
    shared = Display(output, clock=clock)
    monkeypatch.setattr(progress, "display", lambda: shared)
    yield shared
    shared.close()


def written(shared):
    return shared.console.file.getvalue()


def drawn(shared, width=80):
    output = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    shared.console.width = width
    output.print(shared.rows())
    return [line.rstrip() for line in output.file.getvalue().split("\n")[:-1]]


# ---- in a log


def test_a_log_gets_a_line_every_so_many_seconds_with_time_left_and_speed(log, clock):
    with evaluation_progress(400.0, label="Evaluating test", enabled=True) as advance:
        for _ in range(8):
            clock.now_s += 8
            advance(20.0)
    assert written(log).splitlines() == [
        "Evaluating test: 40 of 400 s of audio, 0:02:24 left, 2.5x real time",
        "Evaluating test: 120 of 400 s of audio, 0:01:52 left, 2.5x real time",
    ]


def test_short_work_leaves_nothing_in_a_log(log):
    with evaluation_progress(10.0, enabled=True) as advance:
        advance(10.0)
    assert written(log) == ""


@pytest.mark.parametrize("total_s", [0.0, float("nan")])
def test_an_unknown_total_promises_no_end(log, clock, total_s):
    with evaluation_progress(total_s, enabled=True) as advance:
        advance(100.0)
        clock.now_s += 50
        advance(100.0)
    assert written(log).splitlines() == ["Evaluating: 200 s of audio, 2.0x real time"]


def test_bytes_are_shown_as_megabytes(log, clock):
    for total in (4e6, 0):
        with progress_bar("unpacking", unit="bytes") as update:
            clock.now_s += 50
            update(2_000_000, total)
    assert written(log).splitlines() == ["unpacking: 2 of 4 MB", "unpacking: 2 MB"]


def test_processes_other_than_the_first_are_silent(terminal, clock, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with evaluation_progress(100.0) as advance, progress_bar("indexing", unit="clips", shown=False) as update:
        clock.now_s += 50
        advance(100.0)
        update(5, 10)
    assert written(terminal) == ""


def test_a_stream_that_is_no_terminal_is_never_live_even_with_colour_forced(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not Display(Console(file=io.StringIO())).is_live


def test_speed_is_a_multiple_of_real_time_with_a_digit_after_the_point_when_slow():
    assert [speed_text(v) for v in (1723.4, 46.2, 9.94, 0.5)] == [
        *("1,723x real time", "46x real time", "9.9x real time", "0.5x real time")
    ]


# ---- on a terminal


def training_with_evaluation(shared, clock):
    training, evaluation = shared.add_bar("Training", unit="steps"), shared.add_bar("Evaluating [dev]", unit=AUDIO)
    for done in (1, 2):
        clock.now_s += 100
        training.update(1000 * done, 10_000, FACTS)
        evaluation.update(500 * done, 2_000)


def test_eighty_columns_hold_a_training_its_facts_and_the_evaluation_in_it(terminal, clock):
    training_with_evaluation(terminal, clock)
    training, evaluation, facts = drawn(terminal)
    assert training.startswith("Training         ")
    assert training.endswith(" 2,000 of 10,000 steps 0:03:20, 0:13:20 left")
    assert evaluation.startswith("Evaluating [dev] ")
    assert evaluation.endswith(" 1,000 of 2,000 s, 5.0x real time 0:03:20, 0:03:20 left")
    assert facts == "  loss 0.41  WER 31.2 % (best)"


@pytest.mark.parametrize("width", [1, 5, 12, 20, 30, 40, 60, 200])
def test_no_width_breaks_the_display(terminal, clock, width):
    training_with_evaluation(terminal, clock)
    assert all(len(line) <= width for line in drawn(terminal, width))


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_narrow_terminal_folds_text_and_cuts_none(terminal, clock, width):
    training_with_evaluation(terminal, clock)
    text = "".join("".join(drawn(terminal, width)).split())
    for word in ["Training", "10,000", "steps", "0:13:20", "left", "loss0.41", "WER31.2%(best)"]:
        assert word in text


def test_the_display_leaves_room_for_the_characters_that_ctrl_c_writes(terminal, clock):
    training_with_evaluation(terminal, clock)
    assert max(map(len, drawn(terminal))) <= 80 - len("^C^C")


def test_more_done_than_the_total_is_a_full_bar(terminal, clock):
    bar = terminal.add_bar("indexing", unit="clips")
    clock.now_s += 5
    bar.update(12, 10)
    assert drawn(terminal)[0].endswith("━ 12 of 10 clips 0:00:05, 0:00:00 left")


def test_a_total_that_grows_does_not_lose_the_speed(terminal, clock):
    bar = terminal.add_bar("indexing", unit="clips")
    for done, total in [(10, 20), (20, 40), (30, 60)]:
        clock.now_s += 1
        bar.update(done, total)
    assert drawn(terminal)[0].endswith("30 of 60 clips 0:00:03, 0:00:03 left")


def test_work_shorter_than_a_second_shows_no_bar(terminal, clock):
    with progress_bar("indexing", unit="clips") as update:
        clock.now_s += 0.9
        update(5, 10)
        assert drawn(terminal) == []
    assert "indexing" not in written(terminal)


def test_the_clock_of_a_bar_runs_without_updates(terminal, clock):
    with progress_bar("indexing", unit="clips"):
        clock.now_s += 5
        assert drawn(terminal)[0].endswith(" 0 clips 0:00:05")


def test_a_bar_is_gone_at_the_end_even_after_an_error(terminal, clock):
    before = sys.stderr
    with pytest.raises(RuntimeError), evaluation_progress(100.0, enabled=True) as advance:
        clock.now_s += 5
        advance(40.0)
        assert sys.stderr is not before
        raise RuntimeError
    assert drawn(terminal) == []
    assert sys.stderr is before


def test_lines_appear_above_the_bars_as_they_are(terminal, clock):
    bar = terminal.add_bar("indexing", unit="clips")
    clock.now_s += 5
    terminal._live.refresh()
    terminal.say("a line [bold]kept as it is[/bold] :smile:\x1b[31m")
    bar.close()
    text = written(terminal)
    assert "a line [bold]kept as it is[/bold] :smile:[U+001B][31m\n" in text
    assert text.index("a line") < text.rindex("indexing")
    assert "\x1b[2K" in text[text.rindex("indexing") :]  # the bar's line is cleared


def test_one_live_area_holds_all_bars_and_ends_with_the_last(terminal):
    before = sys.stderr
    outer, inner = terminal.add_bar("outer", unit="clips"), terminal.add_bar("inner", unit="clips")
    redirected = sys.stderr
    inner.close()
    inner.close()
    assert sys.stderr is redirected is not before
    outer.close()
    assert sys.stderr is before


def test_log_handlers_write_above_the_bars_and_get_their_stream_back(terminal):
    before = sys.stderr
    handler = logging.StreamHandler()
    logger = logging.getLogger("speechtune.test_progress")
    logger.addHandler(handler)
    try:
        bar = terminal.add_bar("indexing", unit="clips")
        assert handler.stream is sys.stderr is not before
        logger.warning("logged while live")
        bar.close()
        assert handler.stream is sys.stderr is before
    finally:
        logger.removeHandler(handler)
    assert "logged while live" in written(terminal)


def test_there_is_one_console_and_one_display():
    assert console() is console()
    assert console().stderr
    assert display() is display()


# ---- on a real terminal


def on_a_terminal(script):
    """Runs Python with a terminal as stderr; returns the process and what the terminal got."""
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


def test_a_long_step_shows_a_running_clock_results_stay_in_their_file_and_the_cursor_is_shown():
    done, seen = on_a_terminal(
        """
        import time
        from speechtune.terminal.progress import progress_bar
        with progress_bar("indexing", unit="clips"):
            print("result")
            time.sleep(2.4)
        """
    )
    assert (done.returncode, done.stdout) == (0, "result\n")
    assert "result" not in seen
    assert "0 clips 0:00:01" in seen
    assert "0 clips 0:00:02" in seen
    assert seen.rindex("\x1b[?25h") > seen.rfind("\x1b[?25l")


def test_a_bar_that_nobody_closes_is_removed_at_exit():
    done, seen = on_a_terminal(
        """
        from speechtune.terminal import progress
        progress.QUIET_S = 0.0
        progress.display().add_bar("indexing", unit="clips")
        """
    )
    assert done.returncode == 0
    assert seen.rindex("\x1b[2K") > seen.rindex("indexing")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_worker_does_not_wait_for_a_lock_that_nobody_will_give_back():
    done, seen = on_a_terminal(
        """
        import logging, os, sys, threading, time, warnings
        from speechtune.terminal.progress import console, display

        logging.getLogger("worker").addHandler(logging.StreamHandler())
        display().add_bar("indexing", unit="clips")
        held = threading.Event()

        def hold():  # as the refresh thread does while it draws
            with display()._live._lock, console()._lock:
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


def test_importing_terminal_modules_imports_neither_torch_nor_transformers_nor_rich():
    modules = [f"speechtune.terminal.{path.stem}" for path in Path(speechtune.terminal.__file__).parent.glob("*.py")]
    script = (
        f"import sys, {', '.join(modules)}; print(sorted({{'torch', 'transformers', 'rich'}} & set(sys.modules)))"
    ).replace(".__init__", "")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
