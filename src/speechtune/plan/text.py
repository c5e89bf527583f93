"""The normalisers of transcripts and hypotheses."""

from __future__ import annotations

from collections.abc import Callable

from speechtune.errors import OptionError
from speechtune.options.table import Family, Settings
from speechtune.text.normalise import TextFunction, make_normaliser
from speechtune.text.score_normalisers import ScoreNormaliser, score_normaliser

__all__ = ["protocol_normaliser", "text_normaliser"]


def protocol_normaliser(settings: Settings, language: str | None, family: Family) -> TextFunction:
    """Return the normaliser by which scores are described.

    Raises:
        OptionError, TextError: as `text_normaliser`.
    """
    normaliser, of_hypotheses = text_normaliser(settings, language, family)
    return of_hypotheses if isinstance(of_hypotheses, ScoreNormaliser) else normaliser


def text_normaliser(
    settings: Settings, language: str | None, family: Family
) -> tuple[TextFunction, Callable[[str], str]]:
    """Return the normaliser of transcripts and that of hypotheses.

    They differ where phonemes are recognised, and with --normaliser: a `ScoreNormaliser` is for references too.

    Raises:
        OptionError, TextError: --chars_to_ignore is no regular expression where it has to be one, the language has no
            phonemes, or --normaliser does not fit.
    """
    if settings.normaliser not in (None, "default") and settings.phones:
        raise OptionError(
            f"--normaliser {settings.normaliser} is for words; phones are scored as they are. Leave it out."
        )
    if settings.corpus_phones:
        from speechtune.text.phonemes import TimitPhones

        return TimitPhones(), str
    normaliser = make_normaliser(
        settings.protocol,
        settings.chars_to_ignore,
        language=language,
        lower_case=settings.do_lower_case is not False,
        trailing_space=family == "ctc",
    )
    if settings.normaliser not in (None, "default"):
        return normaliser, score_normaliser(settings.normaliser, language)
    if settings.phoneme_language is None:
        return normaliser, normaliser
    from speechtune.text.phonemes import Phonemised, make_phonemizer

    phonemizer = make_phonemizer(settings.phoneme_language, word_delimiter_token=settings.word_delimiter_token)
    return Phonemised(normaliser, phonemizer), str  # hypotheses are phonemes already
