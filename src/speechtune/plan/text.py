"""What is done to transcripts and hypotheses before they are learnt and scored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from speechtune.options.table import Family, Settings
from speechtune.text.normalise import make_normaliser

if TYPE_CHECKING:
    from speechtune.text.phonemes import Phonemizer

__all__ = ["TextNormaliser", "text_normaliser"]


class TextNormaliser(Protocol):
    """A function of text that can describe itself."""

    def __call__(self, text: str, /) -> str: ...

    def describe(self) -> str:
        """In a few words, for score files."""
        ...

    def hash(self) -> str:
        """Equal only for normalisers that do the same."""
        ...


@dataclass(frozen=True)
class Phonemised:
    """Transcripts normalised, then converted to phonemes."""

    normaliser: TextNormaliser
    phonemizer: Phonemizer

    def __call__(self, text: str) -> str:
        return self.phonemizer(self.normaliser(text))

    def describe(self) -> str:
        return f"{self.normaliser.describe()}; then {self.phonemizer.describe()}"

    def hash(self) -> str:
        return hashlib.sha256(self.describe().encode()).hexdigest()[:12]


def text_normaliser(
    settings: Settings, language: str | None, family: Family
) -> tuple[TextNormaliser, Callable[[str], str]]:
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
    from speechtune.text.phonemes import make_phonemizer

    phonemizer = make_phonemizer(settings.phoneme_language, word_delimiter_token=settings.word_delimiter_token)
    return Phonemised(normaliser, phonemizer), str  # hypotheses are phonemes already
