"""`speechtune warmstart`: join a pretrained speech encoder and a pretrained text decoder into one model to train.

This is the README's Python snippet with its settings. The files equal the snippet's on the same transformers and seed,
with two differences. generation_config.json has the snippet's `max_length`, `num_beams` and start token: today's
transformers drops the first two silently, and uses the decoder's own start token (BART: </s>) instead of the snippet's
(<s>). And the decoder's word embeddings are the checkpoint's: transformers draws random ones where a checkpoint holds
them once for encoder and decoder.

Source: README of the speech-recognition examples of transformers, "Warm-Started Speech-Encoder-Decoder Model".
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechtune.errors import ModelError, OutputError
from speechtune.models.loading import Source, feature_extractor_of, load_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["run"]

log = logging.getLogger("speechtune")

ENCODER_SETTINGS = {"add_adapter": True, "feat_proj_dropout": 0.0, "layerdrop": 0.0}  # of the encoder's config


def run(
    encoder: str,
    decoder: str,
    output_dir: Path,
    *,
    max_length: int = 200,
    num_beams: int = 5,
    seed: int = 42,
    token: str | None = None,
    cache_dir: str | None = None,
) -> int:
    """Write model, tokenizer and feature extractor to `output_dir`.

    Args:
        encoder: folder or hub name of a speech encoder (wav2vec2, hubert, ...).
        decoder: folder or hub name of a text model (BART, GPT-2, ...).
        max_length: tokens generated at most.
        num_beams: of the search.
        seed: of the random weights: cross-attention and adapter.

    Raises:
        ModelError: one of them isn't there, or can't be used so.
        OutputError: the folder holds a model already.
    """
    from transformers import set_seed

    if (output_dir / "config.json").exists():
        raise OutputError(f"{output_dir}: holds a model already.\nGive another --output_dir, or remove it.")
    hub = Source(encoder, token=token, cache_dir=cache_dir)
    text_model = hub.named(decoder)
    _check_decoder(text_model)
    set_seed(seed)
    model = _joined(hub, text_model)
    config, text_config = model.config, model.decoder.config
    start = text_config.bos_token_id
    if start is None:
        raise ModelError(f"{decoder}: its config has no bos_token_id to start a transcript with.\nUse another decoder.")
    config.decoder_start_token_id = start
    config.pad_token_id = text_config.pad_token_id
    config.eos_token_id = text_config.eos_token_id
    model.generation_config.update(decoder_start_token_id=start, max_length=max_length, num_beams=num_beams)
    _save(model, hub, text_model, output_dir)
    log.info(
        f"{output_dir}: {model.num_parameters() / 1e6:.1f} M parameters; cross-attention and adapter are random: "
        "train it next"
    )
    return 0


def _check_decoder(text_model: Source) -> None:
    """Check, before anything large is loaded, that a decoder takes an encoder's output."""
    import inspect

    from transformers import AutoModelForCausalLM

    config = load_config(text_model)
    model_class = AutoModelForCausalLM._model_mapping.get(type(config), None)
    if model_class is None:
        raise ModelError(
            f"{text_model.name}: a {config.model_type} writes no text.\n"
            "Use a decoder such as facebook/bart-base or gpt2."
        )
    if "encoder_hidden_states" not in inspect.signature(model_class.forward).parameters:
        raise ModelError(
            f"{text_model.name}: a {config.model_type} decoder has no cross-attention: it would ignore the audio.\n"
            "Use one that can have it, such as facebook/bart-base or gpt2."
        )


def _joined(hub: Source, text_model: Source) -> PreTrainedModel:
    from transformers import SpeechEncoderDecoderModel

    has_settings = {name: value for name, value in ENCODER_SETTINGS.items() if hasattr(load_config(hub), name)}
    decoder_config = load_config(text_model)
    # Set here because transformers 5.23 looks for `is_decoder` in GPT-2's config, which no longer has it.
    decoder_config.is_decoder = decoder_config.add_cross_attention = True
    hub_options = {
        f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in hub.hub_options.items()
    }

    def join(name: str, **_: Any) -> Any:
        return SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(
            name,
            text_model.name,
            **{f"encoder_{key}": value for key, value in has_settings.items()},
            decoder_config=decoder_config,
            **hub_options,
        )

    model = hub.load("speech encoder", join)
    if decoder_config.is_encoder_decoder or load_config(text_model).is_encoder_decoder:
        _share_embeddings(model, text_model)
    return model


def _share_embeddings(model: PreTrainedModel, text_model: Source) -> None:
    """Give the decoder half of BART and its kin the checkpoint's word embeddings.

    Where a checkpoint holds them once, as `shared.weight`, transformers gives a decoder without encoder random ones.
    """
    import torch
    from transformers import AutoModel

    whole = text_model.load("text model", AutoModel.from_pretrained)
    with torch.no_grad():
        model.decoder.get_input_embeddings().weight.copy_(whole.get_input_embeddings().weight)


def _save(model: PreTrainedModel, hub: Source, text_model: Source, output_dir: Path) -> None:
    from transformers import AutoTokenizer, Wav2Vec2Processor

    feature_extractor = feature_extractor_of(hub, model.config.encoder)
    tokenizer = text_model.load("tokenizer", AutoTokenizer.from_pretrained)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(output_dir)
        Wav2Vec2Processor(feature_extractor, tokenizer).save_pretrained(output_dir)
    except OSError as error:
        raise OutputError(f"{output_dir}: can't be written: {error}") from error
