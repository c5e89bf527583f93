"""Prompts with a recording inside, as language models that hear audio read them (Qwen3-ASR, Granite Speech, ...).

The checkpoint's own processor writes the prompt around each clip, as in plain transformers: by
`apply_transcription_request`, or by its chat template where it has no such method (Granite). In a batch the prompts end
together, padded on the left, and the audio is padded on the right. The recogniser (`audio_recogniser.py`) puts the
transcript after them.

Rejected: templates of our own, which a new release of a model would make wrong; a class for each model.

Legend: B utterances, P tokens of the longest prompt.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from speechtune.audio.samples import Samples, dequantise
from speechtune.errors import ModelError, OptionError
from speechtune.models.inputs import ModelInput

if TYPE_CHECKING:
    from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor

__all__ = ["AUDIO_PROMPTED", "AudioPromptInput", "Prompted", "prompt_language"]

log = logging.getLogger("speechtune")

# Language models that read audio inside a written prompt.
AUDIO_PROMPTED = (
    "fun_asr_nano", "glmasr", "granite_speech", "granite_speech_plus", "omniasr", "qwen3_asr", "vibevoice_asr",
)  # fmt: skip

QUESTION = "can you transcribe the speech into a written format?"  # Granite's, of its model card
MIN_SECONDS = 0.2  # of audio: some encoders make no frame of less
TEXT = ("input_ids", "attention_mask")  # parts of a prompt; all others are audio


@dataclass(frozen=True)
class Prompted:
    """One clip in its prompt.

    Args:
        parts: keyword of the model's forward -> array (1 or more windows, ...).
        length: frames or samples of the audio.
    """

    parts: Mapping[str, NDArray[Any]]
    length: int

    def __len__(self) -> int:
        return self.length


class AudioPromptInput(ModelInput):
    """Samples to a prompt with audio, by the checkpoint's processor.

    Args:
        processor: of transformers.
        language: that the prompt names, as a short code; None for none.
        time_axis: of the audio's array.
    """

    processor_class = ""  # the checkpoint's processor is saved as it is

    def __init__(self, processor: Any, *, language: str | None = None, time_axis: int = -1) -> None:
        self.processor, self.language, self.time_axis = processor, language, time_axis
        self.feature_extractor: SequenceFeatureExtractor = _feature_extractor(processor)
        self.sampling_rate = int(self.feature_extractor.sampling_rate)
        self.name = next(n for n in self.feature_extractor.model_input_names if n.startswith("input_"))
        tokenizer = processor.tokenizer
        self.pad_id = int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)

    @property
    def names_language(self) -> bool:
        """Whether the prompt can name a language."""
        write = getattr(self.processor, "apply_transcription_request", None)
        return write is not None and "language" in inspect.signature(write).parameters

    def features(self, samples: Samples) -> Prompted:
        samples = dequantise(samples)
        missing = int(MIN_SECONDS * self.sampling_rate) - len(samples)
        if missing > 0:
            samples = np.pad(samples, (0, missing))
        made = {name: np.asarray(value) for name, value in self._request(samples).items()}
        return Prompted(made, int(made[self.name].shape[self.time_axis]))

    def pad(self, features: Sequence[Prompted], *, min_length: int = 0) -> dict[str, NDArray[Any]]:
        """Return `input_ids` and `attention_mask` (B, P), padded on the left, and the audio, padded on the right."""
        longest = max(clip.parts["input_ids"].shape[1] for clip in features)
        padded: dict[str, NDArray[Any]] = {}
        for name in features[0].parts:
            arrays = [clip.parts[name] for clip in features]
            if name in TEXT:
                value = self.pad_id if name == "input_ids" else 0
                rows = [np.pad(a, ((0, 0), (longest - a.shape[1], 0)), constant_values=value) for a in arrays]
            else:
                shape = np.max([a.shape[1:] for a in arrays], axis=0)
                rows = [np.pad(a, [(0, 0), *((0, int(n)) for n in shape - a.shape[1:])]) for a in arrays]
            padded[name] = np.concatenate(rows)
        return padded

    def _request(self, samples: NDArray[np.float32]) -> Mapping[str, Any]:
        """Let the processor write the prompt of one clip."""
        processor = self.processor
        if not hasattr(processor, "apply_transcription_request"):
            template = getattr(processor, "chat_template", None)
            prompt = processor.tokenizer.apply_chat_template(
                [{"role": "user", "content": f"{processor.audio_token}{QUESTION}"}],
                tokenize=False,
                add_generation_prompt=True,
                **({"chat_template": template} if template else {}),
            )
            return dict(processor(text=[prompt], audio=[samples], return_tensors="pt"))
        options: dict[str, Any] = {}
        if self.language is not None and self.names_language:
            options["language"] = self.language
        return dict(processor.apply_transcription_request(samples, **options))


def prompt_language(made: AudioPromptInput, *, name: str, asked: str | None, known: str | None) -> None:
    """Let the prompt name a language, in place, and check that the processor can write it.

    A language that the user asked for must be one that the processor knows. That of the corpus, if it is unknown, is
    not named: a model can learn a language that it was not made for.

    Args:
        name: of the checkpoint, for messages.
        asked: short code of --language.
        known: short code of the corpus, or that the model was trained with.

    Raises:
        OptionError: the language is unknown to the model.
        ModelError: the processor can't write a prompt.
    """
    silence = np.zeros(made.sampling_rate, np.float32)
    made.language = asked or known
    if asked and not made.names_language:
        log.warning(f"--language {asked}: not used, since the prompt of {name} names no language")
    try:
        made.features(silence)
        return
    except (ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0][:300]
    except Exception as error:  # templates fail with errors of many kinds
        raise ModelError(f"{name}: its processor can't write a prompt: {error}") from error
    language, made.language = made.language, None
    try:
        made.features(silence)
    except Exception as error:
        raise ModelError(f"{name}: its processor can't write a prompt: {error}") from error
    if asked:
        raise OptionError(f"{name}: --language {asked}: {reason}")
    log.info(f"prompt: names no language, since {name} does not know {language}")


def _feature_extractor(processor: Any) -> Any:
    """Return a processor's feature extractor; Granite's has another name."""
    return getattr(processor, "feature_extractor", None) or processor.audio_processor
