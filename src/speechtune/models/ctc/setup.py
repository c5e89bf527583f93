"""Build a CTC recogniser: from a checkpoint and a vocabulary for training, or from a trained folder as it is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from speechtune.errors import ModelError
from speechtune.models.ctc.adapter import choose_adapter, freeze_all_but_adapters, prepare_adapter_config
from speechtune.models.ctc.head import LABEL_LAYERS, find_head, start_from_prior
from speechtune.models.ctc.pieces import writes_letters
from speechtune.models.ctc.recogniser import CtcRecogniser
from speechtune.models.ctc.tokenizer import make_tokenizer, makes_vocabulary, report_missing
from speechtune.models.encoder.padding import make_padding_invariant
from speechtune.models.frames import encoder_config_of
from speechtune.models.inputs import input_for
from speechtune.models.loading import (
    Source,
    checkpoint_of,
    feature_extractor_of,
    given_tokenizer,
    initialise,
    load_config,
    random_model,
    source_of,
)
from speechtune.options.table import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor

__all__ = ["check_type", "ctc_for_training", "ctc_model", "load_ctc"]

log = logging.getLogger("speechtune")

# Settings that are written into the model's config, where it has such a field. "sum" or "mean" of ctc_loss_reduction
# is applied by the trainer, over the whole step; the config records it for whoever loads the model.
CONFIG_SETTINGS = (
    "feat_proj_dropout", "attention_dropout", "hidden_dropout", "final_dropout", "activation_dropout", "layerdrop",
    "mask_time_prob", "mask_time_length", "mask_feature_prob", "mask_feature_length",
    "ctc_loss_reduction", "ctc_zero_infinity", "add_adapter",
)  # fmt: skip


def ctc_for_training(
    settings: Settings,
    model_config: PreTrainedConfig,
    *,
    vocabulary_texts: Sequence[str],
    eval_texts: Sequence[str],
    folder: Path,
    where: str,
    raw_texts: Sequence[str] = (),
) -> CtcRecogniser:
    """Build a model whose head fits a vocabulary: the given tokenizer's, or one made from the training text.

    Args:
        model_config: of the checkpoint, already loaded; changed in place by the settings.
        vocabulary_texts: normalised texts that a vocabulary is made from, and a new head's first weights; empty for a
            stream.
        eval_texts: normalised; characters that the vocabulary lacks are reported.
        folder: output folder; a vocabulary made here is kept there.
        where: names the training text in messages.
        raw_texts: the training text before normalisation, to explain an empty vocabulary.

    Raises:
        TextError: the vocabulary would be empty.
        ModelError: tokenizer and head don't fit.
    """
    source, language = source_of(settings), settings.target_language
    check_type(model_config, source)
    is_made = makes_vocabulary(settings, model_config)
    tokenizer = (
        make_tokenizer(settings, vocabulary_texts, folder, where=where, raw_texts=raw_texts)
        if is_made
        else given_tokenizer(settings, source)
    )
    if language is not None:
        prepare_adapter_config(model_config, width=settings.adapter_attn_dim)
    report_missing(tokenizer, eval_texts, phones=settings.phones)
    _apply_settings(settings, model_config)
    feature_extractor = feature_extractor_of(source and source.named(settings.feature_extractor_name), model_config)
    model, is_new = ctc_model(source, model_config, tokenizer=tokenizer, head_may_change=is_made)
    if source and is_made and language is None and not is_new:
        is_new = _reset_foreign_head(source, model, tokenizer)
    if language is not None:
        freeze_all_but_adapters(model)
    elif settings.freeze_feature_encoder and hasattr(model, "freeze_feature_encoder"):
        model.freeze_feature_encoder()
    recogniser = _recogniser(settings, model, tokenizer, feature_extractor)
    recogniser.has_new_head = is_new or language is not None  # an adapter's is always new
    if recogniser.has_new_head:
        start_from_prior(find_head(model), vocabulary_texts, encode=recogniser.encode, blank=recogniser.blank)
    return recogniser


def load_ctc(settings: Settings) -> CtcRecogniser:
    """Load a trained folder or hub name as it is, for evaluation and transcription."""
    from transformers import AutoModelForCTC

    source = checkpoint_of(settings)
    check_type(load_config(source), source)
    tokenizer = given_tokenizer(settings, source)
    model = source.load("CTC model", AutoModelForCTC.from_pretrained)
    if settings.target_language is not None:
        choose_adapter(model, tokenizer, settings.target_language, source=source)
    return _recogniser(settings, model.float(), tokenizer, feature_extractor_of(source, model.config))


def check_type(config: PreTrainedConfig, source: Source | None) -> None:
    """Refuse a type without a CTC head, before anything is loaded.

    Raises:
        ModelError: transformers lists none.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CTC_MAPPING_NAMES

    if config.model_type not in MODEL_FOR_CTC_MAPPING_NAMES:
        raise ModelError(
            f"{source.name if source else config.model_type}: a {config.model_type} has no CTC head in transformers, "
            f"and is no other type that speechtune trains.\n"
            f"These have: {', '.join(sorted(MODEL_FOR_CTC_MAPPING_NAMES))}."
        )


