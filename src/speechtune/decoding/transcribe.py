"""Recordings of any kind and length -> text, with a folder that training wrote or any CTC or seq2seq checkpoint."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from json import dumps
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechtune.audio.decode import load_audio
from speechtune.errors import AudioError
from speechtune.options.table import Settings
from speechtune.terminal.formatting import visible
from speechtune.types import Utterance

__all__ = ["Transcriber", "main_transcribe"]

log = logging.getLogger("speechtune")

WINDOW_S = 30.0  # the longest piece that goes through the model at once
SEARCH_S = 5.0  # a cut lies at the quietest place in the last this many seconds of a window
ENERGY_FRAME_S = 0.05


class Transcriber:
    """Loads a model once and transcribes recordings.

    Args:
        model: folder or hub name.
        device: "cpu", "cuda", or None for the best at hand.
        options: others of Settings: `language` and `task` for Whisper, `target_language` for MMS adapters.
    """

    def __init__(
        self,
        model: str,
        *,
        device: str | None = None,
        **options: Any,
    ) -> None:
        import torch

        from speechtune.models.loading import open_recogniser

        config = Settings(model_name_or_path=model, **options)
        self.recogniser = open_recogniser(config)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.recogniser.model.to(self.device).eval()

    def __call__(self, audio: str | bytes) -> str:
        """Text of one recording; long ones are cut at quiet places and the pieces' texts joined.

        Raises:
            AudioError: it can't be read.
        """
        samples = load_audio(audio, self.recogniser.sampling_rate, name=audio if isinstance(audio, str) else "")
        pieces = list(cut_at_pauses(samples, self.recogniser.sampling_rate))
        return " ".join(text for text in (self._piece(piece) for piece in pieces) if text)

    def _piece(self, samples: NDArray[np.float32]) -> str:
        import torch

        from speechtune.data.dataset import Batch

        features = self.recogniser.model_input.features(samples)
        inputs = self.recogniser.model_input.pad([features], min_length=self.recogniser.min_input_length)
        batch = Batch(
            utterances=[Utterance("", "", "", "", len(samples) / self.recogniser.sampling_rate, "")],
            texts=[""],
            rows=[0],
            inputs={name: torch.from_numpy(value) for name, value in inputs.items()},
            labels=torch.zeros((1, 1), dtype=torch.int64),
            label_lengths=[0],
            input_lengths=[len(features)],
            seconds=len(samples) / self.recogniser.sampling_rate,
        ).to(self.device)
        with torch.inference_mode():
            said = self.recogniser.recognise(self.recogniser.model, batch, with_loss=False)
        return " ".join(said[0].text.split())


def cut_at_pauses(samples: NDArray[np.float32], sampling_rate: int) -> Iterator[NDArray[np.float32]]:
    """Pieces of at most WINDOW_S seconds, cut where it is quietest; all samples, in order, each once."""
    window, search = int(WINDOW_S * sampling_rate), int(SEARCH_S * sampling_rate)
    frame = int(ENERGY_FRAME_S * sampling_rate)
    start = 0
    while len(samples) - start > window:
        tail = samples[start + window - search : start + window]
        energies = (tail[: len(tail) // frame * frame].reshape(-1, frame) ** 2).mean(axis=1)
        cut = start + window - search + int(energies.argmin()) * frame + frame // 2
        yield samples[start:cut]
        start = cut
    yield samples[start:]


def main_transcribe(
    model: str,
    files: Sequence[str],
    *,
    json: bool = False,
    **options: Any,
) -> int:
    """Print the text of each file on its own line; a file that can't be read is named and the others go on.

    Args:
        model: folder or hub name.
        files: recordings.
        json: print an object a line instead.
        options: of Settings, as Transcriber takes them.

    Returns:
        Exit code: 0, or 2 where a file could not be read.
    """
    transcriber = Transcriber(model, **options)
    failed = 0
    for path in files:
        try:
            text = transcriber(str(path))
        except AudioError as error:
            failed += 1
            print(visible(str(error)), file=sys.stderr)
            continue
        if json:
            line = visible(dumps({"file": str(path), "text": text}, ensure_ascii=False), written="\\u{:04x}")
        else:
            name = visible(str(path)).replace("\n", "[U+000A]")
            line = visible(text) if len(files) == 1 else f"{name}\t{visible(text)}"
        print(line, flush=True)
    return 2 if failed else 0
