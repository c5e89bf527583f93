"""The table of scores at the end of an evaluation, on stdout. rich is imported when first used."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from speechtune.terminal.formatting import interval_text, percent, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

__all__ = ["gain_text", "print_scores_table", "printable", "results_console", "results_table"]


def results_console() -> Console:
    """Return a console on stdout; in a file, a line may be as long as it must."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 240)


def results_table(first: str, headings: Sequence[str]) -> Table:
    """Return an empty table: a wide column, then numbers (below a heading) or names (below none)."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    return table


def printable(text: str, console: Console) -> Text:
    """Return foreign text as this console can show it."""
    from rich.text import Text

    return Text(visible(text).encode(console.encoding, "backslashreplace").decode(console.encoding))


def print_scores_table(rows: Sequence[Mapping[str, Any]], *, console: Console | None = None) -> None:
    """Print the scores of one or more evaluations, a line for each metric: that fits 80 columns.

    Args:
        rows: each with "name", "scores" as in eval_results.json ({"wer": {"rate", "low", "high", "hits", ...}, "cer":
            ...}), and, where known, "utterances", "words" and "hours". The default of words are the WER's counts.
        console: where to, normally stdout.
    """
    console = console or results_console()
    table = results_table("", ("", "rate", "95 % interval", "utterances", "words", "hours"))
    for row in rows:
        names, rates, intervals = [], [], []
        for metric, score in row.get("scores", {}).items():
            rate, _, form = metric.partition("_")
            names.append(f"{rate.upper()} {form.replace('_', ' ')}".rstrip())
            rates.append(percent(score["rate"]))
            intervals.append(interval_text(score))
        columns = ("\n".join(column) for column in (names, rates, intervals))
        table.add_row(printable(str(row.get("name", "")), console), *columns, *_amounts(row))
    console.print(table)


def gain_text(gain: Mapping[str, Any]) -> str:
    """Return a difference in WER in one line: "WER -2.0 points (95 % interval -3.4 to -0.6, paired, ...)"."""
    text = f"WER {100 * gain['difference']:+.2f} points"
    if gain["low"] != gain["low"]:
        return f"{text} (too few {gain['unit']} for an interval)"
    interval = f"{100 * gain['low']:+.2f} to {100 * gain['high']:+.2f}"
    return f"{text} (95 % interval {interval}, p {gain['p_value']:.2g}; paired, over {gain['groups']:,} {gain['unit']})"


def _amounts(row: Mapping[str, Any]) -> list[str]:
    wer = row.get("scores", {}).get("wer") or {}
    words = row.get("words")
    if words is None and "hits" in wer:
        words = wer["hits"] + wer["substitutions"] + wer["deletions"]
    utterances, hours = row.get("utterances"), row.get("hours")
    return [
        "" if utterances is None else f"{utterances:,}",
        "" if words is None else f"{words:,}",
        "" if hours is None else f"{hours:,.2f}",
    ]
