"""`RunPlan`: what a run will do, decided once and frozen.

`resolve` makes it from the user's options, with every default and fallback filled in. It is printed before the run,
stored in settings.json, compared when the same command is given again, broadcast to all processes, and the only source
of decisions for everything that builds and runs. It holds plain values, so it can be pickled and written as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from speechtune.corpora.corrections import corrections_hash, read_corrections
from speechtune.options.table import SECRET_OPTIONS, Command, Family, Settings
from speechtune.plan.hardware import Precision

__all__ = ["RunPlan", "SplitPlan", "identity_of"]

# A run in the same folder that differs in one of these is another run: it cannot be resumed.
IDENTITY = (
    "model_name_or_path",
    "model_config",
    "new_vocabulary",
    "dataset_name",
    "dataset_config_name",
    "train_split_name",
    "target_language",
    "encoder_context",
    "lora",
)


def identity_of(settings: Settings) -> dict[str, Any]:
    """Return what makes two runs the same run: some of the settings, and what the corrections say."""
    corrections = corrections_hash(read_corrections(settings.corrections)) if settings.corrections else None
    return {**{name: getattr(settings, name) for name in IDENTITY}, "corrections": corrections}


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """Splits that are read as one, such as `train+validation`.

    Args:
        name: the split expression.
        num_utterances, hours: size before filtering; None for a stream, whose length is unknown.
        num_unreadable: rows that were skipped while indexing: missing files, damaged audio, malformed lines.
    """

    name: str
    num_utterances: int | None = None
    hours: float | None = None
    num_unreadable: int = 0


@dataclass(frozen=True)
class RunPlan:
    """See the module's docstring.

    Args:
        settings: every option of ours, with no default left open.
        training_arguments: keyword arguments of `TrainingArguments`, ours and the user's.
        given: the options that the user gave, without secrets: for settings.json and the model card.
        model_type: transformers' name of the architecture; empty without a model.
        has_trained_head: the checkpoint has a CTC head that was trained, for whatever letters.
        corpus: label of corpus and configuration, such as "common_voice/tr".
        language: short code of the transcripts' language, or None.
        train, evaluation: the splits; None where the command does not use them.
        protocol: how scores are computed; its "hash" is equal only where scores are comparable.
        aided_protocol, unaided_protocol: with language model, hot words and beams, and without. A training's own scores
            are unaided, so that they compare with those before it.
        resume_from: a checkpoint of the same run; None starts from the model.
        clears_output: files of an earlier run in the output folder are removed first.
        baseline: evaluations of the starting model before training: the run's own split, then the further sets; empty
            where it can't recognise, or is not asked to.
        further: evaluations of --also_evaluate, after training.
        selection: evaluation of the split on which mixed weights are chosen; None where there is none to choose on.
        suffix: of the result files of an evaluation that is part of a run: "", "_common-voice-de-test".
        notes: one line each, shown before the run.
    """

    command: Command
    family: Family
    settings: Settings
    precision: Precision
    corpus: str
    language: str | None
    train: SplitPlan | None
    evaluation: SplitPlan | None
    model_type: str = ""
    has_trained_head: bool = False
    protocol: Mapping[str, Any] = field(default_factory=dict)
    aided_protocol: Mapping[str, Any] = field(default_factory=dict)
    unaided_protocol: Mapping[str, Any] = field(default_factory=dict)
    training_arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)  # may hold a token
    given: Mapping[str, Any] = field(default_factory=dict)
    output_dir: Path | None = None
    resume_from: Path | None = None
    clears_output: bool = False
    baseline: tuple[RunPlan, ...] = ()
    further: tuple[RunPlan, ...] = ()
    selection: RunPlan | None = None
    suffix: str = ""
    do_train: bool = False
    do_eval: bool = False
    push_to_hub: bool = False
    notes: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The output folder of a command that has one."""
        assert self.output_dir is not None
        return self.output_dir

    @property
    def scored(self) -> str:
        """What is evaluated: "common_voice/de test"."""
        return f"{self.corpus} {self.settings.eval_split_name}"

    @property
    def mixes_weights(self) -> bool:
        return bool(self.settings.interpolate_weights or self.settings.average_checkpoints)

    @property
    def is_seq2seq(self) -> bool:
        return self.family == "seq2seq"

    @property
    def is_transducer(self) -> bool:
        return self.family == "transducer"

    @property
    def hub_token(self) -> str | None:
        return self.training_arguments.get("hub_token") or self.settings.token

    @property
    def metric_names(self) -> list[str]:
        """WER and CER always; PER where phones are recognised, or on request."""
        names = ["wer", "cer", *self.settings.eval_metrics, *(["per"] if self.settings.phones else [])]
        return list(dict.fromkeys(names))

    @property
    def identity(self) -> dict[str, Any]:
        """What makes two runs the same run."""
        return identity_of(self.settings)

    def as_json(self) -> dict[str, Any]:
        """All of it but secrets, for settings.json. Settings and arguments with their resolved values."""
        settings = {f.name: getattr(self.settings, f.name) for f in fields(self.settings)}
        return {
            "command": self.command,
            "family": self.family,
            "model_type": self.model_type,
            "corpus": self.corpus,
            "language": self.language,
            "train": asdict(self.train) if self.train else None,
            "evaluation": asdict(self.evaluation) if self.evaluation else None,
            "precision": self.precision.description,
            "baseline": [plan.scored for plan in self.baseline],
            "also_evaluated": [plan.scored for plan in self.further],
            "selection": self.selection.scored if self.selection else None,
            "settings": {name: value for name, value in settings.items() if name not in SECRET_OPTIONS},
            "training_arguments": {
                name: value for name, value in self.training_arguments.items() if name not in SECRET_OPTIONS
            },
        }
