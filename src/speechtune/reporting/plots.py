"""Line charts of a training as SVG elements of the report.

Drawn here rather than by matplotlib: the same bytes on every machine, about 5 kB a chart instead of 60, and the
colours are CSS variables, so that one drawing serves a light and a dark page. The geometry is computed here; the
markup is templates/chart.svg, where every text is escaped.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from speechtune.evaluation.metrics import all_metrics
from speechtune.terminal.formatting import character_name, duration_text, interval_text, percent, shorten, visible

if TYPE_CHECKING:
    import jinja2

__all__ = [
    "Chart",
    "Series",
    "chart_svg",
    "format_value",
    "series_of",
    "template_environment",
    "template_source",
    "training_charts",
]

WIDTH, HEIGHT = 440, 240  # of one chart, in the units of its viewBox; near the width of a phone, so text stays legible
LEFT, RIGHT, TOP, BOTTOM = 52, 20, 8, 34  # margins around the plotted area, same units
MAX_POINTS = 320  # of one line: two a pixel column are all that can be seen
NUM_COLORS = 5  # of chart.css
LOG_SCALE_ABOVE = 50.0  # ratio of the largest to the smallest value from which the axis is logarithmic

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """One line. `look` is "line", "faint" (raw values under a smoothed line) or "dots" (a line with a dot a point)."""

    name: str
    points: Sequence[Point]  # (x, y), finite, x ascending
    color: int = 1  # which of the palette's colours, from 1
    look: str = "line"


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart over training steps. `marks` are x values drawn as vertical lines, `mark_name` is their legend."""

    title: str
    series: Sequence[Series]
    unit: str = ""  # "%" for fractions
    marks: Sequence[float] = ()
    mark_name: str = ""
    x_range: Point | None = None  # ends of the x axis; without it, those of the points and marks
    x_name: str = "step"


@functools.cache
def template_environment() -> jinja2.Environment:
    """Templates of this package.

    Every value is escaped, and controls and reordering characters in it are written out: texts and file names come
    from corpora nobody has read. An unknown name in a template is an error.
    """
    import jinja2
    import markupsafe

    def harmless(value: object) -> object:
        return visible(value) if isinstance(value, str) and not isinstance(value, markupsafe.Markup) else value

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("speechtune.reporting", "templates"),
        autoescape=True,
        finalize=harmless,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        value=format_value,
        percent=percent,
        duration=duration_text,
        seconds=lambda duration_s: "" if math.isnan(duration_s) else f"{duration_s:.1f}",
        shorten=shorten,
        character=character_name,
    )
    environment.globals["interval_of"] = interval_text
    return environment


def template_source(name: str) -> str:
    """Return a template's text: a script or a style sheet, as it is."""
    environment = template_environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def series_of(log_history: Iterable[Mapping[str, Any]], key: str) -> list[Point]:
    """Return (step, value) of the finite numbers under `key`, by step; of a step's values the last is taken."""
    found: dict[float, float] = {}
    for entry in log_history:
        step, value = entry.get("step"), entry.get(key)
        if _is_number(step) and _is_number(value):
            found[float(step)] = float(value)  # type: ignore[arg-type]
    return sorted(found.items())


def smoothed(points: Sequence[Point], *, share: float = 0.02) -> list[Point]:
    """Return the centred mean over 2 * `share` of the points; the window narrows to one point at both ends."""
    widest = round(len(points) * share)
    values = [y for _, y in points]
    result = []
    for i, (x, _) in enumerate(points):
        half = min(widest, i, len(values) - 1 - i)
        window = values[i - half : i + half + 1]
        result.append((x, math.fsum(window) / len(window)))
    return result


