"""Reads what lies in a run's output folder, whole or not: a run that was killed still has something to say.

Every file may be missing or torn. What can't be read is said in `Run.notes`; only a folder with nothing of a run in it
is an error. All text passes through `visible`, since transcripts and file names come from corpora nobody has read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speechtune.errors import OutputError
from speechtune.evaluation.metrics.cer import character_edits
from speechtune.evaluation.metrics.wer import word_edits
from speechtune.terminal.formatting import visible
from speechtune.types import EditCounts, Hypothesis

__all__ = ["Evaluation", "Run", "read_run"]

_SECRET_NAME = re.compile(r"^(hub_token|token|use_auth_token|auth_token|access_token)$|api_?key|password|secret", re.I)
_SECRET_VALUE = re.compile(r"\bhf_[A-Za-z0-9]{16,}\b")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation: eval_results{suffix}.json and hypotheses{suffix}.jsonl."""

    name: str  # "test", "unseen voice"
    suffix: str  # "", "_unseen_voice"
    results: dict[str, Any]  # empty if only hypotheses are there
    rows: list[Hypothesis]  # empty if only results are there

    def score(self, metric: str) -> dict[str, Any] | None:
        """rate, hits, substitutions, deletions, insertions and perhaps low and high, of "wer", "cer" or "per".

        Comes from the results, else is summed from the rows, else only the rate is known; None if not even that.
        """
        scores = self.results.get("scores")
        given = scores.get(metric) if isinstance(scores, dict) else None
        if isinstance(given, dict) and _is_finite(given.get("rate")):
            return given
        field_name = {"wer": "words", "cer": "characters"}.get(metric)
        if self.rows and field_name:
            total = EditCounts.total(getattr(row, field_name) for row in self.rows)
            return {"rate": total.rate, **{name: getattr(total, name) for name in _COUNTS}}
        rate: Any = self.results.get(f"eval_{metric}")
        return {"rate": float(rate)} if _is_finite(rate) else None


@dataclass(frozen=True, slots=True)
class Run:
    """What lies in an output folder. Parts that are missing are empty."""

    folder: Path
    evaluations: list[Evaluation]
    log_history: list[dict[str, Any]]
    state: dict[str, Any]  # trainer_state.json without its log_history
    train_results: dict[str, Any]
    settings: dict[str, Any]  # flat: "group.name" for nested ones; secrets blotted out
    skipped: list[dict[str, Any]]
    bad_steps: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)  # what could not be read


_COUNTS = ("hits", "substitutions", "deletions", "insertions")


def read_run(output_dir: Path) -> Run:
    """Everything a report needs from `output_dir`.

    Without a trainer_state.json at the top, that of the newest checkpoint is taken: such a run was cut short.

    Raises:
        OutputError: the folder is not there, or holds none of a run's files.
    """
    if not output_dir.is_dir():
        raise OutputError(f"{output_dir}: no such folder.\nGive the --output_dir of a training or evaluation run.")
    notes: list[str] = []
    state_file = output_dir / "trainer_state.json"
    if not state_file.is_file():
        state_file = max(output_dir.glob("checkpoint-*/trainer_state.json"), key=_step_of, default=state_file)
    state = _read_object(state_file, notes)
    log_history = [entry for entry in state.pop("log_history", None) or [] if isinstance(entry, dict)]
    run = Run(
        folder=output_dir,
        evaluations=_read_evaluations(output_dir, notes),
        log_history=log_history,
        state=state,
        train_results=_read_object(output_dir / "train_results.json", notes),
        settings=_without_secrets(_flat(_read_object(output_dir / "settings.json", notes))),
        skipped=list(_read_lines(output_dir / "skipped.jsonl", notes)),
        bad_steps=list(_read_lines(output_dir / "bad_steps.jsonl", notes)),
        notes=notes,
    )
    if not (run.evaluations or log_history or run.train_results or run.settings or run.skipped or notes):
        raise OutputError(
            f"{output_dir}: nothing of a run lies here.\n"
            "Looked for eval_results.json, hypotheses.jsonl, trainer_state.json, skipped.jsonl, settings.json.\n"
            "Give the --output_dir of a training or evaluation run."
        )
    return run


