"""Build an AudioPromptRecogniser: a language model that hears audio, with the checkpoint's own processor."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch

from speechtune.errors import ModelError, OptionError
from speechtune.models.loading import Source, check_torchaudio, source_of
from speechtune.models.lora import merge_own_adapter
from speechtune.models.seq2seq.audio_prompt import AudioPromptInput, prompt_language
from speechtune.models.seq2seq.audio_recogniser import AudioPromptRecogniser, audio_encoders
from speechtune.models.seq2seq.families import auto_class
from speechtune.models.seq2seq.generation import set_beams
from speechtune.models.seq2seq.prompted import processor_of
from speechtune.options.table import Settings
from speechtune.text.languages import language_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, Seq2SeqTrainingArguments

__all__ = ["audio_prompt_recogniser"]

LANGUAGE_KEY = "speechtune_language"  # in config.json: the language that a trained model's prompt names
MAX_NEW_TOKENS = 448  # of a transcript, where neither user nor checkpoint says
# Their encoders see what comes after a clip in the batch, mask or not, so each clip is encoded alone.
ENCODED_ALONE = ("granite_speech", "granite_speech_plus")
TIME_FIRST = (*ENCODED_ALONE, "fun_asr_nano")  # features are (B, T, F), else (B, F, T)


def audio_prompt_recogniser(
    settings: Settings,
    model_config: PreTrainedConfig,
    *,
    training_args: Seq2SeqTrainingArguments | None,
    corpus_language: str | None,
    training: bool,
) -> AudioPromptRecogniser:
    """Load a checkpoint, to train it or as it is.

    Raises:
        OptionError: an option doesn't fit the model.
        ModelError: the checkpoint can't be used.
    """
    source = _checkpoint(settings, model_config)
    check_torchaudio(model_config.model_type)
    processor = processor_of(source)
    loader = auto_class(model_config.model_type).from_pretrained
    model = source.load("model", loader, dtype=torch.float32, **({"config": model_config} if training else {}))
    merge_own_adapter(model)
    _complete_attention(model)
    _freeze(settings, model)
    made = AudioPromptInput(processor, time_axis=1 if model_config.model_type in TIME_FIRST else -1)
    known = getattr(model.config, LANGUAGE_KEY, None) or language_of(corpus_language)
    prompt_language(made, name=source.name, asked=language_of(settings.language), known=known)
    if training and made.language is not None:
        setattr(model.config, LANGUAGE_KEY, made.language)
    end = _end_token(model, processor.tokenizer, source.name)
    _set_generation(model, source.name, training_args, end=end, pad=made.pad_id)
    max_labels = max(MAX_NEW_TOKENS, model.generation_config.max_new_tokens)
    recogniser = AudioPromptRecogniser(model, processor=processor, model_input=made, end=end, max_labels=max_labels)
    if model_config.model_type in ENCODED_ALONE and settings.padding == "invariant":
        recogniser.encode_each_alone()
    return recogniser


def _checkpoint(settings: Settings, config: PreTrainedConfig) -> Source:
    source = source_of(settings)
    if source is None or settings.tokenizer_name_or_path or settings.feature_extractor_name:
        raise OptionError(
            f"{config.model_type} models are trained from a checkpoint, with its own tokenizer and feature extractor.\n"
            "Leave out --model_config, --tokenizer_name_or_path and --feature_extractor_name."
        )
    for name in ("encoder_context", "encoder_cache", "apply_spec_augment"):
        if getattr(settings, name):
            raise OptionError(f"--{name} is for Whisper; leave it out with a {config.model_type}.")
    return source


def _freeze(settings: Settings, model: PreTrainedModel) -> None:
    """Freeze what the user asks for, and what the library runs without gradients anyway (VibeVoice's encoders)."""
    inner: Any = model.model
    without_gradient = "torch.no_grad" in inspect.getsource(type(inner).get_audio_features)
    if settings.freeze_encoder or without_gradient:
        for encoder in audio_encoders(model):
            encoder.requires_grad_(False)


def _complete_attention(model: PreTrainedModel) -> None:
    """Name the attention of parts that the library forgot (Fun-ASR's adaptor): without a name they get no mask."""
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is not None and getattr(config, "_attn_implementation", "") is None:
            config._attn_implementation = "eager"


def _end_token(model: PreTrainedModel, tokenizer: Any, name: str) -> int:
    """Return the token that ends a transcript: one at which `generate` stops."""
    ends = model.generation_config.eos_token_id
    if ends is None:
        ends = getattr(model.config, "eos_token_id", None)
    known = list(ends) if isinstance(ends, (list, tuple)) else [] if ends is None else [ends]
    own = tokenizer.eos_token_id
    if own is None and not known:
        raise ModelError(f"{name}: neither the tokenizer nor generation_config.json has an end token (eos_token_id).")
    end = int(own if own is not None and (not known or own in known) else known[0])
    model.generation_config.eos_token_id = ends if known else end
    return end


def _set_generation(
    model: PreTrainedModel, name: str, args: Seq2SeqTrainingArguments | None, *, end: int, pad: int
) -> None:
    """Let `generate` write at most so many tokens, and the most likely ones; saved with the model."""
    generation = model.generation_config
    asked = getattr(args, "generation_max_length", None)
    generation.max_new_tokens = asked or generation.max_new_tokens or MAX_NEW_TOKENS
    generation.max_length = None  # it would count the prompt, audio and all
    generation.pad_token_id = pad
    generation.do_sample = False
    for option in ("temperature", "top_p", "top_k", "min_p", "typical_p"):
        setattr(generation, option, None)
    set_beams(generation, name, args)
