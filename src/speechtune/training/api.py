"""The Python API: what `import speechtune` offers. It runs what the commands run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechtune.errors import OptionError
from speechtune.options.parse import parse_options
from speechtune.options.table import Command
from speechtune.types import Transcript

if TYPE_CHECKING:
    from speechtune.decoding.transcribe import Transcriber
    from speechtune.evaluation.evaluate import Evaluation

__all__ = ["Model", "evaluate", "fine_tune", "load"]


@dataclass
class Model:
    """A speech recogniser, loaded when it is first used.

    Args:
        name: folder of a trained model, or a name on the hub.
        device: "cpu", "cuda", or None for the best at hand.
        options: of `speechtune transcribe`: `language` and `task` for Whisper, `target_language` for MMS adapters.
        evaluation: what the training that made it found, or None.
    """

    name: str
    device: str | None = None
    options: Mapping[str, Any] | None = None
    evaluation: Evaluation | None = None

    @cached_property
    def _transcriber(self) -> Transcriber:
        from speechtune.decoding.transcribe import Transcriber

        return Transcriber(self.name, device=self.device, **(self.options or {}))

    def transcribe(self, audio: str | Path | bytes) -> Transcript:
        """Recognise one recording of any length.

        Args:
            audio: path of an audio or video file, or the bytes of one.

        Raises:
            AudioError: it can't be decoded.
            ModelError: the model can't be loaded.
        """
        source = audio if isinstance(audio, bytes) else str(audio)
        return Transcript(text=self._transcriber(source), file="" if isinstance(source, bytes) else source)


def load(name: str | Path, *, device: str | None = None, **options: Any) -> Model:
    """Load a model to recognise with.

    Args:
        name: folder of a trained model, or a name on the hub.
        device: "cpu", "cuda", or None for the best at hand.
        options: of `speechtune transcribe`: `language`, `task`, `target_language`, `encoder_context`.

    Raises:
        ModelError: there is no such model, or it can't recognise speech.
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

    if isinstance(model, Model):
        options = {**(model.options or {}), **options}
    name = model.name if isinstance(model, Model) else str(model)
    with tempfile.TemporaryDirectory(prefix="speechtune-") as temporary:
        folder = Path(output_dir or temporary)
        _run(
            "evaluate",
            {
                "model_name_or_path": name,
                "dataset_name": corpus,
                "eval_split_name": split,
                "output_dir": folder,
                **options,
            },
        )
        return Evaluation.read(folder)


def fine_tune(model: str | Path, corpus: str | Path, *, output_dir: str | Path, **options: Any) -> Model:
    """Fine-tune a model on a corpus and evaluate it, as `speechtune train` does; called again, it resumes.

    Args:
        model: folder or hub name to start from.
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

    named = {"model_name_or_path": model, "dataset_name": corpus, "output_dir": output_dir}
    _run("train", {**named, **options})
    folder = Path(output_dir)
    evaluated = (folder / "eval_results.json").is_file()
    return Model(str(folder), evaluation=Evaluation.read(folder) if evaluated else None)


def _run(command: Command, options: Mapping[str, Any]) -> None:
    from speechtune.training.run import run

    code = run(parse_options(as_words(options), command=command, prog=f"speechtune.{command}"))
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
        elif isinstance(value, (bool, int, float, str, Path)):
            values = [str(value)]
        else:
            raise OptionError(f"{name}: expected a number, a string, a list or a mapping, found {value!r}.")
        words += [f"--{name}", *values]
    return words
