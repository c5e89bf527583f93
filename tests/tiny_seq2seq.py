"""Sequence-to-sequence models of a few thousand parameters, and batches of synthetic voices for them."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import audio_files
import numpy as np
from standins.models import stand_in

from speechtune.audio.samples import quantise
from speechtune.data.dataset import BatchMaker
from speechtune.data.prepare import Limits
from speechtune.models.batch import Batch, Item
from speechtune.models.seq2seq import warmstart
from speechtune.models.seq2seq.recogniser import Seq2SeqRecogniser
from speechtune.models.seq2seq.setup import load_seq2seq, seq2seq_for_training
from speechtune.options.table import Settings
from speechtune.types import Utterance

RATE = 16_000
SHORT = {"generation_max_length": 6, "generation_num_beams": 1}
CLIPS = [(1.0, "bir iki"), (2.5, "üç dört beş altı"), (1.1, "yedi")]


@cache
def _home() -> Path:
    home = Path(tempfile.mkdtemp(prefix="tiny-seq2seq-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    return home


@cache
def checkpoint(name: str) -> str:
    """Folder of a stand-in by its hub name, or of `ENCODER+DECODER` joined by `speechtune warmstart`.

    Random weights write timestamps among the text as real ones don't: "whisper without timestamps" can't.
    """
    if name == "whisper without timestamps":
        return str(_without_timestamps(_home() / "without-timestamps"))
    encoder, _, decoder = name.partition("+")
    if not decoder:
        return str(stand_in(_home(), name))
    folder = _home() / name.replace("/", "--")
    warmstart.run(checkpoint(encoder), checkpoint(decoder), folder)
    return str(folder)


def _without_timestamps(folder: Path) -> Path:
    shutil.copytree(checkpoint("openai/whisper-small"), folder)
    settings = json.loads((folder / "generation_config.json").read_text("utf-8"))
    first = settings["no_timestamps_token_id"] + 1
    settings["suppress_tokens"] += list(range(first, first + 1501))
    (folder / "generation_config.json").write_text(json.dumps(settings), "utf-8")
    return folder


def whisper(**options: Any) -> Seq2SeqRecogniser:
    """Whisper as it is evaluated: Turkish, greedy, 6 new tokens at most."""
    return loaded("openai/whisper-small", **{"language": "tr", **options})


def joined(*, encoder: str = "facebook/wav2vec2-base", decoder: str = "facebook/bart-base", **options: Any) -> Any:
    return loaded(f"{encoder}+{decoder}", **options)


def loaded(name: str, *, generation: dict[str, Any] | None = None, **options: Any) -> Seq2SeqRecogniser:
    config = Settings(model_name_or_path=name if name[0] == "/" else checkpoint(name), **options)
    recogniser = load_seq2seq(config, training_args=arguments(**(generation or SHORT)))
    recogniser.model.eval()
    return recogniser


def for_training(name: str = "openai/whisper-small", **options: Any) -> Seq2SeqRecogniser:
    from transformers import AutoConfig

    folder = checkpoint(name) if name[0] != "/" else name
    generation = options.pop("generation", SHORT)
    corpus_language = options.pop("corpus_language", "tr")
    recogniser = seq2seq_for_training(
        Settings(model_name_or_path=folder, **options),
        AutoConfig.from_pretrained(folder),
        training_args=arguments(**generation),
        corpus_language=corpus_language,
    )
    recogniser.model.train()
    return recogniser


def arguments(**given: Any) -> Any:
    """What Seq2SeqTrainingArguments says of generation, without its seconds of start-up."""
    defaults = {"generation_config": None, "generation_max_length": None, "generation_num_beams": None, "fsdp": None}
    return type("Arguments", (), {**defaults, **given})


class Voices:
    """Reads no file: an utterance's voice follows from its duration."""

    sampling_rate = RATE

    def pcm(self, utterance: Utterance, *, max_duration_s: float) -> np.ndarray:
        return quantise(voice(utterance.duration_s))


def voice(duration_s: float) -> np.ndarray:
    return audio_files.voice(duration_s, RATE, seed=int(duration_s * 1000))


def batch_of(recogniser: Seq2SeqRecogniser, clips: Any = tuple(CLIPS), *, training: bool = False) -> Batch:
    """A batch of (seconds, text)."""
    model_input = recogniser.training_input if training else recogniser.model_input
    make_batch = BatchMaker(
        Voices(),  # type: ignore[arg-type]
        model_input,
        min_length=recogniser.min_input_length,
        split="test",
        limits=Limits() if training else None,
    )
    items = [
        Item(row, Utterance(f"u{row}", "", f"key{seconds}", text, seconds, f"u{row}.wav"), text, labels)
        for row, (seconds, text) in enumerate(clips)
        for labels in [np.asarray(recogniser.encode(text), np.int64)]
    ]
    return make_batch(items)