def _read_evaluations(folder: Path, notes: list[str]) -> list[Evaluation]:
    """By suffix; the one without a suffix is the run's main evaluation and comes first."""
    suffixes = {path.stem.removeprefix("eval_results") for path in folder.glob("eval_results*.json")}
    suffixes |= {path.stem.removeprefix("hypotheses") for path in folder.glob("hypotheses*.jsonl")}
    evaluations = []
    for suffix in sorted(suffixes):
        results = _read_object(folder / f"eval_results{suffix}.json", notes)
        rows = []
        num_bad = 0
        for entry in _read_lines(folder / f"hypotheses{suffix}.jsonl", notes):
            row = _hypothesis(entry)
            num_bad += row is None
            if row is not None:
                rows.append(row)
        if num_bad:
            notes.append(f"hypotheses{suffix}.jsonl: {num_bad} rows without reference and hypothesis, not shown")
        if results or rows:
            name = visible(suffix).replace("_", " ").strip() or str(results.get("split") or "evaluation")
            evaluations.append(Evaluation(name, visible(suffix), results, rows))
    return evaluations


def _hypothesis(entry: dict[str, Any]) -> Hypothesis | None:
    reference, hypothesis = entry.get("reference"), entry.get("hypothesis")
    if not isinstance(reference, str) or not isinstance(hypothesis, str):
        return None
    duration_s: Any = entry.get("duration_s")
    speaker = entry.get("speaker")
    return Hypothesis(
        id=str(entry.get("id", "")),
        reference=reference,
        hypothesis=hypothesis,
        words=_counts(entry.get("words"), word_edits, reference, hypothesis),
        characters=_counts(entry.get("characters"), character_edits, reference, hypothesis),
        duration_s=float(duration_s) if _is_finite(duration_s) else math.nan,
        file=str(entry.get("file") or ""),
        speaker=None if speaker in (None, "") else str(speaker),
    )


def _counts(entry: object, count: Callable[[str, str], EditCounts], reference: str, hypothesis: str) -> EditCounts:
    """The counts of a row; counted anew where the row has none."""
    if isinstance(entry, dict) and all(isinstance(entry.get(name), int) for name in _COUNTS):
        return EditCounts(*(entry[name] for name in _COUNTS))
    return count(reference, hypothesis)


def _read_object(path: Path, notes: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = _visible_all(json.loads(path.read_text(encoding="utf-8", errors="replace")))
    except (OSError, ValueError, RecursionError) as error:
        notes.append(f"{visible(path.name)}: can't be read ({visible(str(error))})")
        return {}
    if not isinstance(value, dict):
        notes.append(f"{visible(path.name)}: a JSON object was expected, not shown")
        return {}
    return value


def _read_lines(path: Path, notes: list[str]) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL file; a torn line (a run killed while writing) is counted in `notes`."""
    if not path.is_file():
        return
    num_bad = 0
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not line.strip():
                continue
            try:
                row = _visible_all(json.loads(line))
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict):
                yield row
            else:
                num_bad += 1
    if num_bad:
        notes.append(f"{visible(path.name)}: {num_bad} torn or foreign lines, not shown")


def _visible_all(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, list):
        return [_visible_all(item) for item in value]
    if isinstance(value, dict):
        return {visible(str(key)): _visible_all(item) for key, item in value.items()}
    return value


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            # What the user asked for is the group "options"; its names need no prefix.
            flat.update(_flat(value, "" if name == "options" and not prefix else f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def _without_secrets(settings: dict[str, Any]) -> dict[str, Any]:
    """A report is passed on; a token in it would be too."""
    result = {}
    for name, value in settings.items():
        if isinstance(value, str) and value and _SECRET_NAME.search(name.rpartition(".")[2]):
            value = "(hidden)"
        result[name] = _SECRET_VALUE.sub("(hidden)", value) if isinstance(value, str) else value
    return result


def _step_of(state_file: Path) -> int:
    number = state_file.parent.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
