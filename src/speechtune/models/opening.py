"""A trained folder or a hub name -> the recogniser for its kind of model."""

from __future__ import annotations

from typing import Any

from speechtune.models.loading import load_config, random_config
from speechtune.models.recogniser import Recogniser
from speechtune.options.table import Family, Settings

__all__ = ["family_of", "model_config_of", "open_recogniser"]


def model_config_of(config: Settings) -> Any:
    """The config of the model that the options name, or of one that starts from random weights."""
    from speechtune.models.ctc_setup import source_of

    source = source_of(config)
    if source is None:
        assert config.model_config is not None
        return random_config(config.model_config)
    return load_config(source.named(config.config_name) if config.config_name else source)


def family_of(model_config: Any) -> Family:
    """Whether a model is trained with CTC or as a sequence-to-sequence model."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES

    return "seq2seq" if model_config.model_type in MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES else "ctc"


def open_recogniser(config: Settings) -> Recogniser:
    """Load a model as it is, for evaluation and transcription.

    Raises:
        ModelError: it is not there, or can't recognise speech.
    """
    from speechtune.models.ctc_setup import load_ctc

    if family_of(model_config_of(config)) == "seq2seq":
        from speechtune.models.seq2seq_setup import load_seq2seq

        return load_seq2seq(config)
    return load_ctc(config)
