"""The part of a model card that people read: Markdown in which strangers' names and options can't become markup."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from speechtune.data.prepare import REASON_WORDS
from speechtune.options.table import SECRET_OPTIONS
from speechtune.options.training_arguments import training_options
from speechtune.reporting.findings import in_plain_words
from speechtune.reporting.run_folder import Evaluation, Run
from speechtune.terminal.formatting import percent, shorten, visible

if TYPE_CHECKING:
    from speechtune.reporting.model_card import CardFacts

__all__ = ["card_text", "escaped", "last_name"]

METRIC_NAMES = {"wer": "WER, word error rate", "cer": "CER, character error rate", "per": "PER, phone error rate"}
PACKAGES = ("speechtune", "transformers", "torch", "datasets", "accelerate")
MAX_LOSS_ROWS = 40
# What belongs to the machine or the display, not to the result; and what settings.json says beside the options.
NOT_SHOWN = re.compile(
    r"(output_dir|do_train|do_eval|push_to_hub|hub_.*|overwrite_.*|logging_.*|report_to|run_name|cache_dir|corpora_dir"
    r"|preprocessing_.*|dataloader_.*|resume_from_checkpoint|disable_tqdm|save_.*|log_.*|model_config(\..*)?)"
    r"|(identity|model|protocol|corpus)\..*"
)
# Shown with transformers' default where the user said nothing, unless the option behind it says it in another way.
DEFAULTS_SHOWN = {
    "learning_rate": "",
    "per_device_train_batch_size": "batch_seconds",
    "gradient_accumulation_steps": "",
    "num_train_epochs": "max_steps",
    "lr_scheduler_type": "",
    "warmup_steps": "",
    "weight_decay": "",
    "seed": "",
}
_LOCAL_PATH = re.compile(r"~|\.{0,2}[/\\]|[A-Za-z]:[/\\]|file:")
_MARKUP = re.compile(r"[\\`*_\[\]|~#$]")


class _Code(str):
    """Text that stands in a block of code, where it can't be escaped; it was made harmless before."""


