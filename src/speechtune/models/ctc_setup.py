"""Vocabulary, head and config of a CTC run: what is made anew and what the checkpoint brings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechtune.errors import ModelError, OptionError
from speechtune.models.adapter import freeze_all_but_adapters, language_vocabulary, prepare_adapter_config
from speechtune.models.ctc import CtcRecogniser
from speechtune.models.inputs import input_for
from speechtune.models.loading import (
    CTC_OPTIONS,
    Source,
    ctc_model,
    ctc_tokenizer,
    feature_extractor_of,
    initialise,
)
from speechtune.models.padding import make_padding_invariant
from speechtune.options.table import Settings
from speechtune.text.vocab import build_vocabulary, is_nested, missing_characters, name_character

__all__ = ["ctc_for_training", "load_ctc", "source_of"]

log = logging.getLogger("speechtune")


def source_of(config: Settings) -> Source | None:
    """The checkpoint that training starts from; None for random weights."""
    if config.model_config is not None:
        return None
    return Source(
        config.model_name_or_path,
        cache_dir=config.cache_dir,
        revision=config.model_revision,
        token=config.token,
        trust_remote_code=config.trust_remote_code,
    )


def ctc_for_training(
    config: Settings,
    model_config: Any,
    *,
    vocabulary_texts: Sequence[str],
    eval_texts: Sequence[str],
    folder: Path,
    where: str,
    raw_texts: Sequence[str] = (),
) -> CtcRecogniser:
    """Build a model whose head fits a vocabulary: the given tokenizer's, or one made from the training text.

    Args:
        model_config: of the checkpoint, already loaded.
        vocabulary_texts: normalised texts that a vocabulary is made from.
        eval_texts: normalised; characters that the vocabulary lacks are reported.
        folder: output folder; a vocabulary made here is kept there.
        where: names the training text in messages.
        raw_texts: the training text before normalisation, to explain an empty vocabulary.

    Raises:
        TextError: the vocabulary would be empty.
        ModelError: tokenizer and head don't fit.
    """
    source = source_of(config)
    language = config.target_language
    made_here = config.tokenizer_name_or_path is None or language is not None
    phones = config.phones
    if made_here:
        tokenizer = _make_tokenizer(config, vocabulary_texts, folder, where=where, raw_texts=raw_texts, phones=phones)
    else:
        tokenizer = given_tokenizer(config, source)
    if language is not None:
        prepare_adapter_config(model_config, width=config.adapter_attn_dim)
    _report_missing(tokenizer, eval_texts, phones=phones)
    for name in CTC_OPTIONS:
        # "sum" or "mean" is done by the trainer, over the whole step; the config keeps the user's word for it.
        if hasattr(model_config, name):
            setattr(model_config, name, getattr(config, name))
    width = getattr(model_config, "hidden_size", None)
    if width is not None and config.mask_feature_prob > 0 and config.mask_feature_length > width:
        log.warning(f"--mask_feature_length {config.mask_feature_length}: the model has {width} features; taking those")
        model_config.mask_feature_length = width
    extractor_source = (
        source.named(config.feature_extractor_name) if source and config.feature_extractor_name else source
    )
    feature_extractor = feature_extractor_of(extractor_source, model_config)
    model = ctc_model(source, model_config, tokenizer=tokenizer, head_may_change=made_here)
    if source and made_here and language is None:
        reason = _why_head_is_useless(source, model, tokenizer)
        if reason:
            log.info(f"head: starts anew, since {reason}")
            initialise(model, ["lm_head"])
    if language is not None:
        freeze_all_but_adapters(model)
    elif config.freeze_feature_encoder and hasattr(model, "freeze_feature_encoder"):
        model.freeze_feature_encoder()
    return _recogniser(config, model, tokenizer, feature_extractor)


def load_ctc(config: Settings) -> CtcRecogniser:
    """A trained folder or hub name as it is, for evaluation and transcription."""
    from transformers import AutoModelForCTC

    source = source_of(config)
    if source is None:
        raise OptionError("A model from random weights can only be trained. Give --model_name_or_path.")
    tokenizer = given_tokenizer(config, source)
    model = source.load("CTC model", AutoModelForCTC.from_pretrained)
    if config.target_language is not None:
        _choose_adapter(model, tokenizer, config)
    return _recogniser(config, model.float(), tokenizer, feature_extractor_of(source, model.config))


def _choose_adapter(model: Any, tokenizer: Any, config: Settings) -> None:
    """The adapters, head and vocabulary of `--target_language`."""
    language = str(config.target_language)
    try:
        tokenizer.set_target_lang(language)
        model.load_adapter(language, token=config.token)
    except (ValueError, OSError, AttributeError, KeyError) as error:
        known = getattr(tokenizer, "vocab", None)
        languages = ", ".join(sorted(known)) if isinstance(known, dict) and is_nested(known) else "none"
        raise ModelError(
            f"{config.model_name_or_path}: no adapters for --target_language {language}. Its languages: {languages}."
        ) from error


def _why_head_is_useless(source: Source, model: Any, tokenizer: Any) -> str:
    """Why a checkpoint's trained head doesn't stand for this vocabulary; empty where it does, or it has none."""
    from transformers import AutoTokenizer

    had_head = any("CTC" in name for name in model.config.architectures or ())
    if not had_head or not hasattr(model, "lm_head"):
        return ""
    try:
        before = source.load("tokenizer", AutoTokenizer.from_pretrained)
    except ModelError:
        return "nothing says which letters the checkpoint's stands for: its tokenizer can't be had"
    return "" if before.get_vocab() == tokenizer.get_vocab() else "the checkpoint's stands for other letters"


def given_tokenizer(config: Settings, source: Source | None) -> Any:
    """The tokenizer that the user or the checkpoint names."""
    from transformers import AutoTokenizer

    name = config.tokenizer_name_or_path or config.model_name_or_path
    hub = source or Source(name, token=config.token, cache_dir=config.cache_dir)
    return hub.named(name).load("tokenizer", AutoTokenizer.from_pretrained)


def _recogniser(config: Settings, model: Any, tokenizer: Any, feature_extractor: Any) -> CtcRecogniser:
    if config.padding == "invariant":
        make_padding_invariant(model)
    return CtcRecogniser(
        model,
        tokenizer=tokenizer,
        model_input=input_for(feature_extractor, padding=config.padding),
        phone_words=config.phoneme_language is not None,
        loss_reduction=config.ctc_loss_reduction,
        zero_infinity=config.ctc_zero_infinity,
    )


def _make_tokenizer(
    config: Settings, texts: Sequence[str], folder: Path, *, where: str, raw_texts: Sequence[str], phones: bool
) -> Any:
    tokens = {
        "unk_token": config.unk_token,
        "pad_token": config.pad_token,
        "word_delimiter_token": config.word_delimiter_token,
    }
    vocabulary = build_vocabulary(texts, phones=phones, where=where, raw_texts=raw_texts, **tokens)
    language = config.target_language
    if language is None:
        log.info(f"vocabulary: {len(vocabulary)} tokens from the training text")
        return ctc_tokenizer(vocabulary, folder, phones=phones, **tokens)
    known = given_tokenizer(config, None) if config.tokenizer_name_or_path else None
    nested = language_vocabulary(known, language, vocabulary, overwrite=config.overwrite_lang_vocab)
    log.info(f"vocabulary: {len(nested[language])} tokens for {language}; languages: {', '.join(nested)}")
    return ctc_tokenizer(nested, folder, phones=phones, target_lang=language, **tokens)


def _report_missing(tokenizer: Any, eval_texts: Sequence[str], *, phones: bool) -> None:
    missing = missing_characters(
        tokenizer.get_vocab(), eval_texts, word_delimiter_token=tokenizer.word_delimiter_token, phones=phones
    )
    if not missing:
        return
    shown = ", ".join(f"{name_character(token)} x{count}" for token, count in missing.most_common(5))
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    log.warning(f"evaluation text has {len(missing)} characters that the vocabulary lacks, always wrong: {shown}{more}")
