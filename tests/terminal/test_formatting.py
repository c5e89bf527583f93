"""Figures and foreign text in words."""

from __future__ import annotations

import json
import math

import pytest

from speechtune.terminal.formatting import (
    character_name,
    clock_text,
    duration_text,
    interval_text,
    percent,
    shorten,
    visible,
)


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0.184, "18.4 %"),
        (0.0, "0.0 %"),
        (0.0042, "0.42 %"),
        (1.0, "100.0 %"),
        (12.5, "1,250 %"),
        (math.inf, "no reference"),
        (math.nan, "no reference"),
    ],
)
def test_percent_has_digits_that_matter(rate, text):
    assert percent(rate) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (4.26, "4.3 s"),
        (42.4, "42 s"),
        (59.7, "1 min"),
        (1270.0, "21 min 10 s"),
        (5400.0, "1 h 30 min"),
        (7200.0, "2 h"),
    ],
)
def test_duration_has_two_units_at_most(seconds, text):
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00:00"), (3723.0, "1:02:03"), (100_000.0, "1 d 3:46:40"), (math.nan, "-:--:--")]
)
def test_clock_text_is_hours_minutes_seconds(seconds, text):
    assert clock_text(seconds) == text


def test_visible_writes_out_controls_and_what_reorders():
    assert visible("a\x00b\x1b[31m\u202ec\ud800\tz") == "a[U+0000]b[U+001B][31m[U+202E]c[U+D800] z"


def test_visible_keeps_letters_joiners_and_line_feeds():
    assert visible("क्‍ष می‌خواهم é\n") == "क्‍ष می‌خواهم é\n"


def test_shorten_counts_the_ellipsis():
    assert [shorten("abcde", 5), shorten("abcdef", 5)] == ["abcde", "abcd…"]


def test_space_and_combining_mark_get_a_name_to_be_seen():
    assert [character_name(c) for c in (" ", "ी", "a", "")] == ["␣", "◌ी", "a", ""]


def test_json_of_foreign_text_stays_the_same_for_its_reader():
    record = {"file": "a\x1b[31m\u202e\udc80.wav", "text": "şö\x9b"}
    line = visible(json.dumps(record, ensure_ascii=False), written="\\u{:04x}")
    assert json.loads(line) == record
    assert "şö" in line
    assert not {"\x1b", "\u202e", "\x9b"} & set(line)


def test_an_interval_wider_than_all_rates_is_said_to_be_unknown():
    speakers = {"unit": "speakers", "groups": 2}
    assert interval_text({"low": 0.148, "high": 0.72, "interval": speakers}) == "14.8 to 72.0 %"
    assert interval_text({"low": 0.0, "high": 3.94, "interval": speakers}) == "unknown: 2 speakers"
    assert interval_text({"low": None, "high": None}) == interval_text(None) == interval_text({"rate": 0.1}) == ""
