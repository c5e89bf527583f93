"""comparison.html: systems on the same utterances, in one file that opens anywhere and loads nothing.

The numbers are `Comparison`'s; here they are only laid out, by templates/comparison.html, with the report's style.
"""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechtune.evaluation.comparison import ChangedUtterance, Comparison, Pair, SliceDifference
from speechtune.evaluation.error_analysis import diff
from speechtune.evaluation.significance import Difference
from speechtune.files import explain_write_errors, write_atomically
from speechtune.reporting.audio import AUDIO_MB, Clips, ReadPcm, read_file
from speechtune.reporting.page import page_parts
from speechtune.reporting.plots import template_environment
from speechtune.reporting.table import cut
from speechtune.reporting.values import protocol_text
from speechtune.terminal.formatting import interval_text, points, probability

__all__ = ["write_comparison_page"]

MAX_LISTED = 150  # utterances that got better, and as many that got worse; comparison.json has 500 of each
MAX_CHARACTERS = 1_500  # of one alignment


def write_comparison_page(
    comparison: Comparison, folder: Path, *, report_audio_mb: float = AUDIO_MB, read_audio: ReadPcm = read_file
) -> Path:
    """Write comparison.html into `folder`; return its path.

    Args:
        report_audio_mb, read_audio: as of `write_report`.

    Raises:
        OutputError: the folder can't be written to.
    """
    environment = template_environment()
    first, *others = comparison.systems
    clips = Clips(report_audio_mb * 1e6, read_audio)
    lists = [rows[:MAX_LISTED] for pair in comparison.pairs for rows in (pair.worse, pair.better)]
    for rows in itertools.zip_longest(*lists):
        for row in filter(None, rows):  # the largest changes first, while there is room
            clips.add(row)
    letters = [string.ascii_uppercase[place % 26] for place in range(len(comparison.systems))]
    text = environment.get_template("comparison.html").render(
        comparison=comparison,
        letters=letters,
        title=f"{', '.join(system.name for system in others)} against {first.name}",
        protocol=protocol_text(comparison.protocol),
        pairs=[_pair(pair, comparison, letters) for pair in comparison.pairs],
        interval=interval_text,
        points=points,
        probability=probability,
        **page_parts(clips, "comparison.js", "comparison.css"),
    )
    path = folder / "comparison.html"
    with explain_write_errors("the comparison", folder):
        write_atomically(path, text)
    return path


def _pair(pair: Pair, comparison: Comparison, letters: Sequence[str]) -> dict[str, Any]:
    """Return what the template shows of one pair."""
    wer, cer = pair.differences["wer"], pair.differences["cer"]
    scale = _scale([wer, cer])
    slices = {by: list(parts) for by, parts in itertools.groupby(pair.slices, key=lambda part: part.by)}
    return {
        "pair": pair,
        "a": letters[pair.a],
        "b": letters[pair.b],
        "name_a": comparison.systems[pair.a].name,
        "name_b": comparison.systems[pair.b].name,
        "verdict": _verdict(pair),
        "metrics": [(name.upper(), found, _plot(found, scale)) for name, found in pair.differences.items()],
        "slices": [(by, _plots(parts)) for by, parts in slices.items()],
        "changed": [
            ("worse", pair.num_worse, [_utterance(row) for row in pair.worse[:MAX_LISTED]]),
            ("better", pair.num_better, [_utterance(row) for row in pair.better[:MAX_LISTED]]),
        ],
    }


def _verdict(pair: Pair) -> str:
    size = pair.differences["wer"].difference
    if not pair.is_significant:
        return "no difference shown"
    return "better" if size < 0 else "worse"


def _scale(found: Sequence[Difference]) -> float:
    """Return the largest absolute value that is drawn: the plots' middle is no difference."""
    ends = [abs(value) for one in found for value in (one.difference, one.low, one.high) if math.isfinite(value)]
    return max(ends, default=0.0)


def _plot(found: Difference, scale: float) -> dict[str, float | str] | None:
    """Return the places of an interval and its middle, in percent of the width; None where there is nothing to draw."""
    if not scale or not math.isfinite(found.difference):
        return None
    whole = [value for value in (found.low, found.difference, found.high) if math.isfinite(value)]
    low, middle, high = (round(50 + 48 * value / scale, 2) for value in (min(whole), found.difference, max(whole)))
    certain = math.isfinite(found.p_value) and found.p_value < 0.05
    kind = "unsure" if not certain else "better" if found.difference < 0 else "worse"
    return {"low": low, "width": round(high - low, 2), "middle": middle, "kind": kind}


def _plots(parts: Sequence[SliceDifference]) -> list[tuple[SliceDifference, dict[str, float | str] | None]]:
    scale = _scale([part.difference for part in parts])
    return [(part, _plot(part.difference, scale)) for part in parts]


def _utterance(row: ChangedUtterance) -> dict[str, Any]:
    sides = [_aligned(row.reference, text) for text in (row.hypothesis_a, row.hypothesis_b)]
    return {"row": row, "sides": list(zip((row.errors_a, row.errors_b), sides, strict=True))}


def _aligned(reference: str, hypothesis: str) -> dict[str, Any]:
    """Return the parts of an alignment as the macro `diff` shows them, and the number of words that are not shown."""
    parts, num_hidden = cut(diff(reference, hypothesis), MAX_CHARACTERS)
    return {"parts": parts, "num_hidden": num_hidden}