def ctc_model(
    source: Source | None,
    config: PreTrainedConfig,
    *,
    tokenizer: PreTrainedTokenizerBase,
    head_may_change: bool,
) -> tuple[PreTrainedModel, bool]:
    """Build an AutoModelForCTC whose head fits the tokenizer, and return whether that head has random weights.

    Args:
        source: checkpoint, or None for random weights.
        head_may_change: the vocabulary was made for this run, so a head of another size is replaced; otherwise it is
            the user's mistake.
    """
    import torch
    from transformers import AutoModelForCTC

    num_labels = max(tokenizer.get_vocab().values()) + 1
    own_pieces = not head_may_change and not writes_letters(tokenizer)
    if own_pieces and num_labels <= config.vocab_size:
        num_labels = config.vocab_size  # Lasr's head has labels that no piece uses
    if _has_trained_head(config) and config.vocab_size != num_labels and not head_may_change:
        raise ModelError(
            f"{source.name if source else 'model'}: its head has {config.vocab_size} labels, the tokenizer "
            f"{tokenizer.name_or_path or ''} has {num_labels}.\n"
            "Leave out --tokenizer_name_or_path to train a new head on the corpus' own letters, or give the model's "
            "own tokenizer."
        )
    config.vocab_size = num_labels
    if not own_pieces or config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    if hasattr(encoder := encoder_config_of(config), "vocab_size"):  # Granite's encoder has a head too
        encoder.vocab_size = num_labels
    if source is None:
        return random_model(AutoModelForCTC, config), True
    # float32 whatever the checkpoint was saved in: mixed precision keeps its master weights so.
    model, loaded = source.load(
        "CTC model",
        AutoModelForCTC.from_pretrained,
        config=config,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        dtype=torch.float32,
    )
    not_loaded = [*loaded["missing_keys"], *(key[0] for key in loaded["mismatched_keys"])]
    return model, any(name.startswith(LABEL_LAYERS) for name in not_loaded)


def _apply_settings(settings: Settings, model_config: PreTrainedConfig) -> None:
    for config in (model_config, encoder_config_of(model_config)):
        for name in CONFIG_SETTINGS:
            if hasattr(config, name):
                setattr(config, name, getattr(settings, name))
    width = getattr(model_config, "hidden_size", None)
    length = settings.mask_feature_length
    if width is not None and settings.mask_feature_prob > 0 and length > width:
        log.warning(f"--mask_feature_length {length}: the model has {width} features; using {width}")
        model_config.mask_feature_length = width


def _has_trained_head(config: PreTrainedConfig) -> bool:
    return any("CTC" in name for name in config.architectures or ())


def _reset_foreign_head(source: Source, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Give the model a random head where its checkpoint's was trained for other letters, or nothing says for which.

    Returns:
        Whether it did.
    """
    from transformers import AutoTokenizer

    label_layers = [name for name, _ in model.named_modules() if name in LABEL_LAYERS]
    if not _has_trained_head(model.config) or not label_layers:
        return False
    try:
        trained_with = source.load("tokenizer", AutoTokenizer.from_pretrained).get_vocab()
    except ModelError:
        reason = "the checkpoint has no tokenizer that says which letters its head was trained for"
    else:
        if trained_with == tokenizer.get_vocab():
            return False
        reason = "the checkpoint's was trained for other letters"
    log.info(f"head: starts from random weights, since {reason}")
    initialise(model, label_layers)
    return True


def _recogniser(
    settings: Settings,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    feature_extractor: SequenceFeatureExtractor,
) -> CtcRecogniser:
    if settings.padding == "invariant":
        make_padding_invariant(model)
    return CtcRecogniser(
        model,
        tokenizer=tokenizer,
        model_input=input_for(feature_extractor, padding=settings.padding),
        phone_words=settings.phoneme_language is not None,
        loss_reduction=settings.ctc_loss_reduction,
        zero_infinity=settings.ctc_zero_infinity,
    )
