"""Transcribe recordings with a folder that training wrote, or with any CTC or sequence-to-sequence checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from json import dumps
from typing import Any

from speechtune.audio.decode import load_audio
from speechtune.errors import AudioError, OptionError
from speechtune.options.table import Settings
from speechtune.terminal.formatting import visible

__all__ = ["Transcriber", "main_transcribe"]


class Transcriber:
    """Loads a model once and transcribes recordings.

    Args:
        model: folder or hub name.
        device: "cpu", "cuda", or None for the best available.
        options: others of Settings: `language` and `task` for Whisper, `target_language` for MMS adapters.

    Raises:
        ModelError: the model can't be loaded.
        OptionError: there is no such device.
    """

    def __init__(self, model: str, *, device: str | None = None, **options: Any) -> None:
        import torch

        from speechtune.models.opening import open_recogniser

        best = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.device = torch.device(device or best)
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:  # the latter from a torch without CUDA
            raise OptionError(f"Device {device!r}: not on this machine. Its best is {best!r}.") from error
        self.recogniser = open_recogniser(Settings(model_name_or_path=model, **options))
        self.recogniser.model.to(self.device).eval()

    def __call__(self, audio: str | bytes) -> str:
        """Return the text of one recording, a path or the bytes of a file, of any length.

        Raises:
            AudioError: it can't be read.
        """
        from speechtune.decoding.long_form import transcribe_samples

        name = audio if isinstance(audio, str) else ""
        return transcribe_samples(self.recogniser, load_audio(audio, self.recogniser.sampling_rate, name=name))


def main_transcribe(model: str, files: Sequence[str], *, json: bool = False, **options: Any) -> int:
    """Print the text of each file on its own line; a file that can't be read is named, and the next one follows.

    Args:
        model: folder or hub name.
        files: recordings.
        json: print one JSON object a line instead.
        options: of Settings, as Transcriber takes them.

    Returns:
        Exit code: 0, or 2 where a file could not be read.
    """
    transcriber = Transcriber(model, **options)
    failed = 0
    for path in map(str, files):
        try:
            text = transcriber(path)
        except AudioError as error:
            failed += 1
            print(visible(str(error)), file=sys.stderr)
            continue
        if json:
            line = visible(dumps({"file": path, "text": text}, ensure_ascii=False), written="\\u{:04x}")
        else:
            name = visible(path).replace("\n", "[U+000A]")
            line = visible(text) if len(files) == 1 else f"{name}\t{visible(text)}"
        print(line, flush=True)
    return 2 if failed else 0
