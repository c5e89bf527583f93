"""Families of sequence-to-sequence models: which are supported, why others are not, and their inputs."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from speechtune.errors import ModelError
from speechtune.models.inputs import ModelInput, input_for
from speechtune.models.whisper.context import EncoderContext
from speechtune.models.whisper.input import WhisperInput

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel
    from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor

__all__ = ["FAMILIES", "check_decoder", "check_family", "inputs_of", "max_labels_of"]

# model type -> class of transformers that saves its tokenizer and feature extractor together
FAMILIES = {
    "whisper": "WhisperProcessor",
    "speech-encoder-decoder": "Wav2Vec2Processor",
    "speech_to_text": "Speech2TextProcessor",
    "speecht5": "SpeechT5Processor",
    "moonshine": "Wav2Vec2Processor",
    "canary": "CanaryProcessor",
    "cohere_asr": "CohereAsrProcessor",
}

_PROMPTED = "it is a language model with audio inside a written prompt, which speechtune doesn't train yet"
_OWN_GENERATE = "its generate() needs language tokens and a vocoder's settings of its own"
_WHY_NOT = {
    "seamless_m4t": _OWN_GENERATE,
    "seamless_m4t_v2": _OWN_GENERATE,
    "moonshine_streaming": "its encoder has windows only where a mask is given, so its output depends on the batch",
    "kyutai_speech_to_text": "it writes text in step with audio tokens of a codec, not after an encoder",
    "dia": "it makes speech of text, not text of speech",
    "vibevoice": "it makes speech of text, not text of speech",
    "pop2piano": "it makes piano notes of music",
}


def check_family(model_type: str) -> None:
    """Refuse an unsupported type, with the reason.

    Raises:
        ModelError: it is unsupported.
    """
    if model_type not in FAMILIES:
        why = _WHY_NOT.get(model_type, _PROMPTED)
        raise ModelError(
            f"{model_type} models can't be trained or evaluated here: {why}.\nThese can: {', '.join(FAMILIES)}."
        )


def check_decoder(model: PreTrainedModel, name: str) -> None:
    """Refuse a decoder that would ignore the audio, or has no start token.

    Raises:
        ModelError: what is missing, and what to do.
    """
    decoder = getattr(model, "decoder", None)
    if model.config.model_type == "speech-encoder-decoder" and decoder is not None:
        takes_it = "encoder_hidden_states" in inspect.signature(decoder.forward).parameters
        if not takes_it or not getattr(decoder.config, "add_cross_attention", False):
            remedy = (
                "Make the folder again with `speechtune warmstart`, which adds it."
                if takes_it
                else "Use a decoder that can have it, such as BART or GPT-2."
            )
            raise ModelError(
                f"{name}: its decoder ({decoder.config.model_type}) has no cross-attention, so it would ignore "
                f"the audio.\n{remedy}"
            )
    if model.config.decoder_start_token_id is None:
        raise ModelError(
            f"{name}: config.json has no decoder_start_token_id, so a transcript has no start token.\n"
            "Set it (usually to the decoder's bos_token_id), or make the folder with `speechtune warmstart`."
        )


def inputs_of(
    feature_extractor: SequenceFeatureExtractor,
    model_config: PreTrainedConfig,
    *,
    context: EncoderContext | None,
    padding: str,
) -> tuple[ModelInput, ModelInput]:
    """Return the inputs for recognition and for training.

    Raises:
        ModelError: the feature extractor belongs to another model.
    """
    if context is None:
        made = input_for(feature_extractor, padding=padding)
        return made, made
    if type(feature_extractor).__name__ != "WhisperFeatureExtractor":
        raise ModelError(f"A whisper model with a {type(feature_extractor).__name__}, which is of another model.")
    masked = model_config.apply_spec_augment and model_config.mask_time_prob > 0
    return (
        WhisperInput(feature_extractor, frames=context.frames),
        WhisperInput(feature_extractor, frames=context.frames, mask=masked, no_longer=True),
    )


def max_labels_of(model_config: PreTrainedConfig) -> int | None:
    """Return the number of positions of the decoder; None if the config doesn't say."""
    decoder = getattr(model_config, "decoder", None) or getattr(model_config, "decoder_config", model_config)
    names = ("max_target_positions", "max_text_positions", "max_position_embeddings", "n_positions")
    return next((int(value) for name in names if (value := getattr(decoder, name, None))), None)
