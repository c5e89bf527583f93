"""The normalisers of transcripts and hypotheses."""

from __future__ import annotations

from collections.abc import Callable

from speechtune.options.table import Family, Settings
from speechtune.text.normalise import TextFunction, make_normaliser

__all__ = ["text_normaliser"]


def text_normaliser(
    settings: Settings, language: str | None, family: Family
) -> tuple[TextFunction, Callable[[str], str]]:
    """Return the normaliser of transcripts and that of hypotheses, which differ where phonemes are recognised.

    Raises:
        OptionError, TextError: --chars_to_ignore is no regular expression where it has to be one, or the language has
            no phonemes.
    """
    if settings.corpus_phones:
        from speechtune.text.phonemes import TimitPhones

        return TimitPhones(), str
    normaliser = make_normaliser(
        settings.protocol,
        settings.chars_to_ignore,
        language=language,
        lower_case=settings.do_lower_case,
        trailing_space=family != "seq2seq",
    )
    if settings.phoneme_language is None:
        return normaliser, normaliser
    from speechtune.text.phonemes import Phonemised, make_phonemizer

    phonemizer = make_phonemizer(settings.phoneme_language, word_delimiter_token=settings.word_delimiter_token)
    return Phonemised(normaliser, phonemizer), str  # hypotheses are phonemes already
