"""A checkpoint and the user's options -> a Seq2SeqRecogniser that trains or recognises; what can't work is said."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from speechtune.errors import ModelError, OptionError
from speechtune.models.encoder.padding import make_padding_invariant
from speechtune.models.loading import Source, feature_extractor_of, given_tokenizer, load_config, source_of
from speechtune.models.seq2seq.families import FAMILIES, check_decoder, check_family, inputs_of, max_labels_of
from speechtune.models.seq2seq.recogniser import Seq2SeqRecogniser
from speechtune.models.whisper.context import EncoderContext, chosen_context, remember_context
from speechtune.models.whisper.prompt import set_prompt
from speechtune.options.table import Settings

__all__ = ["load_seq2seq", "seq2seq_for_training"]

log = logging.getLogger("speechtune")

DEFAULT_MAX_LENGTH = 448  # of generated tokens, where neither user nor checkpoint says; transformers' own would be 20


@dataclass(frozen=True)
class _Parts:
    """What a checkpoint brings."""

    name: str
    model: Any
    tokenizer: Any
    feature_extractor: Any


def seq2seq_for_training(
    config: Settings, model_config: Any, *, training_args: Any = None, corpus_language: str | None = None
) -> Seq2SeqRecogniser:
    """A checkpoint (or random weights) ready to train.

    Args:
        model_config: of the checkpoint, already loaded; changed in place by the options.
        training_args: Seq2SeqTrainingArguments; what they say of generation is kept with the model.
        corpus_language: what the corpus says it is; `--language` wins.

    Raises:
        OptionError: an option doesn't fit the model.
        ModelError: the model can't be trained as it is.
    """
    check_family(model_config.model_type)
    if model_config.model_type == "whisper":
        model_config.apply_spec_augment = config.apply_spec_augment
    elif config.apply_spec_augment:
        raise OptionError(
            "--apply_spec_augment is for Whisper; other encoders go by mask_time_prob in their config.json."
        )
    parts = _load(config, source_of(config), model_config)
    if config.freeze_feature_encoder:
        _freeze_feature_encoder(parts.model)
    if config.freeze_encoder:
        parts.model.get_encoder().requires_grad_(False)
    recogniser = _recogniser(config, parts, training_args, corpus_language, training=True)
    _check_road(config, recogniser, is_sharded=bool(getattr(training_args, "fsdp", None)))
    recogniser.label_smoothing = float(getattr(training_args, "label_smoothing_factor", 0.0))
    if recogniser.context is not None:
        remember_context(parts.model.config, recogniser.context)
    return recogniser


def _check_road(config: Settings, recogniser: Seq2SeqRecogniser, *, is_sharded: bool) -> None:
    """What runs the encoder apart from the model's own forward has conditions."""
    margin_s = recogniser.context.margin_s if recogniser.context is not None else None
    if is_sharded and (margin_s is not None or config.encoder_cache):
        raise OptionError(
            f"--{'encoder_cache' if config.encoder_cache else 'encoder_context'} with --fsdp: sharded weights are "
            "whole only inside the model's own forward.\nLeave one of them out."
        )
    if not config.encoder_cache:
        return
    settings = recogniser.model.config
    if not config.freeze_encoder:
        raise OptionError("--encoder_cache: an encoder that is trained can't be kept. Give --freeze_encoder too.")
    if recogniser.context is None:
        raise OptionError("--encoder_cache is for Whisper: other encoders draw dropout and masks anew each time.")
    dropouts = (settings.dropout, settings.attention_dropout, settings.activation_dropout, settings.encoder_layerdrop)
    if config.apply_spec_augment or any(dropouts):
        raise OptionError(
            "--encoder_cache: with SpecAugment or dropout the encoder's output differs each time, it can't be kept.\n"
            "Leave out --apply_spec_augment, and set dropout to 0 in the model's config.json."
        )


def load_seq2seq(
    config: Settings, *, training_args: Any = None, corpus_language: str | None = None
) -> Seq2SeqRecogniser:
    """A trained folder or hub name as it is, for evaluation and transcription.

    Raises:
        OptionError, ModelError: as `seq2seq_for_training`.
    """
    source = source_of(config)
    if source is None:
        raise OptionError("A model from random weights can only be trained. Give --model_name_or_path.")
    check_family(load_config(source).model_type)
    parts = _load(config, source, None)
    return _recogniser(config, parts, training_args, corpus_language, training=False)


def _load(config: Settings, source: Source | None, model_config: Any) -> _Parts:
    import torch
    from transformers import AutoModelForSpeechSeq2Seq

    what = "sequence-to-sequence model"
    if source is None:
        model = AutoModelForSpeechSeq2Seq.from_config(model_config)
        if config.tokenizer_name_or_path is None:
            raise OptionError(
                "--model_config: a sequence-to-sequence model needs a tokenizer. Give --tokenizer_name_or_path."
            )
    else:
        options = {} if model_config is None else {"config": model_config}
        model = source.load(what, AutoModelForSpeechSeq2Seq.from_pretrained, dtype=torch.float32, **options)
    name = source.name if source else model.config.model_type
    tokenizer = given_tokenizer(config, source)
    extractor_source = source
    if config.feature_extractor_name:
        extractor_source = (source or Source("", token=config.token)).named(config.feature_extractor_name)
    if extractor_source is None and model.config.model_type == "whisper":
        from transformers import WhisperFeatureExtractor

        feature_extractor = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
    else:
        feature_extractor = feature_extractor_of(extractor_source, getattr(model.config, "encoder", model.config))
    parts = _Parts(name, model, tokenizer, feature_extractor)
    check_decoder(model, name)
    _check_vocabulary(parts, other_tokenizer=bool(config.tokenizer_name_or_path) and source is not None)
    return parts


