"""report.html: how good a run is, in one file that opens anywhere and loads nothing.

Everything is computed here and laid out by templates/report.html, which escapes all of it: transcripts come from
strangers. The page's only script is ours and is allowed by its hash, so that injected markup could not run. The same
folder gives the same bytes: no date, no random number, no dictionary order.

Rejected: rows as JSON drawn by a script (smaller, but nothing to see without a script or on paper), and a framework.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import markupsafe

from speechtune.errors import OutputError
from speechtune.evaluation.evaluate import Evaluation
from speechtune.evaluation.metrics import all_metrics
from speechtune.files import explain_write_errors, write_atomically
from speechtune.reporting.details import evaluation_details
from speechtune.reporting.findings import counts_in, findings, in_plain_words, interval_text
from speechtune.reporting.plots import chart_svg, series_of, template_environment, training_charts
from speechtune.reporting.run_folder import Run, read_run
from speechtune.reporting.values import value_text
from speechtune.terminal.formatting import duration_text, percent
from speechtune.types import EditCounts, Skipped

__all__ = ["write_report"]

TABLE_BYTES = 1_200_000  # of the rows of all tables of utterances together, so that the page stays below 2 MB
MAX_EVALUATIONS = 8  # shown in detail
MAX_LISTED = 100  # skipped utterances of one reason, non-finite steps
KINDS = {"hits": "correct", "substitutions": "substituted", "deletions": "deleted", "insertions": "inserted"}


def write_report(output_dir: Path, *, title: str | None = None) -> Path:
    """Write `output_dir`/report.html from the files in that folder; parts that are missing are not shown.

    Args:
        output_dir: output folder of a training or evaluation run, finished or not.
        title: heading; without one, the names of model and dataset.

    Returns:
        Path of the file.

    Raises:
        OutputError: the folder is missing, holds no results of a run, or can't be written to.
    """
    output_dir = Path(output_dir)
    run = read_run(output_dir)
    if run.is_empty:
        missing = "no results of a run" if output_dir.is_dir() else "no such folder"
        raise OutputError(
            f"{output_dir}: {missing}.\n"
            "Looked for eval_results.json, trainer_state.json, train_results.json, settings.json, skipped.jsonl.\n"
            "Give the --output_dir of a training or evaluation run."
        )
    text = template_environment().get_template("report.html").render(_page(run, title))
    path = output_dir / "report.html"
    with explain_write_errors("the report", output_dir):
        write_atomically(path, text)
    return path


def _page(run: Run, title: str | None) -> dict[str, Any]:
    """Return every value that report.html names."""
    script, style = _source("report.js"), _source("report.css") + _source("chart.css")
    shown = run.evaluations[:MAX_EVALUATIONS]
    num_rows = max(1, sum(len(evaluation.hypotheses) for evaluation in shown))
    logged = [row["step"] for row in run.log_history if "step" in row and not math.isfinite(row.get("loss", 0.0))]
    charts = training_charts(run.log_history, bad_steps=[row["step"] for row in run.bad_steps] or logged)
    return {
        "title": title or _title(run),
        "folder": run.folder.resolve().name,
        "facts": _facts(run),
        "head": _head(shown[0]) if shown else _head_while_training(run),
        "findings": findings(run),
        "overview": [_overview(evaluation) for evaluation in run.evaluations],
        "evaluations": [evaluation_details(e, TABLE_BYTES * len(e.hypotheses) // num_rows) for e in shown],
        "training": _training(run),
        "charts": [(chart, markupsafe.Markup(chart_svg(chart))) for chart in charts],
        "skipped": _skipped(run.skipped),
        "bad_steps": [_bad_step(row) for row in run.bad_steps[:MAX_LISTED]],
        "num_bad_steps": len(run.bad_steps),
        "settings": [(name, value_text(value)) for name, value in sorted((run.resolved | run.settings).items())],
        "max_listed": MAX_LISTED,
        "script": markupsafe.Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "style": markupsafe.Markup(style),
    }


def _title(run: Run) -> str:
    parts = (_model(run).rstrip("/").rpartition("/")[2], _dataset(run))
    return " on ".join(filter(None, parts)) or run.folder.resolve().name


def _model(run: Run) -> str:
    return str(run.settings.get("model_name_or_path") or run.results.get("model") or "")


def _dataset(run: Run) -> str:
    names = [run.settings.get(key) for key in ("dataset_name", "dataset_config_name")]
    return str(run.results.get("dataset") or "/".join(str(name) for name in names if name))


def _facts(run: Run) -> list[tuple[str, str]]:
    """Return (name, value) of what was evaluated and how."""
    facts = [
        ("Model", _model(run)),
        ("Dataset", _dataset(run)),
        ("Split", str(run.results.get("split") or "")),
        ("Protocol", _protocol(run.results.get("protocol") or {})),
    ]
    return [(name, value) for name, value in facts if value]


def _protocol(protocol: Mapping[str, Any]) -> str:
    """Return "default: normaliser; filters; 3 excluded; other settings; hash"."""
    if not protocol:
        return ""
    rest = dict(protocol)
    name, normaliser = rest.pop("name", "unnamed"), rest.pop("normalizer", "")
    filters = ", ".join(f"{k} {v}" for k, v in sorted((rest.pop("filters", None) or {}).items()))
    excluded = rest.pop("skipped", rest.pop("excluded", None))
    digest = rest.pop("hash", "")
    parts = [
        str(normaliser),
        f"filtered by {filters}" if filters else "no filter",
        "" if excluded is None else f"{excluded} excluded",
        *(f"{key.replace('_', ' ')} {value_text(value)}" for key, value in rest.items() if value not in (None, "")),
        f"hash {digest[:12]}" if digest else "",
    ]
    return f"{name}: " + "; ".join(filter(None, parts))


def _head(evaluation: Evaluation) -> dict[str, Any]:
    """Return the large figure, its sentence, and the strip of correct and wrong words."""
    wer = evaluation.score("wer")
    counts = counts_in(wer)
    return {
        "label": f"WER, word error rate, {evaluation.name}",
        "wer": wer,
        "interval": _interval(wer),
        "sentence": in_plain_words(wer) if wer else "This evaluation holds no word error rate.",
        "strip": _strip(counts) if counts and (counts.hits or counts.edits) else [],
        "tiles": _tiles(evaluation),
    }


def _head_while_training(run: Run) -> dict[str, Any]:
    """Return the same for a run without a final evaluation, from the last WER of the training, if any."""
    head: dict[str, Any] = {"wer": None, "interval": "", "strip": [], "tiles": []}
    rates = series_of(run.log_history, "eval_wer")
    if not rates:
        return {**head, "sentence": "This run holds no scores yet."}
    step, rate = rates[-1]
    sentence = "The last evaluation while training; the run holds no final scores. " + in_plain_words({"rate": rate})
    return {**head, "label": f"WER, word error rate, at step {step:,.0f}", "wer": {"rate": rate}, "sentence": sentence}


def _strip(counts: EditCounts) -> list[dict[str, Any]]:
    """Return the four kinds of words; width in percent of everything aligned, rate relative to the reference."""
    total, length = counts.hits + counts.edits, counts.reference_length
    return [
        {
            "kind": kind,
            "name": name,
            "count": (count := getattr(counts, kind)),
            "width": round(100 * count / total, 3),
            "rate": count / length if length else math.inf,
        }
        for kind, name in KINDS.items()
    ]


def _interval(score: Mapping[str, Any] | None) -> str:
    bounds = interval_text(score)
    return f"95 % interval {bounds}" if bounds else ""


def _tiles(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """Return (name, value, small print)."""
    tiles = []
    for metric in all_metrics().values():
        score = evaluation.score(metric.name)
        if score is not None and metric.name != "wer":
            tiles.append((f"{metric.name.upper()}, {metric.title}", percent(score["rate"]), _interval(score)))
    view = _overview(evaluation)
    values = [
        ("utterances", f"{view['num_utterances']:,}" if view["num_utterances"] else "", ""),
        ("words in the references", f"{view['num_words']:,}" if view["num_words"] else "", ""),
        ("of speech", duration_text(view["duration_s"]) if view["duration_s"] else "", ""),
    ]
    return tiles + [tile for tile in values if tile[1]]


def _overview(evaluation: Evaluation) -> dict[str, Any]:
    """Return one row of the table of evaluations."""
    wer, rows = evaluation.score("wer"), evaluation.hypotheses
    counts = counts_in(wer)
    return {
        "name": evaluation.name,
        "wer": wer,
        "interval": interval_text(wer),
        "cer": evaluation.score("cer"),
        "num_utterances": len(rows) or evaluation.results.get("eval_samples") or 0,
        "num_words": counts.reference_length if counts else 0,
        "duration_s": math.fsum(row.duration_s for row in rows if not math.isnan(row.duration_s)),
    }


def _training(run: Run) -> list[tuple[str, str]]:
    """Return (name, value) of what the training cost."""
    results = run.train_results
    epoch = results.get("epoch", run.state.get("epoch"))
    facts = [
        ("steps", run.state.get("global_step"), "{:,}".format),
        ("epoch" if epoch == 1 else "epochs", epoch, "{:.4g}".format),
        ("training time", results.get("train_runtime"), duration_text),
        ("training utterances", results.get("train_samples"), "{:,}".format),
        ("mean training loss", results.get("train_loss"), "{:.4g}".format),
    ]
    return [(name, show(value)) for name, value, show in facts if value is not None]


def _skipped(rows: Sequence[Skipped]) -> list[dict[str, Any]]:
    """Group by reason, most frequent first."""
    groups = []
    for reason, count in sorted(Counter(row.reason for row in rows).items(), key=lambda item: (-item[1], item[0])):
        members = [row for row in rows if row.reason == reason]
        splits = Counter(row.split for row in members)
        groups.append(
            {
                "reason": reason.replace("_", " "),
                "count": count,
                "splits": ", ".join(f"{split} {n:,}" for split, n in sorted(splits.items())),
                "duration_s": math.fsum(row.duration_s for row in members if not math.isnan(row.duration_s)),
                "rows": members[:MAX_LISTED],
            }
        )
    return groups


def _bad_step(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return (step, everything else that the row holds)."""
    rest = "; ".join(f"{name.replace('_', ' ')}: {value_text(value)}" for name, value in row.items() if name != "step")
    return str(row["step"]), rest


def _source(name: str) -> str:
    environment = template_environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]
