"""Whether a model writes capital and small letters: then its transcripts keep their case by default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechtune.models.ctc.tokenizer import makes_vocabulary
from speechtune.models.loading import given_tokenizer, source_of
from speechtune.options.table import Family, Settings

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

__all__ = ["tells_case", "writes_case"]

LETTERS = ("Aa", "Жж", "Ωω")  # of alphabets that have case


def writes_case(settings: Settings, model_config: PreTrainedConfig, family: Family) -> bool:
    """Return whether a checkpoint comes with a tokenizer that tells capital letters from small ones.

    Raises:
        ModelError: the tokenizer can't be loaded.
    """
    if model_config.model_type == "whisper":
        return True
    if family == "ctc" and makes_vocabulary(settings, model_config):
        return False
    if not (settings.tokenizer_name_or_path or settings.model_name_or_path):
        return False
    return tells_case(given_tokenizer(settings, source_of(settings)))


def tells_case(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether a tokenizer has capital and small letters of an alphabet, with ids of their own."""
    for pair in LETTERS:
        capital, small = (tokenizer(letter, add_special_tokens=False).input_ids for letter in pair)
        if capital and small and capital != small and tokenizer.unk_token_id not in (*capital, *small):
            return True
    return False
