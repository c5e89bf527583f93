"""One evaluation in report.html: confusions, groups of utterances, and the utterances worth a look and a listen."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from speechtune.evaluation.error_analysis import (
    Group,
    by_duration,
    by_num_errors,
    by_speaker,
    character_confusions,
    diff,
    median_rate,
    most_common,
    word_confusions,
    worst_first,
)
from speechtune.evaluation.evaluate import Evaluation
from speechtune.reporting.analysis import analysis_details
from speechtune.reporting.table import cut
from speechtune.types import Hypothesis

__all__ = ["Bar", "evaluation_details"]

MAX_CONFUSIONS = 12  # rows of each table of confusions
MAX_SHOWN = 10  # of the worst, newly wrong and random utterances each
MAX_SPEAKERS = 16  # above, the 8 highest and the 4 lowest
SHOWN_CHARACTERS = 4_000  # of one utterance's text


class Bar(NamedTuple):
    """A group with its rate and the ends of its interval in percent of the axis; the interval may be unknown."""

    group: Group
    width: float
    low: float | None
    high: float | None


def evaluation_details(evaluation: Evaluation, before: Mapping[str, Hypothesis] | None = None) -> dict[str, Any]:
    """Return what the template shows of one evaluation.

    Args:
        before: the starting model's hypotheses of the same utterances, by id.
    """
    before = before or {}
    rows = worst_first(evaluation.hypotheses)
    num_edits = sum(row.words.edits for row in rows)
    worst = [row for row in rows[:MAX_SHOWN] if row.words.edits or row.characters.edits]
    speakers = by_speaker(rows)
    analysis = analysis_details(evaluation)
    samples = [
        ("worst", "Worst", worst),
        ("newly_wrong", "Newly wrong", _newly_wrong(rows, before)),
        ("random", "Random", sorted(rows, key=_drawn)[:MAX_SHOWN]),
    ]
    return {
        "name": evaluation.name,
        "key": "e" + hashlib.sha256(evaluation.suffix.encode()).hexdigest()[:8],
        "rows_file": f"hypotheses{evaluation.suffix}.jsonl",
        "num_rows": len(rows),
        "rows": rows,
        "before": before,
        "words": most_common(word_confusions(rows), MAX_CONFUSIONS),
        "characters": most_common(character_confusions(rows), MAX_CONFUSIONS),
        "num_errors": by_num_errors(rows),
        "durations": _bars(by_duration(rows)),
        "speakers": _bars(speakers if len(speakers) <= MAX_SPEAKERS else [*speakers[:8], *speakers[-4:]]),
        "num_speakers": len(speakers),
        "speakers_cut": len(speakers) > MAX_SPEAKERS,
        "speaker_median": median_rate(speakers),
        "facts": analysis["facts"],
        "tables": analysis["tables"],
        "columns": [(name, _bars(groups)) for name, groups in analysis["columns"]],
        "has_errors": bool(worst),
        "worst_share": sum(row.words.edits for row in worst) / num_edits if num_edits else 0.0,
        "samples": [
            {"kind": kind, "title": title, "utterances": [_utterance(row, before) for row in found]}
            for kind, title, found in samples
            if found or kind == "worst"
        ],
    }


def _newly_wrong(rows: Iterable[Hypothesis], before: Mapping[str, Hypothesis]) -> list[Hypothesis]:
    """Return what got worse, by the most additional word errors."""
    more = [(row.words.edits - before[row.id].words.edits, row) for row in rows if row.id in before]
    return [row for num, row in sorted(more, key=lambda pair: -pair[0])[:MAX_SHOWN] if num > 0]


def _drawn(row: Hypothesis) -> str:
    """Sort key that is as good as random and the same every time, for every model."""
    return hashlib.sha256(row.id.encode("utf-8", "surrogatepass")).hexdigest()


def _bars(groups: Sequence[Group]) -> list[Bar]:
    """Return each group on an axis to the highest finite rate, or to the end of an interval below its double."""
    highest = max((g.words.rate for g in groups if math.isfinite(g.words.rate)), default=0.0)
    ends = [g.high for g in groups if math.isfinite(g.high)]
    end = min(max(ends, default=0.0), 2 * highest) if max(ends, default=0.0) > highest else highest

    def place(rate: float) -> float | None:
        return round(100 * min(rate / end, 1.0), 1) if end and not math.isnan(rate) else None

    return [Bar(g, place(g.words.rate) or 0.0, place(g.low), place(g.high)) for g in groups]


def _utterance(row: Hypothesis, before: Mapping[str, Hypothesis]) -> dict[str, Any]:
    parts, num_hidden = cut(diff(row.reference, row.hypothesis), SHOWN_CHARACTERS)
    old = before.get(row.id)
    earlier: dict[str, Any] | None = None
    if old is not None and old.hypothesis != row.hypothesis:
        old_parts, old_hidden = cut(diff(old.reference, old.hypothesis), SHOWN_CHARACTERS)
        earlier = {"parts": old_parts, "num_hidden": old_hidden}
    return {"row": row, "parts": parts, "num_hidden": num_hidden, "before": old, "earlier": earlier}
