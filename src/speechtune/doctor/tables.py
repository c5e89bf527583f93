"""The doctor's output on a terminal or in a file. Foreign text is printed without control characters."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

from speechtune.data.prepare import REASON_WORDS
from speechtune.doctor.checks import EDGES_S, duration_histogram, find_outliers
from speechtune.doctor.label_errors import Judged
from speechtune.doctor.roles import Role
from speechtune.terminal.formatting import shorten, visible
from speechtune.terminal.scores import results_console

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["Shown", "show"]

BAR_COLUMNS = 20  # two bars and their numbers fit 80 columns
MAX_OUTLIERS = 8
MAX_JUDGED = 10
FACTS = (
    *("split", "utterances", "hours", "shortest s", "mean s", "longest s"),
    *("speakers", "words", "without text", "skipped", "used"),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What was printed, for doctor.html: tables of (column names, rows), and whether training would begin.

    Names that begin with ">" are of numbers.
    """

    tables: list[tuple[Sequence[str], Sequence[Sequence[str]]]]
    verdicts: list[str]


def show(
    title: str,
    roles: Sequence[Role],
    remarks: Sequence[str],
    stops: Sequence[str],
    *,
    judged: Sequence[Judged] = (),
    command: str = "",
) -> Shown:
    """Print all tables to stdout, then the remarks, whether training would begin, and a command for it.

    Args:
        judged: utterances by a model, the likeliest label errors first.
        command: to train with; empty prints none.
    """
    output = _Output()
    output.line(title)
    output.table(["", *(f">{role.name}" for role in roles)], list(zip(FACTS, *map(_facts, roles), strict=True)))
    _show_durations(output, roles)
    formats = [
        [f"{kind}, {rate:,} Hz, {channels} channel{'s' if channels > 1 else ''}", role.name, f"{count:,}"]
        for role in roles
        for (kind, rate, channels), count in role.formats.most_common()
    ]
    output.table(["audio (of a sample)", "", ">recordings"], formats)
    _show_skipped(output, roles)
    for role in roles:
        _show_outliers(output, role)
    _show_judged(output, judged)
    if remarks:
        output.line("Worth checking")
        for remark in remarks:
            output.item(remark)
        output.line("")
    train, evaluation = roles
    verdicts = [f"Training would stop: {stop}" for stop in stops] or [
        f"Training would begin: {train.num_used:,} utterances, {train.hours:,.2f} h; scored on {evaluation.num_used:,}."
    ]
    if command:
        output.line("To train, with options that fit this corpus:")
        output.line(f"  {command}")
        output.line("")
    for verdict in verdicts:
        output.line(verdict, style="bold red" if stops else "bold green")
    return Shown(output.tables, verdicts)


def _facts(role: Role) -> list[str]:
    durations_s = role.table.durations_s[~np.isnan(role.table.durations_s)]
    spread = (durations_s.min(), durations_s.mean(), durations_s.max()) if len(durations_s) else ()
    speakers = {speaker for speaker in role.table.speakers if speaker}
    return [
        *(role.table.split, f"{len(role.table):,}", f"{durations_s.sum() / 3600:,.2f}"),
        *([f"{value:.1f}" for value in spread] or ["?"] * 3),
        f"{len(speakers):,}" if speakers else "?",
        f"{sum(len(text.split()) for text in role.texts):,}",
        f"{sum(not text for text in role.texts):,}",
        *(f"{len(role.skipped):,}", f"{role.num_used:,}"),
    ]


def _show_durations(output: _Output, roles: Sequence[Role]) -> None:
    counts = [duration_histogram(role.table.durations_s) for role in roles]
    rows = []
    for index, (low, high) in enumerate(itertools.pairwise(EDGES_S)):
        if any(row[index] for row in counts):
            cells = [f"{low:g} to {high:g} s" if high < float("inf") else f"{low:g} s and more"]
            for row in counts:
                cells += [output.bar(row[index], max(row)), f"{row[index]:,}"]
            rows.append(cells)
    output.table(["duration", *(name for role in roles for name in (role.name, ">"))], rows)


def _show_skipped(output: _Output, roles: Sequence[Role]) -> None:
    skipped = [row for role in roles for row in role.skipped]
    rows = []
    for (split, reason), count in Counter((row.split, row.reason) for row in skipped).most_common():
        first = next(row for row in skipped if (row.split, row.reason) == (split, reason))
        example = first.detail if first.file in first.detail else f"{first.file}: {first.detail}"
        rows.append([REASON_WORDS.get(reason, reason), split, f"{count:,}", example.strip(": ")])
    output.table(["skipped", "split", ">utterances", "first"], rows)


def _show_outliers(output: _Output, role: Role) -> None:
    median, outliers = find_outliers(role.table.durations_s, role.texts)
    rows = []
    for row, chars_per_s in outliers[:MAX_OUTLIERS]:
        utterance, text = role.table[row], shorten(role.texts[row], 50)
        rows.append([utterance.file, f"{utterance.duration_s:.1f}", f"{chars_per_s:.1f}", text])
    title = f"{role.name}: {len(outliers):,} far from the median {median:.0f} characters a second"
    output.table([title, ">seconds", ">characters/s", "text"], rows)


def _show_judged(output: _Output, judged: Sequence[Judged]) -> None:
    rows = [
        [
            *(f"{one.score:.2f}", f"{one.row.characters.rate:.2f}", f"{one.loss:.2f}"),
            # The whole path is in label_errors.csv and in the page; 80 columns have no room for it.
            *(PurePath(one.row.file).name, shorten(one.row.reference, 50), shorten(one.row.hypothesis, 50)),
        ]
        for one in judged[:MAX_JUDGED]
    ]
    columns = ["likely wrong", ">CER", ">loss per label", "recording", "transcript", "recognised"]
    output.table([">" + columns[0], *columns[1:]], rows)


class _Output:
    """Stdout: on a terminal wrapped at words, in a file without limit. Keeps its tables."""

    def __init__(self) -> None:
        self.console = results_console()
        self.tables: list[tuple[Sequence[str], Sequence[Sequence[str]]]] = []

    def line(self, text: str, *, style: str = "") -> None:
        self.console.print(self._text(text, style=style), soft_wrap=not self.console.is_terminal)

    def item(self, text: str) -> None:
        """Print an item of a list, with a hanging indent on a terminal."""
        from rich.table import Table

        if not self.console.is_terminal:
            return self.line(f"  - {text}")
        item = Table.grid(padding=(0, 1))
        item.add_row("  -", self._text(text))
        self.console.print(item)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows, if any, under column names; those that begin with ">" are aligned to the right."""
        from rich import box
        from rich.table import Table

        if not rows:
            return
        self.tables.append((columns, rows))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in columns:
            is_right = name.startswith(">")
            heading = self._text(name.removeprefix(">"))
            table.add_column(heading, justify="right" if is_right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(self._text(cell) for cell in row))
        self.console.print(table)

    def bar(self, count: int, most: int) -> str:
        length = round(BAR_COLUMNS * count / max(most, 1))
        block = "█" if (self.console.encoding or "").lower().startswith("utf") else "#"
        return block * max(length, 1 if count else 0)

    def _text(self, text: str, *, style: str = "") -> Text:
        from rich.text import Text

        encoding = self.console.encoding
        return Text(visible(text).encode(encoding, "backslashreplace").decode(encoding), style=style)
