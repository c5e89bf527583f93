"""Families of sequence-to-sequence models: which are supported, why others are not, and their inputs."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from speechtune.errors import ModelError
from speechtune.models.inputs import ModelInput, input_for
from speechtune.models.seq2seq.audio_prompt import AUDIO_PROMPTED
from speechtune.models.whisper.context import EncoderContext
from speechtune.models.whisper.input import WhisperInput

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel
    from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor

__all__ = ["FAMILIES", "auto_class", "check_decoder", "check_family", "inputs_of", "max_labels_of"]

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

_OF_FRAMES = "takes a token of text for each frame of audio, so it would need the time of every word"
# model type -> why not, and the place in the installed transformers that prevents it: module, class or function
_WHY_NOT: dict[str, tuple[str, str, str]] = {
    "dia": ("it makes speech of text, not text of speech", "dia.modeling_dia", "DiaForConditionalGeneration.generate"),
    "kyutai_speech_to_text": (
        _OF_FRAMES, "kyutai_speech_to_text.modeling_kyutai_speech_to_text",
        "KyutaiSpeechToTextForConditionalGeneration.prepare_inputs_for_generation",
    ),
    "moonshine_streaming": (
        "its encoder has windows only where a mask is given, so its output depends on the batch",
        "moonshine_streaming.modeling_moonshine_streaming", "MoonshineStreamingEncoder.forward",
    ),
    "pop2piano": (
        "it makes piano notes of music", "pop2piano.modeling_pop2piano", "Pop2PianoForConditionalGeneration.generate"
    ),
    "seamless_m4t": (
        "generate() takes features only, no output of the encoder", "seamless_m4t.modeling_seamless_m4t",
        "SeamlessM4TForSpeechToText.generate",
    ),
    "seamless_m4t_v2": (
        "generate() takes features only, no output of the encoder", "seamless_m4t_v2.modeling_seamless_m4t_v2",
        "SeamlessM4Tv2ForSpeechToText.generate",
    ),
    "vibevoice": (
        "it makes speech of text, not text of speech", "vibevoice.modeling_vibevoice",
        "VibeVoiceForConditionalGeneration.forward",
    ),
    "voxtral": (
        "mistral-common writes its prompts, and speechtune was never run with it", "voxtral.processing_voxtral",
        "VoxtralProcessor.apply_transcription_request",
    ),
    "voxtral_realtime": (
        _OF_FRAMES, "voxtral_realtime.modeling_voxtral_realtime", "VoxtralRealtimeModel.forward",
    ),
}  # fmt: skip


def check_family(model_type: str) -> None:
    """Refuse an unsupported type, with the reason.

    Raises:
        ModelError: it is unsupported.
    """
    if model_type in FAMILIES or model_type in AUDIO_PROMPTED:
        return
    why, module, name = _WHY_NOT.get(model_type, ("speechtune does not know how it is prompted", "", ""))
    where = f" (transformers/models/{module.replace('.', '/')}.py, {name})" if module else ""
    raise ModelError(
        f"{model_type} models can't be trained or evaluated here: {why}{where}.\n"
        f"These can: {', '.join([*FAMILIES, *AUDIO_PROMPTED])}."
    )


def auto_class(model_type: str) -> Any:
    """Return the auto class of transformers that loads a sequence-to-sequence model of this type."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES

    is_listed = model_type in MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES
    return transformers.AutoModelForSpeechSeq2Seq if is_listed else transformers.AutoModelForMultimodalLM


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
