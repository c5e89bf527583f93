"""The tables of `speechtune compare`, on stdout, at most 80 columns wide. rich is imported when first used."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

from speechtune.terminal.formatting import interval_text, percent, points, probability, shorten
from speechtune.terminal.scores import printable, results_console, results_table

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_comparison"]

MAX_SLICES = 8  # those with the most errors more or less; all are in the page
NAME_WIDTH = 30


def print_comparison(comparison: Any, *, console: Console | None = None) -> None:
    """Print scores, differences, the groups that changed most, and what follows.

    Args:
        comparison: evaluation's `Comparison`.
        console: where to, normally stdout.
    """
    console = console or results_console()
    letters = string.ascii_uppercase
    scores = results_table("", ("WER", "95 % interval", "CER", "empty"))
    for place, system in enumerate(comparison.systems):
        wer, cer = system.scores["wer"], system.scores["cer"]
        name = printable(f"{letters[place % 26]}  {shorten(system.name, NAME_WIDTH)}", console)
        scores.add_row(name, percent(wer["rate"]), interval_text(wer), percent(cer["rate"]), f"{system.num_empty:,}")
    console.print(scores)
    for pair in comparison.pairs:
        names = f"{letters[pair.b % 26]} - {letters[pair.a % 26]}"
        table = results_table(names, ("points", "95 % interval", "p", "MAPSSWE p", "better", "worse", "same"))
        for metric, found in pair.differences.items():
            row = [metric.upper(), points(found.difference), _interval(found), probability(found.p_value)]
            counts = [f"{n:,}" for n in (pair.num_better, pair.num_worse, pair.num_equal)]
            table.add_row(
                *row, *([probability(pair.mapsswe.p_value), *counts] if metric == "wer" else ["", "", "", ""])
            )
        console.print(table)
        _print_slices(pair, names, console)
        console.print(printable(pair.sentence, console), soft_wrap=not console.is_terminal)
    for note in comparison.notes:
        console.print(printable(note, console), style="dim", soft_wrap=not console.is_terminal)


def _print_slices(pair: Any, names: str, console: Console) -> None:
    known = [part for part in pair.slices if points(part.difference.difference)]
    shown = sorted(known, key=lambda part: -abs(part.difference.difference) * part.words)[:MAX_SLICES]
    if not shown:
        return
    table = results_table(f"{names}, by group", ("points", "95 % interval", "p", "utterances"))
    for part in shown:
        name = printable(shorten(f"{part.by}: {part.name}", NAME_WIDTH), console)
        found = part.difference
        table.add_row(
            name, points(found.difference), _interval(found), probability(found.p_value), f"{part.utterances:,}"
        )
    console.print(table)


def _interval(found: Any) -> str:
    return f"{points(found.low)} to {points(found.high)}" if points(found.low) else ""
