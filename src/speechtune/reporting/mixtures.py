"""The curve of --interpolate_weights: error rates of mixtures of the starting and the final weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import markupsafe

from speechtune.reporting.plots import NUM_COLORS, Chart, Series, chart_svg

__all__ = ["mixture_curve"]


def mixture_curve(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return chart, drawing and sentence of interpolation.json; None where fewer than two mixtures were evaluated."""
    mixtures = record.get("mixtures") or []
    points: dict[str, list[tuple[float, float]]] = {}
    for mixture in mixtures:
        for name, scores in mixture["scores"].items():
            rate = (scores.get("wer") or {}).get("rate")
            if rate is not None:
                points.setdefault(name, []).append((float(mixture["weight"]), float(rate)))
    if len(mixtures) < 2 or not points:
        return None
    kept = record.get("kept")
    chart = Chart(
        "WER by share of the final weights, the rest those before training",
        [Series(name, row, i % NUM_COLORS + 1, "dots") for i, (name, row) in enumerate(points.items())],
        unit="%",
        marks=[float(kept)] if kept is not None else (),
        mark_name="kept" if kept is not None else "",
        x_name="share",
    )
    return {"chart": chart, "svg": markupsafe.Markup(chart_svg(chart)), "sentence": _sentence(record)}


def _sentence(record: Mapping[str, Any]) -> str:
    kept, selection, final = record.get("kept"), record.get("selection"), record.get("final_weights")
    why = (
        f"It has the lowest WER on {selection}; the other sets had no part in the choice."
        if selection
        else "There is no validation split that was not trained on, so none was chosen by its score."
    )
    where = f" The final weights, unmixed, are in {final}." if final else ""
    return f"Kept: {kept:g} of the final weights. {why}{where}"
