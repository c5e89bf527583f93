"""report.html: how good a run is, in one file that opens anywhere and loads nothing.

Everything is computed here and laid out by templates/report.html, which escapes all of it: transcripts come from
strangers. The page's only script is ours and is allowed by its hash, so that injected markup could not run. The same
folder gives the same bytes: no date, no random number, no dictionary order.

What a reader should see without a script and on paper is HTML: figures, curves, groups, utterances worth a look. The
table of all utterances and their audio are JSON, drawn a screen at a time (table.py).

Rejected: all rows as HTML (20,000 rows took seconds to open, so the table was cut), and a framework.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import markupsafe

from speechtune.errors import OutputError
from speechtune.evaluation.metrics import all_metrics
from speechtune.files import explain_write_errors, write_atomically
from speechtune.reporting.audio import AUDIO_MB, Clips, ReadPcm, read_file
from speechtune.reporting.details import evaluation_details
from speechtune.reporting.findings import counts_in, findings, in_plain_words
from speechtune.reporting.mixtures import mixture_curve
from speechtune.reporting.page import page_parts
from speechtune.reporting.plots import chart_svg, series_of, template_environment, training_charts
from speechtune.reporting.run_folder import Run, read_run
from speechtune.reporting.table import table_rows
from speechtune.reporting.values import protocol_text, value_text
from speechtune.terminal.formatting import interval_text
from speechtune.types import Skipped

__all__ = ["write_report"]

log = logging.getLogger("speechtune")

TABLE_BYTES = 12_000_000  # of the rows of all tables of utterances together
MAX_EVALUATIONS = 8  # shown in detail
MAX_LISTED = 100  # skipped utterances of one reason, non-finite steps
KINDS = {"hits": "correct", "substitutions": "substituted", "deletions": "deleted", "insertions": "inserted"}


def write_report(
    output_dir: Path, *, title: str | None = None, report_audio_mb: float = AUDIO_MB, read_audio: ReadPcm = read_file
) -> Path:
    """Write `output_dir`/report.html from the files in that folder; parts that are missing are not shown.

    Args:
        output_dir: output folder of a training or evaluation run, finished or not.
        title: heading; without one, the names of model and dataset.
        report_audio_mb: size of the audio in the page, in MB; what does not fit is linked. 0: no audio.
        read_audio: returns the samples of an utterance; by default from the file that hypotheses.jsonl names.

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
    clips = Clips(report_audio_mb * 1e6, read_audio)
    text = template_environment().get_template("report.html").render(_page(run, title, clips))
    if clips.num_missing and not clips.facts:
        log.info("report without audio: the recordings are not where hypotheses.jsonl says, or inside archives")
    path = output_dir / "report.html"
    with explain_write_errors("the report", output_dir):
        write_atomically(path, text)
    return path


def _page(run: Run, title: str | None, clips: Clips) -> dict[str, Any]:
    """Return every value that report.html names."""
    before = {suffix: {row.id: row for row in old.hypotheses} for suffix, old in run.baselines.items()}
    evaluations = [evaluation_details(e, before.get(e.suffix)) for e in run.evaluations[:MAX_EVALUATIONS]]
    tables = _tables(evaluations, clips)
    logged = [row["step"] for row in run.log_history if "step" in row and not math.isfinite(row.get("loss", 0.0))]
    charts = training_charts(run.log_history, bad_steps=[row["step"] for row in run.bad_steps] or logged)
    return {
        "title": title or _title(run),
        "folder": run.folder.resolve().name,
        "run": run,
        "model": _model(run),
        "dataset": _dataset(run),
        "protocol": protocol_text(run.results.get("protocol") or {}),
        "head": _head(run),
        "curve": mixture_curve(run.mixtures),
        "kinds": KINDS,
        "counts_of": counts_in,
        "interval": interval_text,
        "metrics": list(all_metrics().values()),
        "findings": findings(run),
        "evaluations": evaluations,
        "charts": [(chart, markupsafe.Markup(chart_svg(chart))) for chart in charts],
        "skipped": _skipped(run.skipped),
        "bad_steps": [_bad_step(row) for row in run.bad_steps[:MAX_LISTED]],
        "settings": [(name, value_text(value)) for name, value in sorted((run.resolved | run.settings).items())],
        "max_listed": MAX_LISTED,
        **page_parts(clips, "report.js", tables=tables),
    }


def _tables(evaluations: Sequence[dict[str, Any]], clips: Clips) -> dict[str, list[str]]:
    """Return the rows of all tables. Audio is first that of the utterances shown, then of the others, worst first."""
    for details in evaluations:
        for sample in details["samples"]:
            for utterance in sample["utterances"]:
                clips.add(utterance["row"])
    for details in evaluations:
        for row in details["rows"]:
            clips.add(row)
    num_rows = max(1, sum(details["num_rows"] for details in evaluations))
    tables: dict[str, list[str]] = {}
    for details in evaluations:
        max_bytes = TABLE_BYTES * details["num_rows"] // num_rows
        texts = tables[details["key"]] = table_rows(details["rows"], clips, max_bytes, details["before"])
        details["num_in_table"] = len(texts)
    return tables


def _title(run: Run) -> str:
    parts = (_model(run).rstrip("/").rpartition("/")[2], _dataset(run))
    return " on ".join(filter(None, parts)) or run.folder.resolve().name


def _model(run: Run) -> str:
    return str(run.settings.get("model_name_or_path") or run.results.get("model") or "")


def _dataset(run: Run) -> str:
    names = [run.settings.get(key) for key in ("dataset_name", "dataset_config_name")]
    return str(run.results.get("dataset") or "/".join(str(name) for name in names if name))


def _head(run: Run) -> dict[str, Any]:
    """Return the score shown in large, its label and sentence; of a run that was cut short, the last WER known."""
    if run.evaluations:
        wer = run.evaluations[0].score("wer")
        sentence = in_plain_words(wer) if wer else "This evaluation holds no word error rate."
        old = run.baselines.get(run.evaluations[0].suffix)
        return {
            "label": run.evaluations[0].name,
            "wer": wer,
            "before": old.score("wer") if old is not None else None,
            "sentence": sentence,
        }
    rates = series_of(run.log_history, "eval_wer")
    if not rates:
        return {"wer": None, "before": None, "sentence": "This run holds no scores yet."}
    step, rate = rates[-1]
    sentence = "The last evaluation while training; the run holds no final scores. " + in_plain_words({"rate": rate})
    return {"label": f"at step {step:,.0f}", "wer": {"rate": rate}, "before": None, "sentence": sentence}


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
