"""Before and after training: the starting model's scores beside the trained one's, on the same utterances."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechtune.evaluation.evaluate import Evaluation
from speechtune.evaluation.significance import Difference, paired_bootstrap
from speechtune.terminal.formatting import percent

__all__ = ["Change", "changes"]


@dataclass(frozen=True)
class Change:
    """The change of a set's word error rate.

    Args:
        name: of the set: "common_voice/tr test".
        before, after: the evaluations.
        difference: after minus before, over the utterances that both have; None where they have none in common.
        is_own: it is the set that the training is for.
    """

    name: str
    before: Evaluation
    after: Evaluation
    difference: Difference | None
    is_own: bool

    @property
    def is_certain(self) -> bool:
        """Whether the 95 % interval of the difference does not hold 0."""
        return self.difference is not None and (self.difference.low > 0 or self.difference.high < 0)

    @property
    def is_warning(self) -> bool:
        """Whether the user is warned: training made its own set worse at all, or a further one more than by chance."""
        return self._points > 0 and (self.is_own or self.is_certain)

    @property
    def _points(self) -> float:
        return self.difference.difference if self.difference is not None else math.nan

    @property
    def interval(self) -> str:
        """ "-8.2 to +1.5 points", the 95 % interval of the difference; empty where it has none."""
        found = self.difference
        if found is None or math.isnan(found.low):
            return ""
        return f"{100 * found.low:+.1f} to {100 * found.high:+.1f} points"

    @property
    def points(self) -> str:
        """ "-4.7 points"; empty where the evaluations can't be compared."""
        return f"{100 * self._points:+.1f} points" if self.difference is not None else ""

    @property
    def sentence(self) -> str:
        """What follows, in one sentence."""
        before, after = (percent(one.wer) for one in (self.before, self.after))
        rates = f"{self.name}: WER {before} before training, {after} after"
        if self.difference is None:
            return f"{rates}; not the same utterances, so they can't be compared."
        interval = f" (95 % interval {self.interval})" if self.interval else ""
        if not self._points:
            return f"{rates}: no difference."
        word = "better" if self._points < 0 else "worse"
        size = f"{rates}: {100 * abs(self._points):.1f} points {word}{interval}"
        chance = "" if self.is_certain else f"on these {len(self.after.hypotheses):,} utterances that may be chance"
        if not self.is_warning:
            return f"{size}; {chance}." if chance else f"{size}."
        warning = f"{size}. The model recognised this better before training"
        return f"{warning}; {chance}." if chance else f"{warning}."

    def as_json(self) -> dict[str, Any]:
        """The change for results files."""
        found = self.difference
        row: dict[str, Any] = {"wer_before": self.before.wer, "wer_after": self.after.wer, "sentence": self.sentence}
        if found is not None:
            row |= {"difference": found.difference, "low": found.low, "high": found.high, "p_value": found.p_value}
            row["interval"] = {"unit": found.unit, "groups": found.groups}
        return row


def changes(folder: Path) -> list[Change]:
    """Return the change of each set that was evaluated before and after training, the run's own first.

    Raises:
        OutputError: a file of results can't be read.
    """
    suffixes = sorted(path.stem.removeprefix("baseline_results") for path in folder.glob("baseline_results*.json"))
    found = []
    for suffix in suffixes:
        after = Evaluation.read(folder, suffix)
        if after.hypotheses:
            found.append(_change(Evaluation.read(folder, suffix, baseline=True), after))
    return found


def _change(before: Evaluation, after: Evaluation) -> Change:
    rows = {row.id: row for row in before.hypotheses}
    pairs = [
        (rows[row.id], row) for row in after.hypotheses if row.id in rows and rows[row.id].reference == row.reference
    ]
    difference = None
    if pairs:
        difference = paired_bootstrap(
            [old.words.edits for old, _ in pairs],
            [new.words.edits for _, new in pairs],
            [new.words.reference_length for _, new in pairs],
            speakers=[new.speaker for _, new in pairs],
        )
    results: Mapping[str, Any] = after.results
    name = after.results.get("name") or f"{results.get('dataset', '')} {results.get('split', '')}".strip()
    return Change(str(name), before, after, difference, is_own=not after.suffix)
