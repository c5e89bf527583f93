"""MMS attention adapters: a few layers a language and its head, on a base that stays as it is.

    OUT/adapter.tur.safetensors     Turkish adapters and head; plain transformers: `model.load_adapter("tur")`
    OUT/vocab.json                  {"tur": {...}, "swe": {...}}

Source: Pratap et al. 2023, "Scaling Speech Technology to 1,000+ Languages", section 4.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechtune.errors import ModelError
from speechtune.models.loading import initialise
from speechtune.text.vocab import extend_vocabulary, is_nested

__all__ = ["adapter_file", "freeze_all_but_adapters", "language_vocabulary", "prepare_adapter_config", "save_adapter"]

log = logging.getLogger("speechtune")

DEFAULT_WIDTH = 16  # of the adapters, where neither the user nor the checkpoint names one: that of MMS


def adapter_file(language: str) -> str:
    """The name under which plain transformers looks for a language's adapters."""
    return f"adapter.{language}.safetensors"


def prepare_adapter_config(config: Any, *, width: int | None) -> None:
    """Give the config attention adapters; `width` None keeps the checkpoint's own, else takes DEFAULT_WIDTH."""
    if not hasattr(config, "adapter_attn_dim"):
        raise ModelError(
            f"A {config.model_type} has no attention adapters; --target_language needs a wav2vec2 model "
            "such as facebook/mms-1b-all.\n"
            "Leave --target_language out to train the whole model."
        )
    config.adapter_attn_dim = width or config.adapter_attn_dim or DEFAULT_WIDTH


def language_vocabulary(
    tokenizer: Any | None, language: str, vocabulary: Mapping[str, int], *, overwrite: bool
) -> dict[str, dict[str, int]]:
    """The vocabulary of all languages with `language` in it.

    Args:
        tokenizer: the one to extend (`--tokenizer_name_or_path`), or None to begin anew.
        vocabulary: of `language`, made from the training text.
        overwrite: replace the one that `tokenizer` has for `language`.
    """
    known = None
    if tokenizer is not None:
        nested = getattr(tokenizer, "vocab", None)
        known = nested if isinstance(nested, Mapping) and is_nested(nested) else None
        if known is None:
            raise ModelError(
                f"{tokenizer.name_or_path}: its vocabulary is not nested by language, so {language!r} can't be added.\n"
                "Give the folder of an adapter run to --tokenizer_name_or_path, or leave it out."
            )
        if language in known and not overwrite:
            log.info(
                f"tokenizer: keeps its {len(known[language])} tokens for {language} (--overwrite_lang_vocab makes "
                "new ones)"
            )
    return extend_vocabulary(known, language, vocabulary, overwrite=overwrite)


def freeze_all_but_adapters(model: Any) -> None:
    """New random adapters and head; they learn, all else is frozen.

    transformers' own `init_adapter_layers` changes nothing after `from_pretrained`.
    """
    initialise(model, [name.rpartition(".")[0] for name in model._get_adapters()])
    model.freeze_base_model()
    for parameter in model._get_adapters().values():
        parameter.requires_grad = True


def save_adapter(model: Any, language: str, folder: Path) -> Path:
    """Write the language's adapters and head beside the model."""
    from safetensors.torch import save_file

    path = folder / adapter_file(language)
    aside = path.with_suffix(".tmp")
    # `named_parameters` may carry a wrapper's prefix; transformers looks the names up on the bare model.
    weights = {name: parameter.detach().cpu().contiguous() for name, parameter in model._get_adapters().items()}
    save_file(weights, str(aside), metadata={"format": "pt"})
    aside.replace(path)
    return path
