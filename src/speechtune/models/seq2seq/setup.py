"""Build a Seq2SeqRecogniser from a checkpoint and the user's settings; refuse what can't work with a message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from speechtune.errors import ModelError, OptionError
from speechtune.models.encoder.padding import make_padding_invariant
from speechtune.models.loading import (
    Source,
    checkpoint_of,
    feature_extractor_of,
    given_tokenizer,
    load_config,
    random_model,
    source_of,
)
from speechtune.models.seq2seq.audio_prompt import AUDIO_PROMPTED
from speechtune.models.seq2seq.audio_setup import audio_prompt_recogniser
from speechtune.models.seq2seq.families import FAMILIES, check_decoder, check_family, inputs_of, max_labels_of
from speechtune.models.seq2seq.generation import set_beams
from speechtune.models.seq2seq.prompted import PROMPTED, decoder_prompt, processor_of
from speechtune.models.seq2seq.recogniser import Seq2SeqRecogniser
from speechtune.models.whisper.context import EncoderContext, choose_context, remember_context
from speechtune.models.whisper.prompt import set_prompt
from speechtune.options.table import Settings
from speechtune.text.languages import language_of

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, Seq2SeqTrainingArguments
    from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor

__all__ = ["load_seq2seq", "seq2seq_for_training"]

DEFAULT_MAX_LENGTH = 448  # of generated tokens, where neither user nor checkpoint says; transformers' own would be 20


@dataclass(frozen=True)
class _Parts:
    """Parts of a checkpoint."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    feature_extractor: SequenceFeatureExtractor
    processor: Any = None  # of a model with a prompt of its own


def seq2seq_for_training(
    settings: Settings,
    model_config: PreTrainedConfig,
    *,
    training_args: Seq2SeqTrainingArguments | None = None,
    corpus_language: str | None = None,
) -> Seq2SeqRecogniser:
    """Make a checkpoint (or random weights) ready to train.

    Args:
        model_config: of the checkpoint, already loaded; changed in place by the settings.
        training_args: their options for generation are saved with the model.
        corpus_language: from the corpus; `--language` wins.

    Raises:
        OptionError: an option doesn't fit the model.
        ModelError: the model can't be trained as it is.
    """
    check_family(model_config.model_type)
    if model_config.model_type in AUDIO_PROMPTED:
        prompted = audio_prompt_recogniser(
            settings, model_config, training_args=training_args, corpus_language=corpus_language, training=True
        )
        prompted.label_smoothing = float(getattr(training_args, "label_smoothing_factor", 0.0))
        return prompted
    if model_config.model_type == "whisper":
        model_config.apply_spec_augment = settings.apply_spec_augment
    elif settings.apply_spec_augment:
        raise OptionError("--apply_spec_augment is for Whisper; for other encoders set mask_time_prob in config.json.")
    parts = _load(settings, source_of(settings), model_config)
    if settings.freeze_feature_encoder:
        _freeze_feature_encoder(parts.model)
    if settings.freeze_encoder:
        parts.model.get_encoder().requires_grad_(False)
    recogniser = _recogniser(settings, parts, training_args, corpus_language, training=True)
    _check_encoder_options(settings, recogniser, is_sharded=bool(getattr(training_args, "fsdp", None)))
    recogniser.label_smoothing = float(getattr(training_args, "label_smoothing_factor", 0.0))
    if recogniser.context is not None:
        remember_context(parts.model.config, recogniser.context)
    return recogniser


def load_seq2seq(
    settings: Settings,
    *,
    training_args: Seq2SeqTrainingArguments | None = None,
    corpus_language: str | None = None,
) -> Seq2SeqRecogniser:
    """Load a trained folder or hub name as it is, for evaluation and transcription.

    Raises:
        OptionError, ModelError: as `seq2seq_for_training`.
    """
    source = checkpoint_of(settings)
    config = load_config(source)
    check_family(config.model_type)
    if config.model_type in AUDIO_PROMPTED:
        return audio_prompt_recogniser(
            settings, config, training_args=training_args, corpus_language=corpus_language, training=False
        )
    return _recogniser(settings, _load(settings, source, None), training_args, corpus_language, training=False)


def _check_encoder_options(settings: Settings, recogniser: Seq2SeqRecogniser, *, is_sharded: bool) -> None:
    """Check the options that run the encoder outside the model's own forward."""
    margin_s = recogniser.context.margin_s if recogniser.context is not None else None
    if is_sharded and (margin_s is not None or settings.encoder_cache):
        raise OptionError(
            f"--{'encoder_cache' if settings.encoder_cache else 'encoder_context'} with --fsdp: sharded weights are "
            "whole only inside the model's own forward.\nLeave one of them out."
        )
    if not settings.encoder_cache:
        return
    config = recogniser.model.config
    if not settings.freeze_encoder:
        raise OptionError("--encoder_cache: the encoder is trained, so its output changes. Give --freeze_encoder too.")
    if recogniser.context is None:
        raise OptionError("--encoder_cache is for Whisper: other encoders draw dropout and masks again each time.")
    dropouts = (config.dropout, config.attention_dropout, config.activation_dropout, config.encoder_layerdrop)
    if settings.apply_spec_augment or any(dropouts):
        raise OptionError(
            "--encoder_cache: with SpecAugment or dropout the encoder's output differs each time.\n"
            "Leave out --apply_spec_augment, and set dropout to 0 in the model's config.json."
        )


