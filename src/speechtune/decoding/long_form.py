"""Recognition of recordings of any length: long ones are cut at pauses, and memory does not grow with them.

`transcribe` and `evaluate` both use it, so they give the same text.

Rejected: Whisper's own long-form generation, which continues at the timestamps that it writes: it needs a model that
writes sensible ones, and one clip can cost 150 generations.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from speechtune.audio.samples import Samples
from speechtune.errors import ModelError
from speechtune.models.batch import Batch
from speechtune.models.recogniser import Recogniser, is_sharded
from speechtune.types import Utterance

__all__ = ["cut_at_pauses", "transcribe_samples"]

WINDOW_S = 30.0  # longest piece of a recording that is cut
SEARCH_S = 5.0  # a cut is at the quietest place in the last this many seconds of a window
ENERGY_FRAME_S = 0.05


def transcribe_samples(recogniser: Recogniser, samples: Samples, *, model: torch.nn.Module | None = None) -> str:
    """Return the text of one recording; one longer than `max_whole_s` is cut, and the pieces' texts are joined.

    Args:
        recogniser: its model in evaluation mode.
        samples: (num_samples,), float32 or 16 bits, at the recogniser's rate.
        model: what accelerate made of the recogniser's model.

    Raises:
        ModelError: a long recording with a model that is sharded over processes.
    """
    model = recogniser.model if model is None else model
    duration_s = len(samples) / recogniser.sampling_rate
    if duration_s <= recogniser.model_input.max_whole_s:
        return _transcribe_piece(recogniser, samples, model)
    if is_sharded(model):  # all processes would have to run the same number of pieces
        raise ModelError(
            f"A recording of {duration_s:.0f} s got into an evaluation with --fsdp, which takes "
            f"{recogniser.model_input.max_whole_s:g} s.\nEvaluate without --fsdp."
        )
    texts = (_transcribe_piece(recogniser, piece, model) for piece in cut_at_pauses(samples, recogniser.sampling_rate))
    return " ".join(text for text in texts if text)


def _transcribe_piece(recogniser: Recogniser, samples: Samples, model: torch.nn.Module) -> str:
    features = recogniser.model_input.features(samples)
    inputs = recogniser.model_input.pad([features], min_length=recogniser.min_input_length)
    seconds = len(samples) / recogniser.sampling_rate
    batch = Batch(
        utterances=[Utterance("", "", "", "", seconds, "")],
        texts=[""],
        rows=[0],
        inputs={name: torch.from_numpy(value) for name, value in inputs.items()},
        labels=torch.zeros((1, 1), dtype=torch.int64),
        label_lengths=[0],
        input_lengths=[len(features)],
        seconds=seconds,
    ).to(next(recogniser.model.parameters()).device)
    with torch.inference_mode():
        (recognised,) = recogniser.recognise(model, batch, with_loss=False)
    return " ".join(recognised.text.split())


def cut_at_pauses(samples: Samples, sampling_rate: int) -> Iterator[Samples]:
    """Yield pieces of at most WINDOW_S seconds, cut where it is quietest: all samples, in order, each once."""
    window, search = int(WINDOW_S * sampling_rate), int(SEARCH_S * sampling_rate)
    frame = int(ENERGY_FRAME_S * sampling_rate)
    start = 0
    while len(samples) - start > window:
        tail = samples[start + window - search : start + window].astype(np.float32)
        energies = (tail[: len(tail) // frame * frame].reshape(-1, frame) ** 2).mean(axis=1)
        cut = start + window - search + int(energies.argmin()) * frame + frame // 2
        yield samples[start:cut]
        start = cut
    yield samples[start:]
