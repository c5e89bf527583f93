"""The normalisers of transcripts and hypotheses."""

from __future__ import annotations

from collections.abc import Callable

from speechtune.errors import OptionError
from speechtune.options.table import Family, Settings
from speechtune.text.normalise import TextFunction, make_normaliser
from speechtune.text.numbers import numbers_spelled
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
    named = settings.normaliser not in (None, "default")
    if settings.phones and (named or settings.spell_numbers):
        option = f"--normaliser {settings.normaliser}" if named else "--spell_numbers"
        raise OptionError(f"{option} is for words; phones are scored as they are. Leave it out.")
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
    if named or settings.spell_numbers:
        return normaliser, _of_scores(settings, language, normaliser)
    if settings.phoneme_language is None:
        return normaliser, normaliser
    from speechtune.text.phonemes import Phonemised, make_phonemizer

    phonemizer = make_phonemizer(settings.phoneme_language, word_delimiter_token=settings.word_delimiter_token)
    return Phonemised(normaliser, phonemizer), str  # hypotheses are phonemes already


def _of_scores(settings: Settings, language: str | None, normaliser: TextFunction) -> ScoreNormaliser:
    """Return the normaliser that --normaliser and --spell_numbers ask for."""
    if settings.spell_numbers and settings.protocol == "readme":
        raise OptionError(
            "--spell_numbers: --protocol readme scores as the original scripts did. Leave one of them out."
        )
    if settings.normaliser in (None, "default"):
        return numbers_spelled(normaliser, language)
    found = score_normaliser(settings.normaliser, language)
    return numbers_spelled(found, language) if settings.spell_numbers else found
