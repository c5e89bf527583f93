"""The tokenizer of a CTC model that is made for a run, from its training text."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechtune.errors import OptionError
from speechtune.models.ctc.adapter import language_vocabulary
from speechtune.models.ctc.pieces import learn_pieces, unwritable_characters, writes_letters
from speechtune.models.loading import given_tokenizer
from speechtune.options.table import Settings
from speechtune.text.vocab import (
    build_vocabulary,
    list_characters,
    missing_characters,
    num_pieces_of,
    save_vocabulary,
)

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase, Wav2Vec2CTCTokenizer

__all__ = ["ctc_tokenizer", "keeps_tokenizer", "make_tokenizer", "makes_vocabulary", "report_missing"]

# Types whose checkpoints come with pieces of words that a fine-tuned model is to write too.
WITH_OWN_PIECES = ("parakeet_ctc", "lasr_ctc", "granite_speech5_ctc")

log = logging.getLogger("speechtune")


def makes_vocabulary(settings: Settings, model_config: PreTrainedConfig) -> bool:
    """Return whether a run makes its tokenizer from the training text.

    Raises:
        OptionError: --new_vocabulary contradicts another option.
    """
    if settings.new_vocabulary is not None:
        for name in ("tokenizer_name_or_path", "target_language"):
            if getattr(settings, name) is not None:
                raise OptionError(f"--new_vocabulary makes another tokenizer than --{name}. Leave one of them out.")
        if settings.phones and num_pieces_of(settings.new_vocabulary) is not None:
            raise OptionError("--new_vocabulary bpe: phones are labels already. Leave it out.")
        return True
    if settings.target_language is not None:
        return True
    return settings.tokenizer_name_or_path is None and not keeps_tokenizer(settings, model_config)


def keeps_tokenizer(settings: Settings, model_config: PreTrainedConfig) -> bool:
    """Return whether a checkpoint's own tokenizer and head are trained further if nothing else is asked for."""
    return model_config.model_type in WITH_OWN_PIECES and settings.model_config is None and not settings.phones


def make_tokenizer(
    settings: Settings, texts: Sequence[str], folder: Path, *, where: str, raw_texts: Sequence[str] = ()
) -> PreTrainedTokenizerBase:
    """Make a tokenizer from texts; with --target_language, one of several languages that includes it.

    Args:
        texts: normalised.
        folder: output folder; vocab.json is kept there.
        where: names the texts in messages.
        raw_texts: the texts before normalisation, to explain an empty vocabulary.

    Raises:
        TextError: the vocabulary would be empty.
    """
    if (num_pieces := num_pieces_of(settings.new_vocabulary)) is not None:
        pieces = learn_pieces(texts, num_pieces, where=where)
        log.info(f"vocabulary: {len(pieces)} pieces of words from the training text")
        return pieces
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
    if writes_letters(tokenizer):
        delimiter = tokenizer.word_delimiter_token
        missing = missing_characters(tokenizer.get_vocab(), eval_texts, word_delimiter_token=delimiter, phones=phones)
    else:
        missing = unwritable_characters(tokenizer, eval_texts)
    if not missing:
        return
    what = f"{len(missing)} characters are not in the vocabulary, so always wrong"
    log.warning(f"evaluation text: {what}: {list_characters(missing, 5)}")
