"""Numbers in figures, written out as words of a language, for scores: "1,200 m" is "one thousand two hundred m".

By Unicode's rules for spelling numbers (CLDR, UTS 35 part 3) in the package `unicode-rbnf`. Every number is read as a
cardinal: nothing in a text says that 1994 is a year, or which ending an ordinal takes. Rejected: `num2words`, which has
no Hindi and writes Turkish numbers as one word ("yüzyirmiüç"), so that right words would become errors.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

from speechtune.errors import OptionError
from speechtune.text.normalise import TextFunction
from speechtune.text.score_normalisers import EXTRA, ScoreNormaliser, WhisperEnglish

if TYPE_CHECKING:
    from unicode_rbnf import RbnfEngine

__all__ = ["NumbersSpelled", "numbers_spelled", "spell_numbers"]

_SEPARATORS = r".,'\u2019\u00a0\u202f"
_RUN = re.compile(rf"\d+(?:[{_SEPARATORS}]\d+)*")
# "1,200", "1.200.000,5", "1'200": groups of three, and perhaps a fraction behind another sign
_GROUPED = re.compile(rf"([1-9]\d{{0,2}}([{_SEPARATORS}])\d{{3}}(?:\2\d{{3}})*)(?:(?!\2)[.,](\d+))?")
_FRACTION = re.compile(r"(\d+)[.,](\d+)")  # "3.5", "3,5"
MAX_DIGITS = 15  # longer ones, and those that begin with 0, are read digit by digit
NAMES = {"nb": "no", "tl": "fil"}  # of languages in the rules, where they differ from ours
WITHOUT_SPACES = ("ja", "km", "lo", "my", "th", "yue", "zh")  # languages that write no space between words


@dataclass(frozen=True)
class NumbersSpelled(ScoreNormaliser):
    """Numbers written out, then a normaliser.

    Attributes:
        normalise: of the text with its numbers as words.
        language: short code whose words they are.
    """

    normalise: TextFunction
    language: str

    name: ClassVar[str] = "numbers"

    def __call__(self, text: str) -> str:
        return self.normalise(spell_numbers(text, self.language))

    def describe(self) -> str:
        return f"{self.normalise.describe()}; before that {self.what()}"

    def what(self) -> str:
        from importlib.metadata import version

        return f"numbers written out ({self.language}, unicode-rbnf {version('unicode-rbnf')})"


def numbers_spelled(normalise: TextFunction, language: str | None) -> NumbersSpelled:
    """Return a normaliser of scores that writes numbers out first.

    Raises:
        OptionError: the language is unknown or has no rules, or the package is missing.
    """
    if isinstance(normalise, WhisperEnglish):
        raise OptionError(
            "--spell_numbers: --normaliser whisper-english writes numbers as figures. Leave one of them out."
        )
    if language is None:
        raise OptionError("--spell_numbers: the language of the transcripts is not known. Give --language.")
    _engine(language)
    return NumbersSpelled(normalise, language)


def spell_numbers(text: str, language: str) -> str:
    """Return the text with its numbers as words, with spaces between them and letters.

    Raises:
        OptionError: there are no rules for the language.
    """
    if not any(map(str.isdigit, text)):
        return text
    # Digits of other scripts, such as Devanagari's, become ASCII's; superscripts stay.
    text = "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in text)
    space = "" if language in WITHOUT_SPACES else " "

    def spelled(match: re.Match[str]) -> str:
        before, after = text[max(0, match.start() - 2) : match.start()], text[match.end() : match.end() + 1]
        joins_numbers = before[:1].isdigit() and not before[-1:].isspace()  # 18:30, 2-3
        left = space if before[-1:].isalpha() or joins_numbers else ""
        return left + _words(match[0], language) + (space if after.isalpha() else "")

    return _RUN.sub(spelled, text)


def _words(run: str, language: str) -> str:
    """Return the words of a run of digits, and of the signs between them."""
    if grouped := _GROUPED.fullmatch(run):
        whole, part = re.sub(r"\D", "", grouped[1]), grouped[3] or ""
    elif fraction := _FRACTION.fullmatch(run):
        whole, part = fraction[1], fraction[2]
    elif run.isdigit():
        whole, part = run, ""
    else:  # a date, a version: each number alone
        return re.sub(r"\d+|\D", lambda one: _words(one[0], language) if one[0].isdigit() else f"{one[0]} ", run)
    if len(whole) > MAX_DIGITS or (whole.startswith("0") and len(whole) > 1):
        return " ".join(_spelled(digit, language) for digit in whole + part)
    return _spelled(f"{whole}.{part}" if part else whole, language)


@functools.lru_cache(maxsize=10_000)
def _spelled(number: str, language: str) -> str:
    """Return the words of a number such as "1200" or "3.5", without the invisible breaks of German and Thai."""
    words = str(_engine(language).format_number(Decimal(number)).text)
    return words.replace("\u00ad", "").replace("\u200b", "")


@functools.cache
def _engine(language: str) -> RbnfEngine:
    try:
        from unicode_rbnf import RbnfEngine
    except ImportError:
        raise OptionError(f"--spell_numbers: unicode-rbnf is not installed. Run: {EXTRA}") from None
    name = NAMES.get(language, language)
    if name not in RbnfEngine.get_supported_languages():
        raise OptionError(
            f"--spell_numbers: Unicode has no rules that spell numbers in {language!r}. Leave it out: numbers are then "
            "compared as they are written."
        )
    return RbnfEngine.for_language(name)
