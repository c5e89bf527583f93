"""One evaluation as report.html shows it: where its errors lie, its worst utterances, the table of utterances."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

from speechtune.evaluation.error_analysis import (
    DiffPart,
    Group,
    by_duration,
    by_num_errors,
    by_speaker,
    character_confusions,
    diff,
    median_rate,
    word_confusions,
    worst_first,
)
from speechtune.reporting.plots import template_environment
from speechtune.reporting.run_folder import Evaluation
from speechtune.terminal.formatting import shorten
from speechtune.types import Hypothesis

__all__ = ["evaluation_details", "markup"]

MAX_CONFUSIONS = 12  # rows of each table of confusions
MAX_WORST = 10
MAX_SPEAKERS = 16  # above, the 8 highest and the 4 lowest
TABLE_CHARACTERS, WORST_CHARACTERS = 1_200, 4_000  # of one utterance's text in the table, among the worst


def evaluation_details(evaluation: Evaluation, table_bytes: int) -> dict[str, Any]:
    """Details of one evaluation: where its errors lie, the worst utterances, the table."""
    rows = worst_first(evaluation.rows)
    num_edits = sum(row.words.edits for row in rows)
    worst = [row for row in rows[:MAX_WORST] if row.words.edits or row.characters.edits]
    speakers = by_speaker(rows)
    table = _table(rows, table_bytes)
    return {
        "name": evaluation.name,
        "key": "e" + hashlib.sha256(evaluation.suffix.encode()).hexdigest()[:8],
        "rows_file": f"hypotheses{evaluation.suffix}.jsonl",
        "num_rows": len(rows),
        "words": word_confusions(rows).most_common(MAX_CONFUSIONS),
        "characters": character_confusions(rows).most_common(MAX_CONFUSIONS),
        "num_errors": by_num_errors(rows),
        "durations": _bars(by_duration(rows)),
        "speakers": _bars(speakers if len(speakers) <= MAX_SPEAKERS else [*speakers[:8], *speakers[-4:]]),
        "num_speakers": len(speakers),
        "speakers_cut": len(speakers) > MAX_SPEAKERS,
        "speaker_median": median_rate(speakers),
        "worst": [_utterance(row, WORST_CHARACTERS) for row in worst],
        "worst_share": sum(row.words.edits for row in worst) / num_edits if num_edits else 0.0,
        "table": markup("".join(table)),
        "num_in_table": len(table),
    }


def _bars(groups: Sequence[Group]) -> list[tuple[Group, float]]:
    """Each group with the width of its bar, 0 to 100: the rate in parts of the highest rate shown."""
    highest = max((g.words.rate for g in groups if math.isfinite(g.words.rate)), default=0.0)
    return [(g, round(100 * min(g.words.rate / highest, 1.0), 1) if highest else 0.0) for g in groups]


def _table(rows: Iterable[Hypothesis], table_bytes: int) -> list[str]:
    """HTML of rows until `table_bytes` are reached, at least one."""
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
    return {
        "id": row.id,
        "file": row.file,
        "speaker": row.speaker,
        "duration_s": None if math.isnan(row.duration_s) else row.duration_s,
        "words": row.words,
        "characters": row.characters,
        "parts": parts,
        "num_hidden": num_hidden,
        "is_empty": not row.hypothesis.strip(),
    }


def _cut(parts: Sequence[DiffPart], max_characters: int) -> tuple[list[DiffPart], int]:
    """The parts that fit, each cut where it alone is too long, and the number of words that are not shown."""
    kept: list[DiffPart] = []
    room = max_characters
    for i, part in enumerate(parts):
        if room <= 0:
            hidden = sum(max(len(p.reference.split()), len(p.hypothesis.split())) for p in parts[i:])
            return kept, hidden
        kept.append(DiffPart(part.kind, shorten(part.reference, room), shorten(part.hypothesis, room)))
        room -= len(part.reference if part.kind == "hit" else part.reference + part.hypothesis) + 1
    return kept, 0


def markup(text: str) -> str:
    """Marks our own text, or text that a template has escaped already, as not to be escaped again."""
    import markupsafe

    return markupsafe.Markup(text)
