"""The table of scores."""

from __future__ import annotations

import io
import os
import subprocess
import sys

from rich.console import Console

from speechtune.terminal.scores import print_scores_table

SCORE = {"rate": 0.2, "low": 0.15, "high": 0.251, "hits": 8, "substitutions": 1, "deletions": 1, "insertions": 0}


def table(rows, width=200):
    console = Console(file=io.StringIO(), width=width)
    print_scores_table(rows, console=console)
    return [line.strip() for line in console.file.getvalue().splitlines() if line.strip(" ─")]


def test_the_table_has_rates_intervals_and_amounts():
    rows = [{"name": "tr test", "scores": {"wer": SCORE, "cer": {"rate": 0.05}}, "utterances": 1647, "hours": 2.334}]
    assert table(rows) == [
        "rate   95 % interval  utterances  words  hours",
        "tr test  WER  20.0 %  15.0 to 25.1 %       1,647     10   2.33",
        "CER   5.0 %",
    ]


def test_what_a_row_does_not_know_stays_empty():
    nan = float("nan")
    (_, row) = table([{"name": "x", "scores": {"wer": {"rate": 0.5, "low": nan, "high": nan}}}])
    assert row == "x  WER  50.0 %"


def test_names_are_neither_markup_nor_orders_to_the_terminal():
    (_, row) = table([{"name": "[red]a[/red]\x1b[31m", "scores": {"wer": {"rate": 0.5}}}])
    assert row.startswith("[red]a[/red][U+001B][31m ")


def test_eighty_columns_hold_every_figure_and_long_names_are_folded():
    score = {"rate": 1.1234, "low": 1.1, "high": 1.15}
    row = {"scores": {"wer": score, "cer": score, "per": score}, "utterances": 100_000, "words": 1_234_567, "hours": 99}
    heading, *lines = table([{"name": "common_voice_17_0 tr test, an unseen voice", **row}], width=80)
    assert "utterances" in heading
    assert lines[0].endswith("WER  112.3 %  110.0 to 115.0 %     100,000  1,234,567  99.00")
    assert [line.split("ER")[1].split() for line in lines[1:3]] == [["112.3", "%", "110.0", "to", "115.0", "%"]] * 2
    assert "".join(line.split("ER")[0][:-3] for line in lines[:3]).split() == [
        *("common_voice_17_0", "tr", "test,", "an", "unseen", "voice")
    ]


def test_a_narrow_console_breaks_nothing():
    assert table([{"name": "common_voice/tr test", "scores": {"wer": SCORE, "cer": SCORE}, "utterances": 9}], width=30)


def test_scores_go_to_stdout_and_survive_an_encoding_without_their_letters():
    row = {"name": "Türkçe", "scores": {"wer": {"rate": 0.5}}}
    script = f"from speechtune.terminal.scores import print_scores_table; print_scores_table([{row!r}])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        timeout=60,
        check=True,
    )
    assert rb"T\xfcrk\xe7e" in done.stdout
    assert b"50.0 %" in done.stdout
    assert done.stderr == b""
