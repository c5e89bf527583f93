"""MMS attention adapters: a few layers and a head for each language, on a base that stays unchanged.

    OUT/adapter.tur.safetensors     Turkish adapters and head; plain transformers: `model.load_adapter("tur")`
    OUT/vocab.json                  {"tur": {...}, "swe": {...}}

Source: Pratap et al. 2023, "Scaling Speech Technology to 1,000+ Languages", section 4.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from speechtune.errors import ModelError
from speechtune.files import replacing
from speechtune.models.loading import Source, initialise
from speechtune.text.vocab import is_nested

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "adapter_file", "choose_adapter", "freeze_all_but_adapters", "language_vocabulary", "prepare_adapter_config",
    "save_adapter",
]  # fmt: skip

log = logging.getLogger("speechtune")

DEFAULT_WIDTH = 16  # of the adapters, where neither the user nor the checkpoint names one: that of MMS


def adapter_file(language: str) -> str:
    """Return the file name under which plain transformers looks for a language's adapters."""
    return f"adapter.{language}.safetensors"


def prepare_adapter_config(config: PreTrainedConfig, *, width: int | None) -> None:
    """Give the config attention adapters; `width` None keeps the checkpoint's own, or takes 16."""
    if not hasattr(config, "adapter_attn_dim"):
        raise ModelError(
            f"A {config.model_type} has no attention adapters; --target_language needs a wav2vec2 model "
            "such as facebook/mms-1b-all.\n"
            "Leave --target_language out to train the whole model."
        )
    config.adapter_attn_dim = width or config.adapter_attn_dim or DEFAULT_WIDTH


def language_vocabulary(
    tokenizer: PreTrainedTokenizerBase | None, language: str, vocabulary: Mapping[str, int], *, overwrite: bool
) -> dict[str, dict[str, int]]:
    """Return the vocabulary of all languages, `language` among them.

    Args:
        tokenizer: the one to extend (`--tokenizer_name_or_path`), or None to start with this language alone.
        vocabulary: of `language`, made from the training text.
        overwrite: replace the one that `tokenizer` has for `language`.
    """
    known = None if tokenizer is None else _nested_vocabulary(tokenizer)
    if tokenizer is not None and known is None:
        raise ModelError(
            f"{tokenizer.name_or_path}: its vocabulary is not nested by language, so {language!r} can't be added.\n"
            "Give the folder of an adapter run to --tokenizer_name_or_path, or leave it out."
        )
    languages = {name: dict(entry) for name, entry in (known or {}).items()}
    if overwrite or language not in languages:
        languages[language] = dict(vocabulary)
    else:  # the trained head belongs to it
        num_tokens = len(languages[language])
        log.info(f"tokenizer: keeps its {num_tokens} tokens for {language} (--overwrite_lang_vocab replaces them)")
    return languages


def choose_adapter(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, language: str, *, source: Source
) -> None:
    """Load the adapters, head and vocabulary of `--target_language` into a model and its tokenizer."""
    try:
        tokenizer.set_target_lang(language)
        model.load_adapter(language, token=source.token)
    except (ValueError, OSError, AttributeError, KeyError) as error:
        languages = ", ".join(sorted(_nested_vocabulary(tokenizer) or ())) or "none"
        raise ModelError(
            f"{source.name}: no adapters for --target_language {language}. Its languages: {languages}."
        ) from error


def _nested_vocabulary(tokenizer: PreTrainedTokenizerBase) -> dict[str, dict[str, int]] | None:
    vocabulary = getattr(tokenizer, "vocab", None)
    return vocabulary if isinstance(vocabulary, dict) and is_nested(vocabulary) else None


def freeze_all_but_adapters(model: PreTrainedModel) -> None:
    """Draw new random adapters and head, and freeze everything else.

    transformers' own `init_adapter_layers` changes nothing after `from_pretrained`.
    """
    initialise(model, [name.rpartition(".")[0] for name in model._get_adapters()])
    model.freeze_base_model()
    for parameter in model._get_adapters().values():
        parameter.requires_grad = True


def save_adapter(model: PreTrainedModel, language: str, folder: Path) -> Path:
    """Write the language's adapters and head beside the model."""
    from safetensors.torch import save

    path = folder / adapter_file(language)
    # `named_parameters` may carry a wrapper's prefix; transformers looks the names up on the bare model.
    weights = {name: parameter.detach().cpu().contiguous() for name, parameter in model._get_adapters().items()}
    with replacing(path) as file:
        file.write(save(weights, metadata={"format": "pt"}))
    return path
