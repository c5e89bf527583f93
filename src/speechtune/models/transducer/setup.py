"""Build a TransducerRecogniser from a checkpoint; it keeps its own pieces of words."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from speechtune.errors import ModelError, OptionError
from speechtune.models.ctc.tokenizer import report_missing
from speechtune.models.encoder.padding import make_padding_invariant
from speechtune.models.inputs import input_for
from speechtune.models.loading import checkpoint_of, load_config
from speechtune.models.transducer.recogniser import TransducerRecogniser
from speechtune.options.table import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel, ProcessorMixin

__all__ = ["load_transducer", "transducer_class", "transducer_for_training"]

log = logging.getLogger("speechtune")


def transducer_class(model_type: str) -> Any:
    """Return the auto class of transformers that loads a transducer of this type."""
    from transformers import AutoModelForRNNT, AutoModelForTDT
    from transformers.models.auto.modeling_auto import MODEL_FOR_TDT_MAPPING_NAMES

    return AutoModelForTDT if model_type in MODEL_FOR_TDT_MAPPING_NAMES else AutoModelForRNNT


def transducer_for_training(
    settings: Settings, *, eval_texts: Sequence[str], language: str | None = None
) -> TransducerRecogniser:
    """Make a checkpoint ready to train.

    Args:
        eval_texts: normalised; characters that no piece has are reported.
        language: of the transcripts, as its short code.

    Raises:
        OptionError: there is no checkpoint, so no pieces.
        ModelError: it can't be loaded.
    """
    if settings.model_config is not None or settings.tokenizer_name_or_path is not None:
        name = "model_config" if settings.model_config is not None else "tokenizer_name_or_path"
        raise OptionError(
            f"--{name} with a transducer: it is trained from a checkpoint, whose tokenizer it keeps.\n"
            "Leave it out, and give --model_name_or_path."
        )
    recogniser = load_transducer(settings, language=language)
    report_missing(recogniser.tokenizer, eval_texts, phones=False)
    if recogniser.prompt_id is not None:  # the trained model's, where no language is given
        recogniser.model.config.default_prompt_id = recogniser.prompt_id
    return recogniser


def load_transducer(settings: Settings, *, language: str | None = None) -> TransducerRecogniser:
    """Load a trained folder or hub name as it is."""
    import torch
    from transformers import AutoProcessor

    source = checkpoint_of(settings)
    config = load_config(source)
    processor: Any = source.load("processor (processor_config.json)", AutoProcessor.from_pretrained)
    if not hasattr(processor, "tokenizer") or not hasattr(processor, "feature_extractor"):
        raise ModelError(
            f"{source.name}: no processor with tokenizer and feature extractor, as `save_pretrained` writes."
        )
    model = source.load("transducer", transducer_class(config.model_type).from_pretrained, dtype=torch.float32)
    _complete_generation(model)
    if settings.padding == "invariant":
        make_padding_invariant(model)
    return TransducerRecogniser(
        model,
        processor=processor,
        model_input=input_for(processor.feature_extractor, padding=settings.padding),
        prompt_id=_prompt_id(processor, settings.language or language, default=getattr(config, "default_prompt_id", 0)),
    )


def _complete_generation(model: PreTrainedModel) -> None:
    """Set what `generate` needs, where a checkpoint's generation_config.json lacks it; it is saved with the model.

    A TDT model's logits are those of tokens and of durations, and `generate` takes the largest of all.
    """
    config, generation = model.config, model.generation_config
    if generation.decoder_start_token_id is None:
        generation.decoder_start_token_id = config.blank_token_id
    durations = range(config.vocab_size, config.vocab_size + len(getattr(config, "durations", ())))
    missing = set(durations) - set(generation.suppress_tokens or ())
    if missing:
        generation.suppress_tokens = sorted(missing | set(generation.suppress_tokens or ()))


def _prompt_id(processor: ProcessorMixin, language: str | None, *, default: int) -> int | None:
    """Return the number of a language in the model's list of prompts; None for a model without."""
    prompts: dict[str, int] | None = getattr(processor, "prompt_dictionary", None)
    if prompts is None or not language:
        return None if prompts is None else default
    kin = (number for name, number in prompts.items() if name.split("-")[0] == language.split("-")[0])
    number = prompts.get(language, next(kin, None))
    if number is None:
        log.warning(f"language {language}: the model has no prompt for it; it is to detect the language")
    return default if number is None else number
