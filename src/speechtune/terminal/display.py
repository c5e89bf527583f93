"""What displays of training and evaluation are made of: a bar with facts that fit any width, and the pace of work."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

__all__ = ["BarWithFacts", "Fact", "Pace", "speed_text"]

MIN_BAR_WIDTH = 12  # columns; a fact that would leave the bar less goes to the lines below


@dataclass(frozen=True, slots=True)
class Fact:
    text: str
    style: str = ""


@dataclass
class BarWithFacts:
    """A rich renderable: label, bar, facts beside it in order of importance as far as they fit, the others below.

    The attributes may be changed at any time; the next redraw shows them. Nothing is cut off or folded within a fact.
    """

    label: str
    done: float = 0.0
    total: float = 0.0  # 0 where it is not known: the bar then only pulses
    beside: Sequence[Fact] = field(default_factory=tuple)
    below: Sequence[Fact] = field(default_factory=tuple)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        width = options.max_width
        used = len(self.label) + 1
        num_beside = 0
        for fact in self.beside:
            used += len(fact.text) + 2
            if used + MIN_BAR_WIDTH > width:
                break
            num_beside += 1
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True)
        total = self.total if self.total > 0 else None
        grid.add_row(
            Text(self.label, style="bold"),
            ProgressBar(total=total, completed=min(self.done, self.total) if total else 0, pulse=total is None),
            _joined(self.beside[:num_beside]),
        )
        yield grid
        for line in _lines([*self.beside[num_beside:], *self.below], width - 2):
            yield Text("  ") + _joined(line)


class Pace:
    """Amount a second over the last `window_s` seconds."""

    def __init__(self, window_s: float, *, every_s: float = 0.5) -> None:
        self.window_s, self.every_s = window_s, every_s
        self.per_s = math.nan  # nan until two moments are known
        self._moments: deque[tuple[float, float]] = deque()

    def add(self, now_s: float, amount: float) -> bool:
        """Notes that `amount` was reached at `now_s`; False if that is too soon after the last one to be of use."""
        if self._moments and now_s - self._moments[-1][0] < self.every_s:
            return False
        self._moments.append((now_s, amount))
        while len(self._moments) > 2 and now_s - self._moments[1][0] >= self.window_s:
            self._moments.popleft()
        (start_s, start), (end_s, end) = self._moments[0], self._moments[-1]
        if end_s > start_s:
            self.per_s = (end - start) / (end_s - start_s)
        return True

    def time_for(self, amount: float) -> float:
        """Seconds that `amount` will take, nan if unknown."""
        return amount / self.per_s if self.per_s > 0 else math.nan


def speed_text(audio_s_per_s: float) -> str:
    return f"{audio_s_per_s:,.0f} s of audio/s" if audio_s_per_s >= 10 else f"{audio_s_per_s:.1f} s of audio/s"


def _joined(facts: Sequence[Fact]) -> Text:
    from rich.text import Text

    return Text("  ", no_wrap=True).join(Text(fact.text, style=fact.style) for fact in facts)


def _lines(facts: Sequence[Fact], width: int) -> Iterator[list[Fact]]:
    """Facts packed into lines of at most `width` columns, at least one a line."""
    line: list[Fact] = []
    used = 0
    for fact in facts:
        if line and used + 2 + len(fact.text) > width:
            yield line
            line, used = [], 0
        used += len(fact.text) + (2 if line else 0)
        line.append(fact)
    if line:
        yield line