def _load(settings: Settings, source: Source | None, model_config: PreTrainedConfig | None) -> _Parts:
    import torch
    from transformers import AutoModelForSpeechSeq2Seq, WhisperFeatureExtractor

    if source is None:
        assert model_config is not None
        if settings.tokenizer_name_or_path is None:
            raise OptionError(
                "--model_config: a sequence-to-sequence model needs a tokenizer. Give --tokenizer_name_or_path."
            )
        model = random_model(AutoModelForSpeechSeq2Seq, model_config)
    else:
        options = {} if model_config is None else {"config": model_config}
        loader = AutoModelForSpeechSeq2Seq.from_pretrained
        model = source.load("sequence-to-sequence model", loader, dtype=torch.float32, **options)
    name = source.name if source else model.config.model_type
    if model.config.model_type in PROMPTED:
        if source is None or settings.tokenizer_name_or_path or settings.feature_extractor_name:
            raise OptionError(
                f"{model.config.model_type} models are trained from a checkpoint, with its own tokenizer and feature "
                "extractor.\nLeave out --model_config, --tokenizer_name_or_path and --feature_extractor_name."
            )
        processor = processor_of(source)
        return _Parts(name, model, processor.tokenizer, processor.feature_extractor, processor)
    extractor_source = source
    if settings.feature_extractor_name:
        extractor_source = (source or Source("", token=settings.token)).named(settings.feature_extractor_name)
    if extractor_source is None and model.config.model_type == "whisper":
        feature_extractor = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
    else:
        feature_extractor = feature_extractor_of(extractor_source, getattr(model.config, "encoder", model.config))
    parts = _Parts(name, model, given_tokenizer(settings, source), feature_extractor)
    check_decoder(model, name)
    _check_vocabulary(parts, other_tokenizer=bool(settings.tokenizer_name_or_path) and source is not None)
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
        raise ModelError(f"{parts.name}: the tokenizer has no eos_token to end a transcript with.")


def _freeze_feature_encoder(model: PreTrainedModel) -> None:
    """Freeze the convolutions before the encoder, in families that have them (Whisper has not)."""
    encoder = model.get_encoder()
    if hasattr(encoder, "freeze_feature_encoder"):
        (model if hasattr(model, "freeze_feature_encoder") else encoder).freeze_feature_encoder()


def _recogniser(
    settings: Settings,
    parts: _Parts,
    training_args: Seq2SeqTrainingArguments | None,
    corpus_language: str | None,
    *,
    training: bool,
) -> Seq2SeqRecogniser:
    model, tokenizer = parts.model, parts.tokenizer
    generation_config = getattr(training_args, "generation_config", None)
    if generation_config is not None:
        from transformers import Seq2SeqTrainer

        model.generation_config = Seq2SeqTrainer.load_generation_config(generation_config)
    prompt: list[int] = []
    if parts.processor is not None:
        language = language_of(settings.language) or language_of(corpus_language)
        prompt = decoder_prompt(parts.processor, name=parts.name, language=language)
        if model.config.decoder_start_token_id is None:
            model.config.decoder_start_token_id = prompt[0]
    _align_special_tokens(model, tokenizer)
    prompt_known = True
    if model.config.model_type == "whisper":
        prompt_known = set_prompt(
            model,
            tokenizer,
            name=parts.name,
            language=settings.language,
            corpus_language=corpus_language,
            task=settings.task,
            training=training,
        )
    max_labels = max_labels_of(model.config)
    if max_labels is not None and prompt:
        max_labels -= len(prompt) - 1
    _set_generation(model, parts.name, training_args, max_labels)
    context = _context(settings, model.config, training=training)
    model_input, training_input = inputs_of(
        parts.feature_extractor, model.config, context=context, padding=settings.padding
    )
    if settings.padding == "invariant":
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
        prompt=prompt,
        processor=parts.processor,
    )


def _contiguous(module: nn.Module, args: Any, output: Any) -> Any:
    output.last_hidden_state = output.last_hidden_state.contiguous()
    return output


def _context(settings: Settings, model_config: PreTrainedConfig, *, training: bool) -> EncoderContext | None:
    if model_config.model_type == "whisper":
        return choose_context(settings.encoder_context, model_config, training=training, force=settings.force)
    if settings.encoder_context is not None:
        raise OptionError("--encoder_context is for Whisper; this encoder reads a clip's own frames only.")
    return None


def _align_special_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make generation start, end and pad with the tokens that training uses.

    The generation config of a warm-started model has the decoder's own start (BART: </s>), its config the one that it
    is trained with (<s>): the text would begin with a token that was never seen there.
    """
    config, generation = model.config, model.generation_config
    if config.eos_token_id is None:
        config.eos_token_id = tokenizer.eos_token_id
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    for name in ("decoder_start_token_id", "eos_token_id", "pad_token_id"):
        if getattr(generation, name, None) != getattr(config, name):
            setattr(generation, name, getattr(config, name))


def _set_generation(
    model: PreTrainedModel, name: str, args: Seq2SeqTrainingArguments | None, max_labels: int | None
) -> None:
    """Set length and beams: the user's, else the checkpoint's, else ours.

    They are saved with the model, so that plain `generate` does the same.
    """
    generation = model.generation_config
    max_length = getattr(args, "generation_max_length", None)
    if max_length is not None:
        if max_labels is not None and max_length > max_labels:
            raise OptionError(f"--generation_max_length {max_length}: {name}'s decoder takes {max_labels} tokens.")
        generation.max_length = max_length
    elif generation.max_length is None and generation.max_new_tokens is None:
        generation.max_length = min(max_labels or DEFAULT_MAX_LENGTH, DEFAULT_MAX_LENGTH)
    set_beams(generation, name, args)
