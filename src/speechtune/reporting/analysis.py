"""What `analysis` and `silence` of an evaluation's results say, for report.html: sentences, tables, groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from speechtune.evaluation.error_analysis import Group, group_of
from speechtune.evaluation.evaluate import Evaluation
from speechtune.evaluation.slices import slices_of
from speechtune.terminal.formatting import percent, shorten

__all__ = ["analysis_details"]

_TABLES = {
    "by_position": "Errors by position in the utterance",
    "by_training_frequency": "Errors by how often training saw the word",
}
_OTHERS = ("length", "speaker")  # which the report shows anyway
MAX_TEXTS = 3  # of those that a model wrote where nobody spoke


def analysis_details(evaluation: Evaluation) -> dict[str, Any]:
    """Return "facts" (sentences), "tables" ((title, rows of name, words, errors, rate)), "columns" ((name, groups))."""
    analysis = evaluation.results.get("analysis") or {}
    rows = evaluation.hypotheses
    columns: dict[str, list[Group]] = {}
    for part in slices_of(rows):
        if part.by not in _OTHERS:
            columns.setdefault(part.by, []).append(group_of(part.name, [rows[place] for place in part.rows]))
    return {
        "facts": [*_facts(analysis), *_silence(evaluation.results.get("silence") or {})],
        "tables": [(title, analysis[name]) for name, title in _TABLES.items() if analysis.get(name)],
        "columns": list(columns.items()),
    }


def _facts(analysis: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each kind of failure that occurred."""
    found = []
    empty, loops = analysis.get("empty_outputs") or {}, analysis.get("repeated_loops") or {}
    if empty.get("utterances"):
        number = empty["utterances"]
        found.append(f"Nothing was recognised in {number:,} utterance{'s' * (number != 1)} ({empty['words']:,} words).")
    if loops.get("utterances"):
        number, words = loops["utterances"], loops["inserted_words"]
        found.append(f"{number:,} output{'s' * (number != 1)} with a phrase again and again: {words:,} words too many.")
    written = analysis.get("case_and_punctuation") or {}
    if written.get("reference_words"):
        only = {name: written[name] / written["reference_words"] for name in ("case", "punctuation")}
        both = written["case_and_punctuation"] / written["reference_words"]
        found.append(
            f"Without case and punctuation the word error rate is {percent(written['rate'])}: of all words "
            f"{percent(only['case'])} are wrong in case only, {percent(only['punctuation'])} in punctuation only, "
            f"{percent(both)} in both."
        )
    return found


def _silence(silence: Mapping[str, Any]) -> list[str]:
    if not silence:
        return []
    where = f"on {silence['seconds']:.0f} s of generated silence, noise, hum and tones"
    if not silence["words"]:
        return [f"It writes nothing {where}."]
    texts = dict.fromkeys(text for kind in silence["by_kind"] for text in kind["texts"] if text)
    shown = ", ".join(f"“{shorten(text, 60)}”" for text in list(texts)[:MAX_TEXTS])
    number = silence["words"]
    return [f"It writes {number:,} word{'s' * (number != 1)} that nobody said {where}: {shown}."]
