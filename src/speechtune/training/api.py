"""The Python API: what `import speechtune` offers. It runs what the commands run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechtune.errors import OptionError
from speechtune.options.parse import parse_options
from speechtune.options.table import Command
from speechtune.plan.hardware import set_up_libraries
from speechtune.types import Transcript

if TYPE_CHECKING:
    from speechtune.decoding.transcribe import Transcriber
    from speechtune.evaluation.comparison import Comparison
    from speechtune.evaluation.evaluate import Evaluation

__all__ = ["Model", "compare", "evaluate", "fine_tune", "load"]


@dataclass
class Model:
    """A speech recogniser, loaded when it is first used.

    Args:
        name: folder of a trained model, or a name on the hub.
        device: "cpu", "cuda", or None for the best available.
        options: of `speechtune evaluate`, such as `language`; may hold a token.
        evaluation: the evaluation at the end of the training that made it, or None.
    """

    name: str
    device: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    evaluation: Evaluation | None = None

    @cached_property
    def _transcriber(self) -> Transcriber:
        set_up_libraries()
        # Checked as for `speechtune evaluate`, which has all options of a model, but needs a corpus too.
        named = {"model_name_or_path": self.name, "dataset_name": "none"}
        options = parse_options(as_words(named | {**self.options}), command="evaluate", prog="speechtune evaluate")
        from speechtune.decoding.transcribe import Transcriber

        return Transcriber(self.name, device=self.device, **{key: getattr(options.config, key) for key in self.options})

    def transcribe(self, audio: str | Path | bytes) -> Transcript:
        """Recognise one recording of any length: `.text`, `.segments`, `.words`.

        Args:
            audio: path of an audio or video file, or the bytes of one.

        Raises:
            AudioError: it can't be decoded.
            ModelError: the model can't be loaded.
        """
        source = audio if isinstance(audio, bytes) else str(audio)
        return self._transcriber.transcript(source)


def load(name: str | Path, *, device: str | None = None, **options: Any) -> Model:
    """Load a model to recognise with.

    Args:
        name: folder of a trained model, or a name on the hub.
        device: "cpu", "cuda", or None for the best available.
        options: of `speechtune evaluate`, such as `language`, `task`, `target_language` or `encoder_context`.

    Raises:
        ModelError: there is no such model, or it can't recognise speech.
        OptionError: there is no such option or device.
    """
    model = Model(str(name), device, options)
    model._transcriber  # noqa: B018 - a misspelt name is an error here, not at the first recording
    return model


def evaluate(
    model: Model | str | Path,
    corpus: str | Path,
    *,
    split: str = "test",
    output_dir: str | Path | None = None,
    **options: Any,
) -> Evaluation:
    """Score a model on a split of a corpus, as `speechtune evaluate` does.

    Args:
        model: of `load`, a folder, or a name on the hub.
        corpus: as --dataset_name takes it: a folder, archive or manifest, a known corpus, or a name on the hub.
        split: splits to score, joined by +.
        output_dir: keeps scores, hypotheses and report.html there; without it they are discarded.
        options: any option of `speechtune evaluate`, such as `dataset_config_name="tr"`.

    Returns:
        Hypotheses with `wer`, `cer` and `scores()`.

    Raises:
        SpeechtuneError: what the command would print.
    """
    from speechtune.evaluation.evaluate import Evaluation

    with tempfile.TemporaryDirectory(prefix="speechtune-") as temporary:
        folder = Path(output_dir or temporary)
        named = {"dataset_name": corpus, "eval_split_name": split, "output_dir": folder}
        _run("evaluate", {**_model_options(model), **named, **options})
        return Evaluation.read(folder)


def compare(
    *systems: Evaluation | Model | str | Path,
    corpus: str | Path | None = None,
    output_dir: str | Path | None = None,
    **options: Any,
) -> Comparison:
    """Compare systems with the first of them, on the same utterances, as `speechtune compare` does.

    Args:
        systems: two or more: an `Evaluation`, the folder of one, a trained folder, or a model to evaluate on `corpus`.
        corpus: as --dataset_name takes it; models are evaluated on it first, and the evaluations are kept.
        output_dir: gets comparison.json and comparison.html; without it nothing is written.
        options: any option of `speechtune evaluate`, for all models: `eval_split_name="test"`, `language="turkish"`.

    Returns:
        `pairs`, each with `sentence`, `differences`, `mapsswe`, `slices`, `better` and `worse`.

    Raises:
        SpeechtuneError: what the command would print.
    """
    from speechtune.evaluation.compare import Scored
    from speechtune.evaluation.evaluate import Evaluation
    from speechtune.training.compare import compare_systems, scored_system, write_comparison

    scored = []
    for number, system in enumerate(systems, 1):
        if isinstance(system, Evaluation):
            scored.append(Scored(str(system.results.get("model") or f"system {number}"), system))
            continue
        own = _model_options(system)
        name = str(own.pop("model_name_or_path"))
        words = as_words({"dataset_name": corpus, **own, **options}) if corpus or options else []
        set_up_libraries()
        scored.append(scored_system(name, words))
    comparison = compare_systems(scored)
    if output_dir is not None:
        write_comparison(comparison, Path(output_dir))
    return comparison


def fine_tune(model: Model | str | Path, corpus: str | Path, *, output_dir: str | Path, **options: Any) -> Model:
    """Fine-tune a model on a corpus and evaluate it, as `speechtune train` does; called again, it resumes.

    Args:
        model: of `load`, a folder, or a name on the hub, to start from.
        corpus: as --dataset_name takes it.
        output_dir: everything is written there.
        options: any option of `speechtune train`, such as `num_train_epochs=3` or `learning_rate=1e-4`.

    Returns:
        The trained model, with its `evaluation`.

    Raises:
        SpeechtuneError: what the command would print.
        KeyboardInterrupt: it was stopped; its state is saved.
    """
    from speechtune.evaluation.evaluate import Evaluation

    folder = Path(output_dir)
    options = {**_model_options(model), **options}
    _run("train", {"dataset_name": corpus, "output_dir": folder, **options})
    evaluated = (folder / "eval_results.json").is_file()
    return Model(
        str(folder),
        device="cpu" if options.get("use_cpu") is True else None,
        options={name: options[name] for name in ("language", "task", "target_language") if name in options},
        evaluation=Evaluation.read(folder) if evaluated else None,
    )


def _model_options(model: Model | str | Path) -> dict[str, Any]:
    """Return the options by which a command loads the model in the same way."""
    if not isinstance(model, Model):
        return {"model_name_or_path": model}
    on_cpu = {"use_cpu": True} if model.device == "cpu" else {}
    return {"model_name_or_path": model.name, **on_cpu, **model.options}


def _run(command: Command, options: Mapping[str, Any]) -> None:
    set_up_libraries()
    parsed = parse_options(as_words(options), command=command, prog=f"speechtune {command}")
    from speechtune.training.run import run

    code = run(parsed)
    if code:
        raise KeyboardInterrupt(f"stopped with exit code {code}")


def as_words(options: Mapping[str, Any]) -> list[str]:
    """Return options as the words of a command line.

    Raises:
        OptionError: a value has no form there.
    """
    words: list[str] = []
    for name, value in options.items():
        if value is None:
            continue
        if isinstance(value, (list, tuple)):
            values = [str(item) for item in value]
        elif isinstance(value, Mapping):
            values = [json.dumps(value)]
        elif isinstance(value, (Real, str, Path)):
            values = [str(value)]
        else:
            raise OptionError(f"--{name}: expected a number, a string, a list or a mapping, found {value!r}.")
        words += [f"--{name}", *values]
    return words
