"""Read a run's output folder. Every file may be missing: a run that was killed has something to report too."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speechtune.evaluation.before_after import Change, changes
from speechtune.evaluation.evaluate import Evaluation
from speechtune.files import read_json, read_jsonl
from speechtune.types import Skipped

__all__ = ["Run", "read_run"]

_SECRET_NAME = re.compile(r"^(hub_token|token|use_auth_token|auth_token|access_token)$|api_?key|password|secret", re.I)
_SECRET_VALUE = re.compile(r"\bhf_[A-Za-z0-9]{16,}\b")


@dataclass(frozen=True, slots=True)
class Run:
    """Content of an output folder. Parts that are missing are empty."""

    folder: Path
    evaluations: list[Evaluation] = field(default_factory=list)
    baselines: dict[str, Evaluation] = field(default_factory=dict)  # of the starting model, by suffix
    changes: list[Change] = field(default_factory=list)  # from before training to after it
    mixtures: dict[str, Any] = field(default_factory=dict)  # interpolation.json
    log_history: list[dict[str, Any]] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)  # trainer_state.json without its log_history
    train_results: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)  # options given; "group.name" for facts; secrets hidden
    resolved: dict[str, Any] = field(default_factory=dict)  # every option with the value that was used
    skipped: list[Skipped] = field(default_factory=list)
    bad_steps: list[dict[str, Any]] = field(default_factory=list)

    @property
    def results(self) -> dict[str, Any]:
        """Content of eval_results.json of the main evaluation."""
        return self.evaluations[0].results if self.evaluations else {}

    @property
    def is_empty(self) -> bool:
        return not (self.evaluations or self.log_history or self.train_results or self.settings or self.skipped)


def read_run(folder: Path) -> Run:
    """Read everything that a report or a model card needs.

    The evaluation without a suffix is the run's main one and comes first. Without a trainer_state.json at the top,
    that of the newest checkpoint is taken: such a run was cut short.

    Raises:
        OutputError: a file can't be read.
    """
    state_file = folder / "trainer_state.json"
    if not state_file.is_file():
        state_file = max(folder.glob("checkpoint-*/trainer_state.json"), key=_step_of, default=state_file)
    state = read_json(state_file)
    settings = read_json(folder / "settings.json")
    plan = settings.pop("plan", {})
    history = state.pop("log_history", None) or []
    suffixes = sorted(path.stem.removeprefix("eval_results") for path in folder.glob("eval_results*.json"))
    return Run(
        folder=folder,
        evaluations=[Evaluation.read(folder, suffix) for suffix in suffixes],
        baselines={suffix: Evaluation.read(folder, suffix, baseline=True) for suffix in suffixes},
        changes=changes(folder),
        mixtures=read_json(folder / "interpolation.json"),
        log_history=history,
        state=state,
        train_results=read_json(folder / "train_results.json"),
        settings=_without_secrets(_flat(settings)),
        resolved=_without_secrets({**plan.get("settings", {}), **plan.get("training_arguments", {})}),
        skipped=[Skipped.from_json(row) for row in read_jsonl(folder / "skipped.jsonl")],
        bad_steps=list(read_jsonl(folder / "bad_steps.jsonl")),
    )


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            # What the user asked for is the group "options"; its names need no prefix.
            flat |= _flat(value, "" if name == "options" and not prefix else f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _without_secrets(settings: dict[str, Any]) -> dict[str, Any]:
    """Hide tokens: reports and cards are passed on."""

    def shown(name: str, value: Any) -> Any:
        if not isinstance(value, str) or not value:
            return value
        return "(hidden)" if _SECRET_NAME.search(name.rpartition(".")[2]) else _SECRET_VALUE.sub("(hidden)", value)

    return {name: shown(name, value) for name, value in settings.items()}


def _step_of(state_file: Path) -> int:
    number = state_file.parent.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1
