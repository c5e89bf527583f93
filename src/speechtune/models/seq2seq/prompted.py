"""Decoders that begin with a prompt of their own, which names the language (Canary, Cohere).

The checkpoint's processor writes the prompt, as plain transformers does; it is the same for every clip of a run. Only
the transcript's tokens and the end are labels: the prompt has no loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from speechtune.errors import ModelError, OptionError

if TYPE_CHECKING:
    from speechtune.models.loading import Source

__all__ = ["PROMPTED", "decoder_prompt", "processor_of"]

PROMPTED = ("canary", "cohere_asr")


def processor_of(source: Source) -> Any:
    """Load a checkpoint's processor, which is saved with the trained model as it is."""
    from transformers import AutoProcessor

    return source.load("processor (processor_config.json)", AutoProcessor.from_pretrained)


def decoder_prompt(processor: Any, *, name: str, language: str | None) -> list[int]:
    """Return the token ids that a transcript follows.

    Args:
        processor: of the checkpoint.
        name: of the checkpoint, for messages.
        language: short code.

    Raises:
        OptionError: the language is unknown, or none the model was made for.
        ModelError: the checkpoint has no template of its prompt.
    """
    if language is None:
        raise OptionError(f"{name}: its prompt names the language of the recordings. Give --language, e.g. de.")
    try:
        if hasattr(processor, "get_decoder_prompt_ids"):
            return list(processor.get_decoder_prompt_ids(language=language))
        silence = np.zeros(processor.feature_extractor.sampling_rate, np.float32)
        made = processor.apply_transcription_request(silence, source_language=language)
        return [int(i) for i in made["decoder_input_ids"][0]]
    except ValueError as error:
        reason = str(error).strip().split("\n")[0]
        if "template" in reason:
            raise ModelError(f"{name}: no chat_template.jinja, which writes its prompt: {reason}") from error
        raise OptionError(f"{name}: --language {language}: {reason}") from error