class _Table:
    """A Markdown table: only columns with something in them.

    Args:
        columns: headings; those of figures begin with ">".
        rows: as many cells each.
    """

    def __init__(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        kept = [index for index in range(len(columns)) if any(row[index] for row in rows)]
        self.head = [columns[index].removeprefix(">") for index in kept]
        self.rule = [_Code("---:" if columns[index].startswith(">") else "---") for index in kept]
        self.rows = [[row[index] for index in kept] for row in rows]


def card_text(facts: CardFacts) -> str:
    """The card below its YAML."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("speechtune.reporting", "templates"),
        autoescape=False,  # HTML's escapes would leave Markdown alive
        finalize=lambda value: escaped(value) if isinstance(value, str) and not isinstance(value, _Code) else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["code"] = _Code
    run = facts.run
    wer = run.evaluations[0].score("wer") if run.evaluations else None
    text = environment.get_template("model_card.md.jinja").render(
        facts=facts,
        about=_about(facts),
        plain_words=in_plain_words(wer) if wer and math.isfinite(wer["rate"]) else "",
        scores=_scores(run),
        protocols=_protocols(run),
        training=_training(run),
        options=_options(facts.settings),
        losses=_losses(run.log_history),
        skipped=_skipped(run.skipped),
        num_bad_steps=len(run.bad_steps),
        versions=[(name, found) for name in PACKAGES if (found := _version(name))],
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def _about(facts: CardFacts) -> str:
    """What the model is, in the words behind its name."""
    if facts.base_model:
        start = "fine-tuned"
    elif facts.from_scratch:
        start = f"A {facts.model_type}, trained from random weights"
    else:
        start = f"A {facts.model_type or 'model'}, fine-tuned"
    what = "phoneme" if facts.settings.get("phoneme_language") else "speech"
    parts = [
        start,
        f"on {facts.dataset}" if facts.dataset else "",
        f"for {what} recognition",
        f"in {facts.language_names}" if facts.languages else "",
        "with CTC" if facts.is_ctc else "",
    ]
    return " ".join(part for part in parts if part)


def _scores(run: Run) -> _Table:
    columns = ["Evaluated on", "Metric", ">Rate", "95 % interval", ">Errors", ">Utterances", "Protocol"]
    return _Table(columns, [row for evaluation in run.evaluations for row in _score_rows(evaluation)])


def _score_rows(evaluation: Evaluation) -> Iterator[list[str]]:
    results = evaluation.results
    protocol = results.get("protocol")
    where = [str(results.get("dataset") or ""), evaluation.name]
    for metric, name in METRIC_NAMES.items():
        score = evaluation.score(metric)
        if score is None:
            continue
        low, high = score.get("low"), score.get("high")
        errors = ""
        if "hits" in score:
            edits = score["substitutions"] + score["deletions"] + score["insertions"]
            errors = f"{edits:,} of {score['hits'] + score['substitutions'] + score['deletions']:,}"
        yield [
            " ".join(part for part in where if part),
            name,
            percent(score["rate"]),
            f"{percent(low)} to {percent(high)}" if low is not None and high is not None else "",
            errors,
            f"{len(evaluation.rows) or results.get('eval_samples') or 0:,}",
            str(protocol.get("name", "")) if isinstance(protocol, dict) else "",
        ]


def _protocols(run: Run) -> list[str]:
    """One line for each protocol that a score was made by."""
    lines = []
    for evaluation in run.evaluations:
        protocol = evaluation.results.get("protocol")
        if isinstance(protocol, dict):
            parts = [f"{key.replace('_', ' ')} {_value(value)}" for key, value in protocol.items() if key != "name"]
            lines.append(f"{protocol.get('name', 'unnamed')}: {'; '.join(parts)}")
    return list(dict.fromkeys(lines))


def _training(run: Run) -> str:
    steps, samples = run.state.get("global_step"), run.train_results.get("train_samples")
    best = run.state.get("best_global_step")
    parts = [
        f"{steps:,} optimiser steps" if isinstance(steps, int) else "",
        f"{samples:,} utterances" if isinstance(samples, int) else "",
        f"lowest error rate of the evaluations at step {best:,}" if isinstance(best, int) else "",
        str(run.settings.get("model.precision", "")),
    ]
    return ", ".join(part for part in parts if part)


def _options(settings: Mapping[str, Any]) -> _Table:
    """All that the user gave, and the defaults that one would look for."""
    given = {
        name: value for name, value in settings.items() if not NOT_SHOWN.fullmatch(name) and name not in SECRET_OPTIONS
    }
    rows = [[name, _value(value)] for name, value in given.items()]
    if given:
        known = training_options()
        rows += [
            [name, f"{_value(known[name].default)} (default)"]
            for name, rival in DEFAULTS_SHOWN.items()
            if name in known and name not in given and rival not in given
        ]
    return _Table(["Option", "Value"], sorted(rows))


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return shorten(" ".join(_value(item) for item in value), 200)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(item)}" for key, item in value.items()) or "none"
    if value is None or isinstance(value, bool):
        return {None: "not set", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else shorten(last_name(str(value)), 300)


def last_name(value: str) -> str:
    """A local path's last name; anything else as it is."""
    if not _LOCAL_PATH.match(value) or not value.strip("./\\~"):
        return value
    return re.split(r"[/\\]", value.rstrip("/\\"))[-1]


def _losses(history: Sequence[Mapping[str, Any]]) -> _Table:
    """A row an evaluation, with the last training loss before it; a row a logged loss where nothing was evaluated."""
    key = "eval_loss" if any("eval_loss" in entry for entry in history) else "loss"
    loss: Any = None
    rows: list[Mapping[str, Any]] = []
    for entry in history:
        loss = entry.get("loss", loss)
        if key in entry:
            rows.append({**entry, "loss": loss})
    keep = {round(i * (len(rows) - 1) / (MAX_LOSS_ROWS - 1)) for i in range(MAX_LOSS_ROWS)}
    columns = [">Step", ">Epoch", ">Training loss", ">Evaluation loss", ">WER", ">CER"]
    cells = [
        [_figure(row.get(name)) for name in ("step", "epoch", "loss", "eval_loss")]
        + [percent(row[name]) if name in row else "" for name in ("eval_wer", "eval_cer")]
        for index, row in enumerate(rows)
        if index in keep
    ]
    return _Table(columns, cells)


def _figure(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if math.isfinite(value) else "not finite"


def _skipped(rows: Sequence[Mapping[str, Any]]) -> _Table:
    table = []
    for split in dict.fromkeys(str(row.get("split") or "?") for row in rows):
        members = [row for row in rows if str(row.get("split") or "?") == split]
        reasons = Counter(str(row.get("reason") or "unknown") for row in members)
        hours = sum(d for row in members if isinstance(d := row.get("duration_s"), (int, float)) and d == d) / 3600
        why = ", ".join(f"{count:,} {REASON_WORDS.get(name, name)}" for name, count in reasons.most_common())
        table.append([split, f"{len(members):,}", f"{hours:.2f}", why])
    return _Table(["Split", ">Utterances", ">Hours", "Why"], table)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def escaped(text: str) -> str:
    """`text` on one line, shown by Markdown as it is; an address in it is no link."""
    text = _MARKUP.sub(r"\\\g<0>", " ".join(visible(text).split()))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("://", ":&#47;&#47;").replace("www.", "www&#46;")
