"""One evaluation in report.html: confusions, groups of utterances, the worst utterances, the table of utterances."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import markupsafe

from speechtune.evaluation.edits import EditOp
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
from speechtune.reporting.plots import template_environment
from speechtune.terminal.formatting import shorten
from speechtune.types import Hypothesis

__all__ = ["evaluation_details"]

MAX_CONFUSIONS = 12  # rows of each table of confusions
MAX_WORST = 10
MAX_SPEAKERS = 16  # above, the 8 highest and the 4 lowest
TABLE_CHARACTERS, WORST_CHARACTERS = 1_200, 4_000  # of one utterance's text in the table, among the worst


def evaluation_details(evaluation: Evaluation, table_bytes: int) -> dict[str, Any]:
    """Return what the template shows of one evaluation; its table of utterances takes at most `table_bytes`."""
    rows = worst_first(evaluation.hypotheses)
    num_edits = sum(row.words.edits for row in rows)
    worst = [row for row in rows[:MAX_WORST] if row.words.edits or row.characters.edits]
    speakers = by_speaker(rows)
    table = _table(rows, table_bytes)
    return {
        "name": evaluation.name,
        "key": "e" + hashlib.sha256(evaluation.suffix.encode()).hexdigest()[:8],
        "rows_file": f"hypotheses{evaluation.suffix}.jsonl",
        "num_rows": len(rows),
        "words": most_common(word_confusions(rows), MAX_CONFUSIONS),
        "characters": most_common(character_confusions(rows), MAX_CONFUSIONS),
        "num_errors": by_num_errors(rows),
        "durations": _bars(by_duration(rows)),
        "speakers": _bars(speakers if len(speakers) <= MAX_SPEAKERS else [*speakers[:8], *speakers[-4:]]),
        "num_speakers": len(speakers),
        "speakers_cut": len(speakers) > MAX_SPEAKERS,
        "speaker_median": median_rate(speakers),
        "worst": [_utterance(row, WORST_CHARACTERS) for row in worst],
        "worst_share": sum(row.words.edits for row in worst) / num_edits if num_edits else 0.0,
        "table": markupsafe.Markup("".join(table)),
        "num_in_table": len(table),
    }


def _bars(groups: Sequence[Group]) -> list[tuple[Group, float]]:
    """Return each group with the width of its bar: its rate in percent of the highest finite rate."""
    highest = max((g.words.rate for g in groups if math.isfinite(g.words.rate)), default=0.0)
    return [(g, round(100 * min(g.words.rate / highest, 1.0), 1) if highest else 0.0) for g in groups]


def _table(rows: Iterable[Hypothesis], table_bytes: int) -> list[str]:
    """Return the HTML of rows until `table_bytes` are reached, of at least one."""
    template = template_environment().get_template("utterance_row.html")
    texts: list[str] = []
    size = 0
    for row in rows:
        text = template.render(u=_utterance(row, TABLE_CHARACTERS))
        size += len(text.encode())
        if size > table_bytes and texts:
            break
        texts.append(text)
    return texts


def _utterance(row: Hypothesis, max_characters: int) -> dict[str, Any]:
    parts, num_hidden = _cut(diff(row.reference, row.hypothesis), max_characters)
    return {"row": row, "parts": parts, "num_hidden": num_hidden}


def _cut(parts: Sequence[EditOp], max_characters: int) -> tuple[list[EditOp], int]:
    """Return the parts that fit, each cut where it alone is too long, and the number of words that are not shown."""
    kept: list[EditOp] = []
    room = max_characters
    for i, part in enumerate(parts):
        if room <= 0:
            hidden = sum(max(len(p.reference.split()), len(p.hypothesis.split())) for p in parts[i:])
            return kept, hidden
        kept.append(EditOp(part.kind, shorten(part.reference, room), shorten(part.hypothesis, room)))
        room -= len(part.reference if part.kind == "hit" else part.reference + part.hypothesis) + 1
    return kept, 0
