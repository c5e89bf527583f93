"""The table of utterances as data of the page: report.js draws a screen of it at a time, so 20,000 rows do not lag.

Alignments are made here, by the same function as the counts, so that the page has nothing to align.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from speechtune.evaluation.edits import EditOp
from speechtune.evaluation.error_analysis import DURATION_EDGES_S, diff
from speechtune.reporting.audio import Clips
from speechtune.terminal.formatting import percent, shorten, visible
from speechtune.types import Hypothesis

__all__ = ["COLUMNS", "cut", "page_json", "table_rows"]

TABLE_CHARACTERS = 1_200  # of one utterance's text
COLUMNS = ("parts", "hidden", "errors", "wer", "cer", "seconds", "speaker", "id", "clip", "before")


def table_rows(
    rows: Iterable[Hypothesis], clips: Clips, max_bytes: int, before: Mapping[str, Hypothesis] | None = None
) -> list[str]:
    """Return rows as JSON arrays in the order of COLUMNS, until `max_bytes` are reached, of at least one.

    Args:
        before: the starting model's hypotheses, by id.
    """
    texts: list[str] = []
    size = 0
    for row in rows:
        text = _json(_cells(row, clips, (before or {}).get(row.id)))
        size += len(text.encode()) + 1
        if size > max_bytes and texts:
            break
        texts.append(text)
    return texts


def page_json(tables: Mapping[str, Sequence[str]], clips: Clips) -> tuple[str, str]:
    """Return (tables and outlines, audio) as JSON that can stand inside a <script> element."""
    rows = ",".join(f'"{key}":[{",".join(texts)}]' for key, texts in tables.items())
    facts = f'"columns":{_json(COLUMNS)},"edges":{_json(DURATION_EDGES_S)},"clips":{_json(clips.facts)}'
    return f'{{{facts},"tables":{{{rows}}}}}', _json(clips.audio)


def cut(parts: Sequence[EditOp], max_characters: int) -> tuple[list[EditOp], int]:
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


def _cells(row: Hypothesis, clips: Clips, before: Hypothesis | None) -> list[Any]:
    parts, num_hidden = cut(diff(row.reference, row.hypothesis), TABLE_CHARACTERS)
    return [
        # Words in common are a text; a difference is [reference, hypothesis], one of them empty or none.
        [visible(p.reference) if p.kind == "hit" else [visible(p.reference), visible(p.hypothesis)] for p in parts],
        num_hidden,
        row.words.edits,
        percent(row.words.rate),
        percent(row.characters.rate),
        None if math.isnan(row.duration_s) else round(row.duration_s, 1),
        visible(row.speaker or ""),
        visible(row.id),
        clips.place(row),
        None if before is None else before.words.edits,
    ]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
