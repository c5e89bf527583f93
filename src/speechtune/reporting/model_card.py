"""README.md of an output folder: fields that the hub reads, in YAML, and what people read below them.

Everything comes from the run's own files (run_folder.py), so the same folder gives the same card. A card is passed on:
it holds counts and scores but no transcript, no token, and of local paths only the last name. A README.md that somebody
else wrote, or a card that was edited, stays as it is: each card carries a hash of itself.

Rejected: transformers' TrainingSummary (it needs the living Trainer, asks the hub, and knows nothing of protocols).
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechtune.corpora import all_layouts
from speechtune.errors import OutputError
from speechtune.files import write_atomically
from speechtune.reporting.model_card_text import card_text, last_name
from speechtune.reporting.run_folder import Evaluation, Run, read_run
from speechtune.text.languages import find_language, language_of

__all__ = ["CardFacts", "is_generated", "is_hub_name", "model_card", "write_model_card"]

log = logging.getLogger("speechtune")

TASK = "automatic-speech-recognition"
METRICS = ("wer", "cer", "per")
_MARK = re.compile(r"^<!-- speechtune-card ([0-9a-f]{16})[^\n]*-->\n", re.MULTILINE)
_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")


def write_model_card(folder: Path, *, repo_id: str | None = None) -> Path | None:
    """Write README.md into the folder of a trained model.

    Args:
        folder: holds the model and what its run left.
        repo_id: name on the hub, for the examples; without it the folder's name stands there.

    Returns:
        The card; None where there is no model, or a README.md that is not ours to replace.
    """
    path = folder / "README.md"
    if not (folder / "config.json").is_file():
        return None
    if path.exists() and not is_generated(path.read_text("utf-8", errors="replace")):
        log.info(f"{path}: not a card of ours, or edited since: it stays. Remove it to have one written anew.")
        return None
    write_atomically(path, model_card(folder, repo_id=repo_id))
    return path


def is_generated(text: str) -> bool:
    """True for a card that was written here and not changed since."""
    found = _MARK.search(text)
    return found is not None and _hash(text[: found.start()] + text[found.end() :]) == found[1]


def is_hub_name(name: str) -> bool:
    """True for what is a name on the hub, not a folder here."""
    return _HUB_NAME.fullmatch(name) is not None and not Path(name).exists()


def model_card(folder: Path, *, repo_id: str | None = None) -> str:
    """The card's text; arguments as for `write_model_card`."""
    import yaml

    facts = CardFacts(folder, repo_id)
    head = f"---\n{yaml.safe_dump(_metadata(facts), sort_keys=False, allow_unicode=True, width=200)}---\n"
    body = card_text(facts)
    return f"{head}<!-- speechtune-card {_hash(head + body)}: an edited card is left as it is -->\n{body}"


class CardFacts:
    """What a card says, read from the folder once.

    Args:
        folder: of the trained model.
        repo_id: name on the hub, or None.
    """

    def __init__(self, folder: Path, repo_id: str | None) -> None:
        self.run = _run_of(folder)
        settings = self.settings = self.run.settings
        self.name = (repo_id or folder.resolve().name).rpartition("/")[2]
        # These stand in code, where nothing can be escaped.
        self.id = _in_code(repo_id or folder.resolve().name)
        self.adapters = [_in_code(path.name.split(".")[1]) for path in sorted(folder.glob("adapter.*.safetensors"))]
        results = self.run.evaluations[0].results if self.run.evaluations else {}
        config = _json(folder / "config.json")
        self.model_type = str(config.get("model_type") or "")
        self.is_ctc = any("CTC" in str(name) for name in config.get("architectures") or ())
        self.from_scratch = any(name.startswith("model_config") for name in settings)
        base = str(settings.get("model_name_or_path") or results.get("model") or "")
        self.base_model = base if is_hub_name(base) else None
        asked = str(settings.get("dataset_name") or "")
        self.dataset = str(results.get("dataset") or last_name(asked))
        self.dataset_id, self.licence = _dataset_on_hub(asked, self.dataset)
        self.languages = self._languages()

    def _languages(self) -> list[str]:
        settings = self.settings
        spoken = settings.get("corpus.language") or language_of(
            settings.get("dataset_config_name"), settings.get("target_language") or settings.get("language")
        )
        codes = [language_of(None, adapter) for adapter in self.adapters] or [str(spoken) if spoken else None]
        return [code for code in dict.fromkeys(codes) if code]

    @property
    def language_names(self) -> str:
        found = [(find_language(code), code) for code in self.languages]
        return " and ".join(language.name if language else code for language, code in found)


def _run_of(folder: Path) -> Run:
    try:
        return read_run(folder)
    except OutputError:  # a model alone: its card says what can be known
        return Run(folder, [], [], {}, {}, {}, [], [])


def _dataset_on_hub(asked: str, corpus: str) -> tuple[str | None, str]:
    """(name on the hub or None, licence where we know the corpus)."""
    for name in (asked, corpus.partition("/")[0]):
        layout = next((row for row in all_layouts() if row.searched and name and row.names.fullmatch(name)), None)
        if layout is not None:
            return layout.hub_name or name, layout.licence
    return (asked if is_hub_name(asked) else None), ""


# What the hub reads: https://github.com/huggingface/hub-docs/blob/main/modelcard.md


def _metadata(facts: CardFacts) -> dict[str, Any]:
    fields = {
        "language": facts.languages,
        "library_name": "transformers",
        "pipeline_tag": TASK,
        "tags": [tag for tag in dict.fromkeys((TASK, "speechtune", facts.model_type)) if tag],
        "base_model": facts.base_model,
        "datasets": [facts.dataset_id] if facts.dataset_id else [],
        "metrics": [name for name in METRICS if any(_rate(e, name) is not None for e in facts.run.evaluations)],
        "model-index": _model_index(facts),
    }
    return {name: value for name, value in fields.items() if value}


def _model_index(facts: CardFacts) -> list[dict[str, Any]]:
    results = [
        {
            "task": {"type": TASK, "name": "Automatic Speech Recognition"},
            "dataset": _dataset_entry(facts, evaluation),
            "metrics": metrics,
        }
        for evaluation in facts.run.evaluations
        if (metrics := list(_metric_entries(evaluation)))
    ]
    return [{"name": facts.name, "results": results}] if results else []


def _dataset_entry(facts: CardFacts, evaluation: Evaluation) -> dict[str, str]:
    name = str(evaluation.results.get("dataset") or facts.dataset or "unnamed")
    kind = facts.dataset_id or re.sub(r"[^A-Za-z0-9._-]+", "-", name.partition("/")[0]).strip("-") or "unnamed"
    entry = {"name": f"{name} {evaluation.name}", "type": kind}
    for key, value in (
        ("config", facts.settings.get("dataset_config_name")),
        ("split", evaluation.results.get("split")),
    ):
        if value:
            entry[key] = str(value)
    return entry


def _metric_entries(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    for name in METRICS:
        rate = _rate(evaluation, name)
        if rate is not None:
            entry = {"type": name, "value": round(rate, 6), "name": name.upper()}
            # A copy each: YAML writes the same object as a reference, which not every reader follows.
            protocol = copy.deepcopy(evaluation.results.get("protocol"))
            yield entry | ({"args": {"protocol": protocol}} if protocol else {})


def _rate(evaluation: Evaluation, metric: str) -> float | None:
    score = evaluation.score(metric)
    rate = None if score is None else float(score["rate"])
    return rate if rate is not None and math.isfinite(rate) else None


def _in_code(text: str) -> str:
    return re.sub(r"[^\w./-]", "_", text)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
