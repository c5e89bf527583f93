"""The tokenizer of a CTC model that is made for a run, from its training text."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechtune.models.ctc.adapter import language_vocabulary
from speechtune.models.loading import given_tokenizer
from speechtune.options.table import Settings
from speechtune.text.vocab import build_vocabulary, list_characters, missing_characters, save_vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Wav2Vec2CTCTokenizer

__all__ = ["ctc_tokenizer", "make_tokenizer", "report_missing"]

log = logging.getLogger("speechtune")


def make_tokenizer(
    settings: Settings, texts: Sequence[str], folder: Path, *, where: str, raw_texts: Sequence[str] = ()
) -> Wav2Vec2CTCTokenizer:
    """Make a tokenizer from texts; with --target_language, one of several languages that includes it.

    Args:
        texts: normalised.
        folder: output folder; vocab.json is kept there.
        where: names the texts in messages.
        raw_texts: the texts before normalisation, to explain an empty vocabulary.

    Raises:
        TextError: the vocabulary would be empty.
    """
    tokens = {
        "unk_token": settings.unk_token,
        "pad_token": settings.pad_token,
        "word_delimiter_token": settings.word_delimiter_token,
    }
    phones = settings.phones
    vocabulary = build_vocabulary(texts, phones=phones, where=where, raw_texts=raw_texts, **tokens)
    language = settings.target_language
    if language is None:
        log.info(f"vocabulary: {len(vocabulary)} tokens from the training text")
        return ctc_tokenizer(vocabulary, folder, phones=phones, **tokens)
    known = given_tokenizer(settings, None) if settings.tokenizer_name_or_path else None
    nested = language_vocabulary(known, language, vocabulary, overwrite=settings.overwrite_lang_vocab)
    log.info(f"vocabulary: {len(nested[language])} tokens for {language}; languages: {', '.join(nested)}")
    return ctc_tokenizer(nested, folder, phones=phones, target_lang=language, **tokens)


def ctc_tokenizer(
    vocabulary: Mapping[str, Any], folder: Path, *, phones: bool = False, **tokens: str
) -> Wav2Vec2CTCTokenizer:
    """Return a tokenizer of `vocabulary`, which is written to `folder`/vocab.json and stays there with the model.

    It adds no token of its own, so that ids end where the vocabulary does.
    """
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2PhonemeCTCTokenizer

    path = str(save_vocabulary(vocabulary, folder))
    if phones:
        return Wav2Vec2PhonemeCTCTokenizer(path, do_phonemize=False, bos_token=None, eos_token=None, **tokens)
    return Wav2Vec2CTCTokenizer(path, do_lower_case=False, bos_token=None, eos_token=None, **tokens)


def report_missing(tokenizer: PreTrainedTokenizerBase, eval_texts: Sequence[str], *, phones: bool) -> None:
    """Warn of characters in the evaluation text that the model can't write."""
    missing = missing_characters(
        tokenizer.get_vocab(), eval_texts, word_delimiter_token=tokenizer.word_delimiter_token, phones=phones
    )
    if not missing:
        return
    what = f"{len(missing)} characters are not in the vocabulary, so always wrong"
    log.warning(f"evaluation text: {what}: {list_characters(missing, 5)}")