def thinned(points: Sequence[Point], limit: int = MAX_POINTS) -> list[Point]:
    """Return at most about `limit` points: the lowest and the highest of each stretch, so that peaks are kept."""
    if len(points) <= limit:
        return list(points)
    stretch = math.ceil(2 * len(points) / limit)
    kept: list[Point] = []
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        kept.extend(sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])}))
    return sorted({points[0], points[-1], *kept})


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Return round numbers (1, 2, 2.5 or 5 times a power of ten) from at or below `low` to at or above `high`."""
    if not high > low:
        low, high = low - (abs(low) or 1.0) * 0.5, high + (abs(high) or 1.0) * 0.5
    rough = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten around [low, high]; only the powers where that would be more than seven."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside: list[float] = []
    for mantissas in ((1, 2, 5), (1,)):
        values = [round(m * 10.0**e, 12) for e in exponents for m in mantissas]
        below = max(v for v in values if v <= low)
        above = min((v for v in values if v >= high), default=values[-1])
        inside = [v for v in values if below <= v <= above]
        if len(inside) <= 7:
            break
    return inside


def format_value(value: float, unit: str = "") -> str:
    """Return a short text: 1,200 or 0.25 or 3e-5; with unit "%" the value is a fraction."""
    if unit == "%":
        return f"{value * 100:.3g} %" if abs(value) < 0.1 else f"{value * 100:.1f} %".replace(".0 %", " %")
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        text = f"{value:,.0f}"
    elif abs(value) < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        text = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    else:
        text = f"{value:.4g}"
    return f"{text} {unit}" if unit else text


def chart_svg(chart: Chart) -> str:
    """Return a chart, with at least one point, as the text of an SVG element that is safe to put into HTML."""
    return template_environment().get_template("chart.svg").render(_panel(chart), width=WIDTH, height=HEIGHT)


def training_charts(log_history: Sequence[Mapping[str, Any]], *, bad_steps: Sequence[float] = ()) -> list[Chart]:
    """Return charts of loss, error rates, learning rate and speed, as far as `log_history` has values for them.

    All have the same x axis, from step 0 to the last one known.

    Args:
        log_history: entries of trainer_state.json.
        bad_steps: steps whose loss or gradient was not finite; marked in the chart of the loss.
    """
    rates = [
        Series(name.upper(), series_of(log_history, f"eval_{name}"), min(color, NUM_COLORS), "dots")
        for color, name in enumerate(all_metrics(), start=2)
    ]
    losses = [
        *_noisy("training loss", series_of(log_history, "loss"), 1),
        Series("evaluation loss", series_of(log_history, "eval_loss"), 2, "dots"),
    ]
    speed = _noisy("speed", series_of(log_history, "audio_s_per_s"), 4)
    charts = [
        Chart("Loss", losses, marks=tuple(bad_steps), mark_name="not finite" if bad_steps else ""),
        Chart("Error rate in evaluations", rates, unit="%"),
        Chart("Learning rate", [Series("learning rate", series_of(log_history, "learning_rate"), 5)]),
        Chart("Speed, seconds of audio per second", speed),
    ]
    x_values = [x for chart in charts for series in chart.series for x, _ in series.points]
    return [
        replace(chart, series=series, x_range=(0.0, max([*x_values, *bad_steps])))
        for chart in charts
        if (series := [s for s in chart.series if s.points])
    ]


def _noisy(name: str, points: list[Point], color: int) -> list[Series]:
    """Return noisy values as a faint line under a smoothed one; fewer than 40 as they are."""
    if len(points) < 40:
        return [Series(name, points, color)]
    return [Series("logged", points, color, "faint"), Series(name, smoothed(points), color)]


def _panel(chart: Chart) -> dict[str, Any]:
    """Return the values that chart.svg names, in the units of its viewBox."""
    points = [p for series in chart.series for p in series.points]
    assert points, f"nothing to draw: {chart.title}"
    low, high = min(y for _, y in points), max(y for _, y in points)
    is_log = low > 0 and high / low > LOG_SCALE_ABOVE and chart.unit != "%"
    y_ticks = log_ticks(low, high) if is_log else ticks(0.0 if 0 <= low < 0.7 * high else low, high)
    x_values = [x for x, _ in points] + list(chart.marks)
    x_low, x_high = chart.x_range or (min(x_values), max(x_values))
    if x_high == x_low:
        x_low, x_high = x_low - 1, x_high + 1
    x_of = _scale(x_low, x_high, LEFT, WIDTH - RIGHT)
    y_of = _scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP, is_log=is_log)
    return {
        "chart": chart,
        "is_log": is_log,
        "x_ticks": [(x_of(t), t) for t in ticks(x_low, x_high) if x_low <= t <= x_high],
        "y_ticks": [(y_of(t), t) for t in y_ticks],
        "marks": [x_of(m) for m in chart.marks],
        "area": (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM),
        "lines": [_line(series, x_of, y_of, chart.unit) for series in chart.series],
    }


def _line(series: Series, x_of: Callable[[float], float], y_of: Callable[[float], float], unit: str) -> dict[str, Any]:
    drawn = [(x, y, x_of(x), y_of(y)) for x, y in thinned(series.points)]
    return {
        "series": series,
        "path": " ".join(f"{'M' if i == 0 else 'L'}{px:g} {py:g}" for i, (_, _, px, py) in enumerate(drawn)),
        "dots": [(px, py) for _, _, px, py in drawn] if series.look == "dots" or len(drawn) == 1 else [],
        "readings": [[px, format_value(x), format_value(y, unit)] for x, y, px, _ in drawn],
    }


def _scale(low: float, high: float, start: float, end: float, *, is_log: bool = False) -> Callable[[float], float]:
    """Return a function from a value to a place in the drawing, rounded to a tenth of a unit."""
    warp = math.log if is_log else float
    first, last = warp(low), warp(high)
    return lambda value: round(start + (warp(value) - first) / (last - first) * (end - start), 1)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
