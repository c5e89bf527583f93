"""The part of a model card that people read: Markdown in which names and options of others can't become markup."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from speechtune.data.prepare import REASON_WORDS
from speechtune.evaluation.metrics import all_metrics
from speechtune.options.lora import LEARNING_RATE as LORA_LEARNING_RATE
from speechtune.options.table import SECRET_OPTIONS
from speechtune.options.training_arguments import training_options
from speechtune.reporting.card_facts import CardFacts
from speechtune.reporting.findings import counts_in, in_plain_words, interval_in_words
from speechtune.reporting.plots import format_value
from speechtune.reporting.run_folder import Run
from speechtune.reporting.values import last_name, value_text
from speechtune.terminal.formatting import interval_text, percent, visible
from speechtune.types import Skipped

__all__ = ["card_text", "escaped"]

PACKAGES = ("speechtune", "transformers", "torch", "datasets", "accelerate")
MAX_LOSS_ROWS = 40
# Options of the machine or the display, not of the result; and what settings.json holds beside the options.
NOT_SHOWN = re.compile(
    r"(output_dir|do_train|do_eval|push_to_hub|hub_.*|overwrite_.*|logging_.*|report_to|run_name|cache_dir|corpora_dir"
    r"|preprocessing_.*|dataloader_.*|resume_from_checkpoint|disable_tqdm|save_.*|log_.*|model_config(\..*)?)"
    r"|(identity|model|protocol|corpus)\..*"
)
# Shown with transformers' default where the user did not give them, unless the option behind them was given instead.
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
_MARKUP = re.compile(r"[\\`*_\[\]|~#$]")


class _Code(str):
    """Text of a code block, where nothing can be escaped; it was made harmless before."""


class _Table:
    """A Markdown table of the columns that have content.

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
    """Return the card below its YAML."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("speechtune.reporting", "templates"),
        autoescape=False,  # escapes of HTML do not stop Markdown
        finalize=lambda value: escaped(value) if isinstance(value, str) and not isinstance(value, _Code) else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(code=_Code, percent=percent, interval=interval_text, counts=counts_in)
    run = facts.run
    wer = run.evaluations[0].score("wer") if run.evaluations else None
    text = environment.get_template("model_card.md.jinja").render(
        facts=facts,
        run=run,
        metrics=all_metrics().values(),
        in_words=[in_plain_words(wer), interval_in_words(wer)] if wer else ["", ""],
        protocols=_protocols(run),
        options=_options(facts.settings),
        losses=_losses(run.log_history),
        skipped=_skipped(run.skipped),
        versions=[(name, found) for name in PACKAGES if (found := _version(name))],
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def escaped(text: str) -> str:
    """Return `text` on one line, such that Markdown shows it as it is; an address in it is no link."""
    text = _MARKUP.sub(r"\\\g<0>", " ".join(visible(text).split()))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("://", ":&#47;&#47;").replace("www.", "www&#46;")


def _protocols(run: Run) -> list[str]:
    """Return one line for each protocol that a score was made by."""
    lines = []
    for protocol in filter(None, (evaluation.results.get("protocol") for evaluation in run.evaluations)):
        parts = [f"{key.replace('_', ' ')} {_value(value)}" for key, value in protocol.items() if key != "name"]
        lines.append(f"{protocol.get('name', 'unnamed')}: {'; '.join(parts)}")
    return list(dict.fromkeys(lines))


def _options(settings: Mapping[str, Any]) -> _Table:
    """Return the options that the user gave, and the defaults that one would look for."""
    given = {
        name: value for name, value in settings.items() if not NOT_SHOWN.fullmatch(name) and name not in SECRET_OPTIONS
    }
    rows = [[name, _value(value)] for name, value in given.items()]
    if given:
        known = training_options()
        defaults = {"learning_rate": LORA_LEARNING_RATE} if given.get("lora") else {}
        rows += [
            [name, f"{_value(defaults.get(name, known[name].default))} (default)"]
            for name, rival in DEFAULTS_SHOWN.items()
            if name in known and name not in given and rival not in given
        ]
    return _Table(["Option", "Value"], sorted(rows))


def _value(value: Any) -> str:
    return value_text(value, limit=300, text_of=last_name)


def _losses(history: Sequence[Mapping[str, Any]]) -> _Table:
    """Return a row an evaluation, with the last training loss before it; without evaluations, a row a logged loss."""
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
    return format_value(value) if math.isfinite(value) else "not finite"


def _skipped(rows: Sequence[Skipped]) -> _Table:
    table = []
    for split in dict.fromkeys(row.split for row in rows):
        members = [row for row in rows if row.split == split]
        hours = math.fsum(row.duration_s for row in members if not math.isnan(row.duration_s)) / 3600
        reasons = Counter(row.reason for row in members).most_common()
        why = ", ".join(f"{count:,} {REASON_WORDS.get(name, name)}" for name, count in reasons)
        table.append([split, f"{len(members):,}", f"{hours:.2f}", why])
    return _Table(["Split", ">Utterances", ">Hours", "Reason"], table)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
