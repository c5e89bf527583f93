"""report.html: what a run is worth, in one file that opens anywhere and loads nothing.

Everything is worked out here and laid out by templates/report.html, which escapes all of it: transcripts are strangers'
text. The page's only script is ours and is allowed by its hash, so that markup which slipped through could not run.
The same folder gives the same bytes: no date, no random number, no dictionary order.

Rejected: rows as JSON drawn by a script (smaller, but nothing to see without a script or on paper), and a framework.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechtune.errors import OutputError
from speechtune.reporting.details import evaluation_details, markup
from speechtune.reporting.findings import findings, in_plain_words
from speechtune.reporting.plots import chart_svg, series_of, template_environment, training_charts
from speechtune.reporting.run_folder import Evaluation, Run, read_run
from speechtune.terminal.formatting import duration_text, percent, shorten, visible

__all__ = ["write_report"]

TABLE_BYTES = 1_200_000  # of the rows of all tables of utterances together, so that the page stays below 2 MB
MAX_EVALUATIONS = 8  # shown in detail
MAX_LISTED = 100  # left-out utterances of one reason, steps that were not finite

_COUNTS = ("hits", "substitutions", "deletions", "insertions")
_METRICS = {"wer": "word error rate", "cer": "character error rate", "per": "phone error rate"}


def write_report(output_dir: Path, *, title: str | None = None) -> Path:
    """Writes `output_dir`/report.html from the files that lie there; parts that are missing are skipped.

    Args:
        output_dir: output folder of a training or evaluation run, finished or not.
        title: heading; the model's and the dataset's name without one.

    Returns:
        Path of the file.

    Raises:
        OutputError: the folder is missing, holds nothing of a run, or can't be written to.
    """
    output_dir = Path(output_dir)
    run = read_run(output_dir)
    text = template_environment().get_template("report.html").render(_page(run, title))
    path = output_dir / "report.html"
    try:
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise OutputError(f"{path}: the report can't be written ({error.strerror}).") from error
    return path


def _page(run: Run, title: str | None) -> dict[str, Any]:
    """Every value that report.html names."""
    script, style = _source("report.js"), _source("report.css") + _source("chart.css")
    shown = run.evaluations[:MAX_EVALUATIONS]
    main = shown[0] if shown else None
    num_rows = max(1, sum(len(evaluation.rows) for evaluation in shown))
    bad_steps = [float(row["step"]) for row in run.bad_steps if isinstance(row.get("step"), (int, float))]
    history_bad = [float(e["step"]) for e in run.log_history if "step" in e and _is_nan(e.get("loss"))]
    return {
        "title": visible(title) if title else _title(run),
        "folder": visible(run.folder.resolve().name),
        "facts": _facts(run),
        "head": _head(main) if main else _head_while_training(run),
        "findings": findings(run),
        "overview": [_overview(evaluation) for evaluation in run.evaluations],
        "evaluations": [evaluation_details(e, TABLE_BYTES * len(e.rows) // num_rows) for e in shown],
        "training": _training(run),
        "charts": [
            (chart, markup(chart_svg(chart)))
            for chart in training_charts(run.log_history, bad_steps=bad_steps or history_bad)
        ],
        "skipped": _skipped(run.skipped),
        "bad_steps": [_bad_step(row) for row in run.bad_steps[:MAX_LISTED]],
        "num_bad_steps": len(run.bad_steps),
        "settings": [(name, _setting(value)) for name, value in sorted(run.settings.items())],
        "notes": run.notes,
        "max_listed": MAX_LISTED,
        "script": markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "style": markup(style),
    }


def _title(run: Run) -> str:
    model = _model(run).rstrip("/").rpartition("/")[2]
    dataset = _dataset(run)
    return " on ".join(part for part in (model, dataset) if part) or visible(run.folder.resolve().name)


def _model(run: Run) -> str:
    results = run.evaluations[0].results if run.evaluations else {}
    return str(run.settings.get("model_name_or_path") or results.get("model") or "")


def _dataset(run: Run) -> str:
    for evaluation in run.evaluations:
        if evaluation.results.get("dataset"):
            return str(evaluation.results["dataset"])
    names = [run.settings.get(key) for key in ("dataset_name", "dataset_config_name")]
    return "/".join(str(name) for name in names if name)


def _facts(run: Run) -> list[tuple[str, str]]:
    """Name and value of what was evaluated and how, in one line each."""
    results = run.evaluations[0].results if run.evaluations else {}
    facts = [
        ("Model", _model(run)),
        ("Dataset", _dataset(run)),
        ("Split", str(results.get("split") or "")),
        ("Protocol", _protocol(results.get("protocol"))),
    ]
    return [(name, value) for name, value in facts if value]


def _protocol(protocol: object) -> str:
    """default: normaliser; filters; 3 skipped; hash."""
    if not isinstance(protocol, dict):
        return str(protocol or "")
    filters = protocol.get("filters")
    parts = [
        str(protocol.get("normalizer") or ""),
        "filtered by " + ", ".join(f"{k} {v}" for k, v in sorted(filters.items()))
        if isinstance(filters, dict) and filters
        else "no filter",
        f"{protocol['skipped']} skipped" if "skipped" in protocol else "",
        f"padding {protocol['padding']}" if protocol.get("padding") else "",
        f"hash {str(protocol['hash'])[:12]}" if protocol.get("hash") else "",
    ]
    return f"{protocol.get('name', 'unnamed')}: " + "; ".join(part for part in parts if part)


def _head(evaluation: Evaluation) -> dict[str, Any]:
    """The big figure, its sentence, and the strip of right, replaced, missed and added words."""
    wer = evaluation.score("wer")
    return {
        "label": f"WER, word error rate, {evaluation.name}",
        "wer": wer,
        "interval": _interval(wer or {}),
        "sentence": in_plain_words(wer) if wer else "This evaluation holds no word error rate.",
        "strip": _strip(wer) if wer and _has_counts(wer) else [],
        "tiles": _tiles(evaluation),
    }


def _head_while_training(run: Run) -> dict[str, Any]:
    """Of a run without a final evaluation: the last WER that the training met, if any."""
    rates = series_of(run.log_history, "eval_wer")
    if not rates:
        return {"wer": None, "sentence": "This run holds no scores yet.", "strip": [], "tiles": []}
    step, rate = rates[-1]
    return {
        "label": f"WER, word error rate, at step {step:,.0f}",
        "wer": {"rate": rate},
        "interval": "",
        "sentence": "The last evaluation while training; the run holds no final scores. "
        + in_plain_words({"rate": rate}),
        "strip": [],
        "tiles": [],
    }


def _strip(score: dict[str, Any]) -> list[dict[str, Any]]:
    """Shares of the four kinds; width in percent of everything aligned, rate in parts of the reference."""
    names = {"hits": "right", "substitutions": "replaced", "deletions": "missed", "insertions": "added"}
    total = sum(score[name] for name in _COUNTS)
    length = total - score["insertions"]
    return [
        {
            "kind": kind,
            "name": names[kind],
            "count": score[kind],
            "width": round(100 * score[kind] / total, 3),
            "rate": score[kind] / length if length else math.inf,
        }
        for kind in _COUNTS
    ]


def _has_counts(score: dict[str, Any]) -> bool:
    return all(isinstance(score.get(name), int) for name in _COUNTS) and any(score[name] for name in _COUNTS)


def _tiles(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """(name, value, small print)."""
    tiles = []
    for metric in ("cer", "per"):
        score = evaluation.score(metric)
        if score is not None:
            tiles.append((f"{metric.upper()}, {_METRICS[metric]}", percent(score["rate"]), _interval(score)))
    view = _overview(evaluation)
    if view["num_utterances"]:
        tiles.append(("utterances", f"{view['num_utterances']:,}", ""))
    if view["num_words"]:
        tiles.append(("words in the references", f"{view['num_words']:,}", ""))
    if view["duration_s"]:
        tiles.append(("of speech", duration_text(view["duration_s"]), ""))
    return tiles


def _interval(score: dict[str, Any]) -> str:
    if score.get("low") is None or score.get("high") is None:
        return ""
    return f"95 % interval {percent(score['low'])} to {percent(score['high'])}"


def _overview(evaluation: Evaluation) -> dict[str, Any]:
    """One row of the table of evaluations."""
    wer, cer = evaluation.score("wer"), evaluation.score("cer")
    durations = [row.duration_s for row in evaluation.rows if not math.isnan(row.duration_s)]
    return {
        "name": evaluation.name,
        "wer": wer,
        "interval": _interval(wer or {}),
        "cer": cer,
        "num_utterances": len(evaluation.rows) or evaluation.results.get("eval_samples") or 0,
        "num_words": sum(wer[name] for name in _COUNTS[:3]) if wer and _has_counts(wer) else 0,
        "duration_s": math.fsum(durations) or evaluation.results.get("eval_audio_s") or 0.0,
    }


def _training(run: Run) -> list[tuple[str, str]]:
    """(name, value) of what the training cost."""
    results, state = run.train_results, run.state
    epoch = results.get("epoch", state.get("epoch"))
    runtime_s, loss = results.get("train_runtime"), results.get("train_loss")
    facts = [
        ("steps", f"{state['global_step']:,}" if isinstance(state.get("global_step"), int) else ""),
        ("epoch" if epoch == 1 else "epochs", f"{epoch:.4g}" if isinstance(epoch, (int, float)) else ""),
        ("training time", duration_text(runtime_s) if isinstance(runtime_s, (int, float)) else ""),
        ("training utterances", f"{n:,}" if isinstance(n := results.get("train_samples"), int) else ""),
        ("mean training loss", f"{loss:.4g}" if isinstance(loss, (int, float)) else ""),
    ]
    return [(name, value) for name, value in facts if value]


def _skipped(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By reason, most frequent first."""
    by_reason: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_reason.setdefault(str(row.get("reason") or "unknown"), []).append(row)
    groups = []
    for reason, members in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        splits = Counter(str(row.get("split") or "?") for row in members)
        durations = [d for row in members if isinstance(d := row.get("duration_s"), (int, float)) and d == d]
        groups.append(
            {
                "reason": reason.replace("_", " "),
                "count": len(members),
                "splits": ", ".join(f"{split} {n:,}" for split, n in sorted(splits.items())),
                "duration_s": math.fsum(durations),
                "rows": [
                    {k: str(row.get(k) or "") for k in ("split", "id", "file", "detail")}
                    for row in members[:MAX_LISTED]
                ],
            }
        )
    return groups


def _bad_step(row: dict[str, Any]) -> tuple[str, str]:
    """(step, everything else that the row says)."""
    rest = "; ".join(f"{name.replace('_', ' ')}: {_setting(value)}" for name, value in row.items() if name != "step")
    return str(row.get("step", "?")), rest


def _setting(value: object) -> str:
    if isinstance(value, list):
        return shorten(" ".join(_setting(item) for item in value[:400]), 400)
    if isinstance(value, dict):
        return shorten("(" + ", ".join(f"{k} {_setting(v)}" for k, v in value.items()) + ")", 400)
    if value is None or isinstance(value, bool):
        return {None: "not set", True: "yes", False: "no"}[value]
    return shorten(f"{value:g}" if isinstance(value, float) else str(value), 400)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _source(name: str) -> str:
    environment = template_environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]
