"""Line charts as SVG."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import pytest

from speechtune.reporting.plots import (
    Chart,
    Series,
    chart_svg,
    format_value,
    log_ticks,
    series_of,
    smoothed,
    thinned,
    ticks,
    training_charts,
)

HISTORY = [
    {"step": 10, "loss": 4.0, "learning_rate": 1e-4},
    {"step": 20, "loss": float("nan"), "learning_rate": 2e-4},
    {"step": 30, "loss": 2.0, "learning_rate": 0.0},
    {"step": 30, "eval_loss": 1.5, "eval_wer": 0.5, "eval_cer": 0.25},
]


def classes(svg):
    return [node.get("class") for node in ElementTree.fromstring(svg).iter() if node.get("class")]


def test_a_series_leaves_out_what_is_not_a_finite_number_and_is_in_order_of_steps():
    history = [
        {"step": 2, "loss": 1},
        {"step": 1, "loss": 3.0},
        {"step": 3, "loss": math.inf},
        {"step": 4, "loss": "2"},
    ]
    assert series_of([*history, {"step": 5, "loss": True}, {"loss": 1.0}, {"step": 1, "loss": 2.0}], "loss") == [
        (1.0, 2.0),
        (2.0, 1.0),
    ]


def test_smoothing_keeps_both_ends_and_averages_between():
    points = [(float(i), y) for i, y in enumerate([9.0, 0.0, 3.0, 0.0, 5.0])]
    assert smoothed(points, share=0.2) == [(0.0, 9.0), (1.0, 4.0), (2.0, 1.0), (3.0, pytest.approx(8 / 3)), (4.0, 5.0)]


def test_thinning_keeps_the_peaks_and_the_ends():
    points = [(float(i), 0.0) for i in range(10_000)]
    points[4321] = (4321.0, 7.0)
    points[4444] = (4444.0, -7.0)
    kept = thinned(points, 100)
    assert len(kept) <= 102
    assert {points[0], points[4321], points[4444], points[-1]} <= set(kept)
    assert kept == sorted(kept)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (0.0, 3000.0, [0.0, 1000.0, 2000.0, 3000.0]),
        (-3.0, 4.0, [-4.0, -2.0, 0.0, 2.0, 4.0]),
        (0.0, 3e-4, [0.0, 1e-4, 2e-4, 3e-4]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_ticks_of_a_single_value_are_around_it():
    assert ticks(5.0, 5.0)[0] < 5.0 < ticks(5.0, 5.0)[-1]
    assert ticks(0.0, 0.0)[0] < 0.0 < ticks(0.0, 0.0)[-1]


def test_log_ticks_are_ones_twos_and_fives_or_powers_only():
    assert log_ticks(0.3, 4.0) == [0.2, 0.5, 1.0, 2.0, 5.0]
    assert log_ticks(0.3, 400.0) == [0.1, 1.0, 10.0, 100.0, 1000.0]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1200, "", "1,200"),
        (0.25, "", "0.25"),
        (3e-5, "", "3e-5"),
        (0, "", "0"),
        (0.2, "%", "20 %"),
        (0.042, "%", "4.2 %"),
    ],
)
def test_values_are_short(value, unit, text):
    assert format_value(value, unit) == text


def test_a_wide_range_of_positive_values_gets_a_logarithmic_axis_that_says_so():
    assert "logarithmic" in chart_svg(Chart("Loss", [Series("loss", [(0, 100.0), (1, 0.5)])]))
    assert "logarithmic" not in chart_svg(Chart("Loss", [Series("loss", [(0, 10.0), (1, 0.5)])]))
    assert "logarithmic" not in chart_svg(Chart("Loss", [Series("loss", [(0, 100.0), (1, 0.0)])]))


def test_titles_and_names_are_escaped():
    svg = chart_svg(Chart("<b>&'\"", [Series("</svg><script>", [(0, 1.0), (1, 2.0)], look="dots")]))
    assert "<script" not in svg
    ElementTree.fromstring(svg)


def test_a_single_point_is_drawn_as_a_dot():
    assert classes(chart_svg(Chart("WER", [Series("WER", [(5, 0.3)])]))).count("dot f1") == 1


def test_charts_exist_only_for_what_was_logged_and_share_their_x_axis():
    charts = training_charts(HISTORY)
    assert [chart.title for chart in charts] == ["Loss", "Error rate in evaluations", "Learning rate"]
    assert {chart.x_range for chart in charts} == {(0.0, 30.0)}
    assert [series.name for series in charts[0].series] == ["training loss", "evaluation loss"]
    assert training_charts([]) == []
    assert training_charts([{"step": 1, "epoch": 0.1}], bad_steps=[1]) == []


def test_steps_that_were_not_finite_are_marked_in_the_chart_of_the_loss():
    charts = training_charts(HISTORY, bad_steps=[20])
    assert "mark" in classes(chart_svg(charts[0]))
    assert all("mark" not in classes(chart_svg(chart)) for chart in charts[1:])
