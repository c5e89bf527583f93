"""How far training and evaluation are, and the table of scores at their end.

On a terminal: one live display at its foot, log lines above it. Elsewhere (a log file, CI, nohup): plain lines, few.
This module is light; the callback for transformers' Trainer is imported when it is asked for.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from speechtune.terminal.display import BarWithFacts, Fact, Pace, speed_text
from speechtune.terminal.formatting import clock_text, percent, visible
from speechtune.terminal.screen import Screen, console, screen

if TYPE_CHECKING:
    from rich.console import Console

    from speechtune.training.progress import TrainingProgress

__all__ = ["TrainingProgress", "console", "evaluation_progress", "print_scores_table"]

LINE_EVERY_S = 30.0  # at most, of a log
PACE_WINDOW_S = 60.0


def __getattr__(name: str) -> Any:
    if name == "TrainingProgress":  # needs transformers, which takes seconds to import
        from speechtune.training.progress import TrainingProgress

        return TrainingProgress
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@contextlib.contextmanager
def evaluation_progress(
    total_s: float,
    *,
    label: str = "Evaluating",
    enabled: bool | None = None,
    line_every_s: float = LINE_EVERY_S,
    on: Screen | None = None,
    live: bool | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Callable[[float], None]]:
    """Shows how far an evaluation is; within training, its bar stands below that of the training.

    Args:
        total_s: seconds of audio that this process will see; 0 or nan if not known.
        label: what is done.
        enabled: False shows nothing; None shows it on the first process of torchrun only.
        line_every_s: seconds between lines where there is no terminal; shorter work shows none.
        on: the screen, normally that of the process.
        live: whether to draw a bar, normally found out from the terminal.
        clock: seconds.

    Yields:
        advance(audio_s), to be called with the seconds of audio that were just done.
    """
    if not (is_first_process() if enabled is None else enabled):
        yield lambda audio_s: None
        return
    display = _EvaluationDisplay(visible(label), total_s if total_s > 0 else 0.0, on or screen(), line_every_s, clock)
    if live if live is not None else display.screen.can_be_live:
        display.screen.show(display.bar)
        try:
            yield display.advance
        finally:
            display.screen.hide(display.bar)
    else:
        yield display.advance_with_lines


class _EvaluationDisplay:
    def __init__(
        self, label: str, total_s: float, screen: Screen, line_every_s: float, clock: Callable[[], float]
    ) -> None:
        self.screen, self.line_every_s, self.clock = screen, line_every_s, clock
        self.bar = BarWithFacts(label, total=total_s)
        self.last_line_s = clock()
        self.pace = Pace(PACE_WINDOW_S)
        self.pace.add(self.last_line_s, 0.0)

    def advance(self, audio_s: float) -> None:
        self.bar.done += audio_s
        if self.pace.add(self.clock(), self.bar.done):
            self.bar.beside = [Fact(text) for text in self.facts()]

    def advance_with_lines(self, audio_s: float) -> None:
        self.advance(audio_s)
        now_s = self.clock()
        if now_s - self.last_line_s >= self.line_every_s:
            self.last_line_s = now_s
            self.screen.say(f"{self.bar.label}: {', '.join(self.facts())}")

    def facts(self) -> list[str]:
        done, total = self.bar.done, self.bar.total
        amount = f"{done:,.0f} of {total:,.0f} s of audio" if total else f"{done:,.0f} s of audio"
        facts = [f"{percent(min(done / total, 1.0)) if total else ''}", amount]
        if self.pace.per_s > 0:
            left = f"{clock_text(self.pace.time_for(max(total - done, 0.0)))} left" if total else ""
            facts[1:1] = [left, speed_text(self.pace.per_s)]
        return [fact for fact in facts if fact]


def print_scores_table(rows: Sequence[Mapping[str, Any]], *, console: Console | None = None) -> None:
    """Prints the scores of one or more evaluations to stdout, one line each.

    Args:
        rows: each with "name", "scores" as in eval_results.json ({"wer": {"rate", "low", "high", "hits", ...}, "cer":
            ...}), and, where known, "utterances", "words" and "hours". Words missing are those of the WER's counts.
        console: where to, normally stdout.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if console is None:
        console = _stdout_console()
    metrics = [m for m in ("wer", "cer", "per") if any(m in row.get("scores", {}) for row in rows)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for metric in metrics:
        table.add_column(metric.upper(), justify="right", no_wrap=True)
        table.add_column("95 % interval", justify="right")
    for name in ("utterances", "words", "hours"):
        table.add_column(name, justify="right")
    for row in rows:
        cells = [Text(_encodable(visible(str(row.get("name", ""))), console.encoding), overflow="fold")]
        for metric in metrics:
            score = row.get("scores", {}).get(metric) or {}
            cells.append(Text(percent(score["rate"]) if "rate" in score else "", style="bold"))
            cells.append(Text(_interval(score)))
        cells += [Text(text) for text in _amounts(row)]
        table.add_row(*cells)
    console.print(table)


def is_first_process() -> bool:
    """Whether this is the only process or torchrun's first one."""
    return os.environ.get("RANK", "0") in ("", "0")


def _interval(score: Mapping[str, Any]) -> str:
    low, high = score.get("low"), score.get("high")
    if low is None or high is None or low != low or high != high:
        return ""
    return f"{percent(low).removesuffix(' %')} to {percent(high)}"


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


def _stdout_console() -> Console:
    from rich.console import Console

    # In a file a line may be as long as it must.
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=240)


def _encodable(text: str, encoding: str) -> str:
    return text.encode(encoding, "backslashreplace").decode(encoding)
