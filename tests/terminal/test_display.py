"""Bars with facts, at any width, and the pace of work."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from speechtune.terminal.display import BarWithFacts, Fact, Pace, speed_text


def drawn(bar, width):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(bar)
    return console.file.getvalue().rstrip("\n").split("\n")


def example():
    return BarWithFacts(
        "Training",
        done=41,
        total=100,
        beside=[Fact("41/100 steps"), Fact("0:01:02 left")],
        below=[Fact("loss 0.41"), Fact("WER 31.2 % (best)")],
    )


def test_a_wide_terminal_shows_bar_and_facts_in_two_lines():
    first, second = drawn(example(), 100)
    assert first.startswith("Training ━")
    assert first.endswith(" 41/100 steps  0:01:02 left")
    assert second.rstrip() == "  loss 0.41  WER 31.2 % (best)"


@pytest.mark.parametrize("width", [1, 5, 12, 20, 30, 40, 60, 200])
def test_no_width_breaks_the_display(width):
    lines = drawn(example(), width)
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize("width", [30, 40, 60, 200])
def test_a_narrow_terminal_moves_facts_below_and_cuts_none(width):
    text = "\n".join(drawn(example(), width))
    for fact in [*example().beside, *example().below]:
        assert fact.text in text


def test_an_unknown_total_draws_a_bar_without_an_end():
    assert drawn(BarWithFacts("Evaluating", done=5), 40)[0].startswith("Evaluating ━")


def test_more_done_than_the_total_is_a_full_bar():
    full, over = (drawn(BarWithFacts("E", done=done, total=10), 40) for done in (10, 12))
    assert full == over


def test_pace_looks_back_over_its_window_only():
    pace = Pace(10.0)
    for now_s, amount in [(0.0, 0.0), (5.0, 5.0), (10.0, 10.0), (20.0, 110.0)]:
        pace.add(now_s, amount)
    assert pace.per_s == 10.0
    assert pace.time_for(50.0) == 5.0


def test_pace_is_unknown_before_the_second_moment_and_skips_what_comes_too_soon():
    pace = Pace(10.0, every_s=0.5)
    assert pace.add(1.0, 0.0)
    assert math.isnan(pace.per_s)
    assert math.isnan(pace.time_for(3.0))
    assert not pace.add(1.4, 99.0)
    assert pace.add(2.0, 3.0)
    assert pace.per_s == 3.0


def test_speed_has_a_digit_after_the_point_when_slow():
    assert [speed_text(v) for v in (1723.4, 9.96, 0.5)] == [
        "1,723 s of audio/s",
        "10.0 s of audio/s",
        "0.5 s of audio/s",
    ]
