"""README.md of an output folder: metadata that the hub reads, in YAML, and a text for people below it.

Everything comes from the run's own files (run_folder.py), so the same folder gives the same card. A card is passed on:
it holds counts and scores but no transcript, no token, and of local paths only the last name. A README.md that somebody
else wrote, or a card that was edited, is kept: each card carries a hash of itself.

Rejected: transformers' TrainingSummary (it needs the live Trainer, asks the hub, and knows nothing of protocols), and
huggingface_hub's card templates (they escape nothing).
"""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from speechtune.evaluation.evaluate import Evaluation
from speechtune.evaluation.metrics import all_metrics
from speechtune.files import explain_write_errors, write_atomically
from speechtune.reporting.card_facts import CardFacts
from speechtune.reporting.model_card_text import card_text
from speechtune.terminal.formatting import visible

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

__all__ = ["is_generated", "model_card", "write_model_card"]

log = logging.getLogger("speechtune")

TASK = "automatic-speech-recognition"
_MARK = re.compile(r"^<!-- speechtune-card ([0-9a-f]{16})[^\n]*-->\n", re.MULTILINE)


def write_model_card(folder: Path, *, repo_id: str | None = None) -> Path | None:
    """Write README.md into the folder of a trained model.

    Args:
        folder: holds the model and the files of its run.
        repo_id: name on the hub, for the examples; without it the folder's name is used.

    Returns:
        The card; None where there is no model, or a README.md that is not ours to replace.
    """
    path = folder / "README.md"
    if not (folder / "config.json").is_file():
        return None
    if path.exists() and not is_generated(path.read_text("utf-8", errors="replace")):
        log.info(f"{path}: kept, since it was edited or written by others. Remove it to get a generated card.")
        return None
    with explain_write_errors("the model card", folder):
        write_atomically(path, model_card(folder, repo_id=repo_id))
    return path


def is_generated(text: str) -> bool:
    """Return True for a card that was written here and not changed since."""
    found = _MARK.search(text)
    return found is not None and _hash(text[: found.start()] + text[found.end() :]) == found[1]


def model_card(folder: Path, *, repo_id: str | None = None) -> str:
    """Return the card's text; arguments as for `write_model_card`."""
    facts = CardFacts(folder, repo_id)
    head = f"---\n{visible(_metadata(facts).to_yaml())}\n---\n"
    body = card_text(facts)
    return f"{head}<!-- speechtune-card {_hash(head + body)}: an edited card is left as it is -->\n{body}"


def _metadata(facts: CardFacts) -> ModelCardData:
    """https://github.com/huggingface/hub-docs/blob/main/modelcard.md"""
    from huggingface_hub import ModelCardData

    results = [entry for evaluation in facts.run.evaluations for entry in _eval_results(facts, evaluation)]
    return ModelCardData(
        language=facts.languages or None,
        library_name="peft" if facts.lora_base else "transformers",
        pipeline_tag=TASK,
        tags=[tag for tag in dict.fromkeys((TASK, "speechtune", facts.model_type)) if tag],
        base_model=facts.base_model,
        datasets=[facts.dataset_id] if facts.dataset_id else None,
        metrics=list(dict.fromkeys(entry.metric_type for entry in results)) or None,
        eval_results=results or None,
        model_name=facts.name,
    )


def _eval_results(facts: CardFacts, evaluation: Evaluation) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    dataset = str(evaluation.results.get("dataset") or facts.dataset or "unnamed")
    kind = re.sub(r"[^A-Za-z0-9._-]+", "-", dataset.partition("/")[0]).strip("-")
    config, protocol = facts.settings.get("dataset_config_name"), evaluation.results.get("protocol")
    return [
        EvalResult(
            task_type=TASK,
            task_name="Automatic Speech Recognition",
            dataset_type=facts.dataset_id or kind or "unnamed",
            dataset_name=f"{dataset} {evaluation.name}",
            dataset_config=str(config) if config else None,
            dataset_split=evaluation.results.get("split"),
            metric_type=metric,
            metric_name=metric.upper(),
            metric_value=round(score["rate"], 6),
            metric_args={"protocol": protocol} if protocol else None,
        )
        for metric in all_metrics()
        if (score := evaluation.score(metric)) is not None
    ]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
