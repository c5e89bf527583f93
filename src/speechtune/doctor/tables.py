"""The doctor's tables in a terminal or a file; strangers' text in them is made harmless."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from speechtune.data.prepare import REASON_WORDS
from speechtune.doctor.checks import EDGES_S, AudioSample, duration_histogram
from speechtune.terminal.formatting import visible
from speechtune.types import Skipped

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["Tables"]

BAR_COLUMNS = 24


class Tables:
    """Prints to stdout, one table after the other; empty ones are skipped."""

    def __init__(self) -> None:
        from rich.console import Console

        # In a file a line may be as long as it must.
        self.console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=240)

    def line(self, text: str, *, style: str = "") -> None:
        """One line, or several where `text` has them."""
        self.console.print(self._text(text, style=style), soft_wrap=True)

    def remarks(self, lines: Sequence[str]) -> None:
        """What is worth a look, one item a line."""
        if lines:
            self.line("Worth a look")
        for line in lines:
            self.line(f"  - {line}")
        if lines:
            self.console.print()

    def splits(self, rows: Sequence[tuple[str, Any, Sequence[str], Sequence[Skipped], Any]]) -> None:
        """(role, SplitTable, normalised texts, what would be skipped, SplitTable in use) of each split."""
        columns = [
            "",
            "split",
            *(">utterances", ">hours", ">shortest s", ">mean s", ">longest s"),
            *(">speakers", ">words", ">without text", ">skipped", ">used"),
        ]
        cells = []
        for role, table, texts, dropped, used in rows:
            durations_s = table.durations_s[~np.isnan(table.durations_s)]
            spread = (durations_s.min(), durations_s.mean(), durations_s.max()) if len(durations_s) else ()
            speakers = {speaker for speaker in table.speakers if speaker}
            cells.append(
                [
                    *(role, table.split, f"{len(table):,}", f"{durations_s.sum() / 3600:,.2f}"),
                    *([f"{value:.1f}" for value in spread] or ["?"] * 3),
                    f"{len(speakers):,}" if speakers else "?",
                    f"{sum(len(text.split()) for text in texts):,}",
                    *(f"{sum(not text for text in texts):,}", f"{len(dropped):,}", f"{len(used):,}"),
                ]
            )
        self._table(columns, cells)

    def durations(self, durations_s: Mapping[str, Any]) -> None:
        """How many recordings of each length, a bar each, by role."""
        counts = {role: duration_histogram(values) for role, values in durations_s.items()}
        kept = [i for i in range(len(EDGES_S) - 1) if any(row[i] for row in counts.values())]
        rows = []
        for index in kept:
            low, high = EDGES_S[index], EDGES_S[index + 1]
            cells = [f"{low:g} to {high:g} s" if high < float("inf") else f"{low:g} s and more"]
            for row in counts.values():
                cells += [self._bar(row[index], max(row)), f"{row[index]:,}"]
            rows.append(cells)
        self._table(["duration", *(name for role in counts for name in (role, ">"))], rows)

    def formats(self, samples: Mapping[str, AudioSample]) -> None:
        """Kinds of audio in the decoded sample of each split."""
        rows = [
            [f"{kind}, {rate:,} Hz, {channels} channel{'s' if channels > 1 else ''}", role, f"{count:,}"]
            for role, sample in samples.items()
            for (kind, rate, channels), count in sample.formats.most_common()
        ]
        self._table(["audio (of a sample)", "", ">recordings"], rows)

    def skipped(self, skipped: Sequence[Skipped]) -> None:
        """What training would leave out, by split and reason, with the first of each."""
        groups = Counter((row.split, row.reason) for row in skipped)
        rows = []
        for (split, reason), count in groups.most_common():
            first = next(row for row in skipped if (row.split, row.reason) == (split, reason))
            example = first.detail if first.file in first.detail else f"{first.file}: {first.detail}"
            rows.append([REASON_WORDS.get(reason, reason), split, f"{count:,}", example.strip(": ")])
        self._table(["skipped", "split", ">utterances", "first"], rows)

    def odd(self, title: str, rows: Sequence[tuple[str, str, str, str]]) -> None:
        """Clips whose text doesn't fit their duration."""
        self._table([title, ">seconds", ">characters/s", "text"], [list(row) for row in rows])

    def _table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        from rich import box
        from rich.table import Table

        if not rows:
            return
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in columns:
            right = name.startswith(">")
            table.add_column(
                self._text(name.removeprefix(">")), justify="right" if right else "left", no_wrap=right, overflow="fold"
            )
        for row in rows:
            table.add_row(*(self._text(cell) for cell in row))
        self.console.print(table)

    def _bar(self, count: int, most: int) -> str:
        length = round(BAR_COLUMNS * count / max(most, 1))
        block = "█" if (self.console.encoding or "").lower().startswith("utf") else "#"
        return block * max(length, 1 if count else 0)

    def _text(self, text: str, *, style: str = "") -> Text:
        from rich.text import Text

        encoding = self.console.encoding
        return Text(visible(text).encode(encoding, "backslashreplace").decode(encoding), style=style)