def _check_vocabulary(parts: _Parts, *, other_tokenizer: bool) -> None:
    """The tokenizer's ids must exist in the model; another model's tokenizer must have just as many."""
    in_model = int(parts.model.get_output_embeddings().weight.shape[0])
    in_tokenizer = max(parts.tokenizer.get_vocab().values()) + 1
    if in_tokenizer > in_model or (other_tokenizer and in_tokenizer != in_model):
        raise ModelError(
            f"{parts.name}: the model writes {in_model} tokens, the tokenizer {parts.tokenizer.name_or_path or ''} has "
            f"{in_tokenizer}.\nGive the tokenizer that belongs to the model, or leave out --tokenizer_name_or_path."
        )
    if parts.tokenizer.eos_token_id is None:
        raise ModelError(f"{parts.name}: the tokenizer has no eos_token, so nothing says where a transcript ends.")


def _freeze_feature_encoder(model: Any) -> None:
    """The convolutions before the encoder, where the family has them apart (Whisper has not)."""
    encoder = model.get_encoder()
    for holder in (model, encoder):
        if hasattr(holder, "freeze_feature_encoder") and (
            holder is not model or hasattr(encoder, "freeze_feature_encoder")
        ):
            holder.freeze_feature_encoder()
            return


def _recogniser(
    config: Settings, parts: _Parts, training_args: Any, corpus_language: str | None, *, training: bool
) -> Seq2SeqRecogniser:
    model, tokenizer = parts.model, parts.tokenizer
    max_labels = max_labels_of(model.config)
    is_whisper = model.config.model_type == "whisper"
    if getattr(training_args, "generation_config", None) is not None:
        from transformers import Seq2SeqTrainer

        model.generation_config = Seq2SeqTrainer.load_generation_config(training_args.generation_config)
    _align_special_tokens(model, tokenizer)
    prompt_known = True
    if is_whisper:
        prompt_known = set_prompt(
            model,
            tokenizer,
            name=parts.name,
            language=config.language,
            corpus_language=corpus_language,
            task=config.task,
            training=training,
        )
    _set_generation(model, parts.name, training_args, max_labels)
    context = _context(config, model.config, training=training)
    model_input, training_input = inputs_of(
        parts.feature_extractor, model.config, context=context, padding=config.padding
    )
    if config.padding == "invariant":
        make_padding_invariant(model)
    if model.config.model_type == "speech-encoder-decoder":
        # The adapter's output is a transposed view, which the cross-attention of transformers' GPT-2 can't read.
        model.encoder.register_forward_hook(_contiguous)
    return Seq2SeqRecogniser(
        model,
        tokenizer=tokenizer,
        model_input=model_input,
        training_input=training_input,
        context=context,
        processor_class=FAMILIES[model.config.model_type],
        max_labels=max_labels,
        prompt_known=prompt_known,
    )


def _contiguous(module: Any, args: Any, output: Any) -> Any:
    output.last_hidden_state = output.last_hidden_state.contiguous()
    return output


def _context(config: Settings, model_config: Any, *, training: bool) -> EncoderContext | None:
    if model_config.model_type == "whisper":
        return chosen_context(config.encoder_context, model_config, training=training, force=config.force)
    if config.encoder_context is not None:
        raise OptionError("--encoder_context is for Whisper; this encoder reads as many frames as there are.")
    return None


def _align_special_tokens(model: Any, tokenizer: Any) -> None:
    """Generation starts, ends and pads with the tokens that training uses.

    A warm-started model's generation config has the decoder's own start (BART: </s>), its config the one that it is
    trained with (<s>): the text would begin with a token that was never seen there.
    """
    config, generation = model.config, model.generation_config
    if config.eos_token_id is None:
        config.eos_token_id = tokenizer.eos_token_id
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    for name in ("decoder_start_token_id", "eos_token_id", "pad_token_id"):
        if getattr(generation, name, None) != getattr(config, name):
            setattr(generation, name, getattr(config, name))


def _set_generation(model: Any, name: str, args: Any, max_labels: int | None) -> None:
    """Length and beams: the user's, else the checkpoint's, else ours.

    They are kept with the model, so that plain `generate` does the same.
    """
    generation = model.generation_config
    asked = getattr(args, "generation_max_length", None)
    if asked is not None:
        if max_labels is not None and asked > max_labels:
            raise OptionError(f"--generation_max_length {asked}: {name}'s decoder takes {max_labels} tokens.")
        generation.max_length = asked
    elif generation.max_length is None and generation.max_new_tokens is None:
        generation.max_length = min(max_labels or DEFAULT_MAX_LENGTH, DEFAULT_MAX_LENGTH)
    if getattr(args, "generation_num_beams", None) is not None:
        generation.num_beams = args.generation_num_beams
    try:
        generation.validate(strict=True)
    except ValueError as error:
        raise ModelError(
            f"{name}: generation_config.json contradicts itself, and transformers would refuse to save it: {error}"
        ) from error
