"""Transcribe recordings with a folder that training wrote, or with any CTC or sequence-to-sequence checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import soxr

from speechtune.audio.decode import load_audio
from speechtune.audio.samples import Samples, dequantise, quantise
from speechtune.errors import OptionError
from speechtune.options.table import Settings
from speechtune.types import Transcript

__all__ = ["Transcriber", "resampled"]


class Transcriber:
    """Loads a model once and transcribes recordings.

    Args:
        model: folder or hub name.
        device: "cpu", "cuda", or None for the best available.
        vad: where speech is looked for: "energy", "silero", or "none" to recognise all.
        options: others of Settings: `language` and `task` for Whisper, `target_language` for MMS adapters, `lm`,
            `hotwords` and `num_beams` for the search, `prompt` for Whisper.

    Raises:
        ModelError: the model can't be loaded.
        OptionError: there is no such device.
    """

    def __init__(self, model: str, *, device: str | None = None, vad: str = "energy", **options: Any) -> None:
        import torch

        from speechtune.decoding.search import attach_search, spoken_text
        from speechtune.decoding.speech import check_detector
        from speechtune.models.opening import open_recogniser

        check_detector(vad)
        self.vad = vad
        best = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.device = torch.device(device or best)
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:  # the latter from a torch without CUDA
            raise OptionError(f"Device {device!r}: not on this machine. Its best is {best!r}.") from error
        settings = Settings(model_name_or_path=model, **options)
        self.recogniser = open_recogniser(settings)
        self.recogniser.model.to(self.device).eval()
        attach_search(self.recogniser, settings, normalise=spoken_text(settings.language))

    def __call__(self, audio: str | bytes) -> str:
        """Return the text of one recording, a path or the bytes of a file, of any length.

        Raises:
            AudioError: it can't be read.
        """
        return self.recognise(self.load(audio), words=False).text

    def transcript(self, audio: str | bytes) -> Transcript:
        """Return text, segments and words of one recording.

        Raises:
            AudioError: it can't be read.
        """
        name = audio if isinstance(audio, str) else ""
        return replace(self.recognise(self.load(audio)), file=name)

    def load(self, audio: str | bytes, *, name: str = "") -> Samples:
        """Return the samples of a recording as `recognise` takes them; as 16 bits, like those of training."""
        name = name or (audio if isinstance(audio, str) else "")
        return quantise(load_audio(audio, self.recogniser.sampling_rate, name=name))

    def recognise(
        self, samples: Samples, *, words: bool = True, advance: Callable[[float], None] | None = None
    ) -> Transcript:
        """Return the transcript of samples.

        Args:
            words: find their times also where that costs time (Whisper: the decoder runs once more).
            samples: (num_samples,), at the recogniser's rate.
            advance: called with the seconds of audio that are done, after each window.
        """
        from speechtune.decoding.long_form import transcript_of
        from speechtune.decoding.speech import find_speech

        speech = find_speech(samples, self.recogniser.sampling_rate, detector=self.vad)
        return transcript_of(self.recogniser, samples, speech=speech, words=words, advance=advance)

    def recognise_at(self, samples: Samples, sampling_rate: int) -> Transcript:
        """Return the transcript of samples at any rate, in Hz; without times of Whisper's words."""
        return self.recognise(resampled(samples, sampling_rate, self.recogniser.sampling_rate), words=False)


def resampled(samples: Samples, sampling_rate: int, new_rate: int) -> Samples:
    """Return samples at another rate, in Hz, as 16 bits."""
    if sampling_rate == new_rate:
        return samples
    return quantise(soxr.resample(dequantise(samples), sampling_rate, new_rate, quality="HQ"))
