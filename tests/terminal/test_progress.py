"""Progress of evaluations and the table of scores."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from rich.console import Console

import speechtune.terminal.progress
from speechtune.terminal.progress import evaluation_progress, print_scores_table
from speechtune.terminal.screen import Screen

SCORE = {"rate": 0.2, "low": 0.15, "high": 0.251, "hits": 8, "substitutions": 1, "deletions": 1, "insertions": 0}


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def paper(width=200):
    return Screen(Console(file=io.StringIO(), width=width))


def terminal(width=100):
    return Screen(Console(file=io.StringIO(), width=width, height=10, force_terminal=True, color_system=None))


def lines(screen):
    return screen.console.file.getvalue().splitlines()


def table(rows, width=200):
    console = Console(file=io.StringIO(), width=width)
    print_scores_table(rows, console=console)
    return [line.split() for line in console.file.getvalue().splitlines() if line.strip(" ─")]


def test_a_log_gets_a_line_every_so_many_seconds_with_speed_and_time_left():
    screen, clock = paper(), Clock()
    with evaluation_progress(400.0, label="Evaluating test", enabled=True, on=screen, clock=clock) as advance:
        for _ in range(4):
            clock.now_s += 20
            advance(50.0)
    assert lines(screen) == [
        "Evaluating test: 25.0 %, 0:02:00 left, 2.5 s of audio/s, 100 of 400 s of audio",
        "Evaluating test: 50.0 %, 0:01:20 left, 2.5 s of audio/s, 200 of 400 s of audio",
    ]


def test_short_work_leaves_nothing_in_a_log():
    screen = paper()
    with evaluation_progress(10.0, enabled=True, on=screen) as advance:
        advance(10.0)
    assert lines(screen) == []


@pytest.mark.parametrize("total_s", [0.0, float("nan")])
def test_an_unknown_total_promises_no_end(total_s):
    screen, clock = paper(), Clock()
    with evaluation_progress(total_s, enabled=True, on=screen, clock=clock) as advance:
        clock.now_s += 50
        advance(100.0)
    assert lines(screen) == ["Evaluating: 2.0 s of audio/s, 100 s of audio"]


def test_a_terminal_gets_a_bar_that_is_gone_at_the_end_even_after_an_error():
    screen = terminal()
    with (
        pytest.raises(RuntimeError),
        evaluation_progress(100.0, label="Evaluating [dev]", enabled=True, on=screen, live=True) as advance,
    ):
        advance(40.0)
        screen.refresh()
        raise RuntimeError
    assert "Evaluating [dev] ━" in screen.console.file.getvalue()
    assert screen._live is None


def test_processes_other_than_the_first_are_silent(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    screen = terminal()
    with evaluation_progress(100.0, on=screen, live=True) as advance:
        advance(100.0)
    assert screen.console.file.getvalue() == ""


def test_the_table_has_rates_intervals_and_amounts():
    rows = [{"name": "tr test", "scores": {"wer": SCORE, "cer": {"rate": 0.05}}, "utterances": 1647, "hours": 2.334}]
    assert table(rows) == [
        ["WER", "95", "%", "interval", "CER", "95", "%", "interval", "utterances", "words", "hours"],
        ["tr", "test", "20.0", "%", "15.0", "to", "25.1", "%", "5.0", "%", "1,647", "10", "2.33"],
    ]


def test_what_a_row_does_not_know_stays_empty():
    nan = float("nan")
    (_, row) = table([{"name": "x", "scores": {"wer": {"rate": 0.5, "low": nan, "high": nan}}}])
    assert row == ["x", "50.0", "%"]


def test_names_are_neither_markup_nor_orders_to_the_terminal():
    (_, row) = table([{"name": "[red]a[/red]\x1b[31m", "scores": {"wer": {"rate": 0.5}}}])
    assert row[0] == "[red]a[/red][U+001B][31m"


def test_a_narrow_console_breaks_nothing():
    assert table([{"name": "common_voice/tr test", "scores": {"wer": SCORE, "cer": SCORE}, "utterances": 9}], width=30)


def test_scores_go_to_stdout_and_survive_an_encoding_without_their_letters():
    row = {"name": "Türkçe", "scores": {"wer": {"rate": 0.5}}}
    script = f"from speechtune.terminal.progress import print_scores_table; print_scores_table([{row!r}])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        env={"PYTHONIOENCODING": "ascii", "PATH": ""},
        timeout=60,
        check=True,
    )
    assert rb"T\xfcrk\xe7e" in done.stdout
    assert b"50.0 %" in done.stdout
    assert done.stderr == b""


def test_importing_the_module_imports_neither_torch_nor_transformers_nor_rich():
    script = (
        "import sys, speechtune.terminal.progress; print(sorted({'torch', 'transformers', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        speechtune.terminal.progress.no_such_name  # noqa: B018
