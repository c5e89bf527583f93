"""Normalise transcripts: the text that the model learns and is scored on.

Two protocols. `default` deletes the literal characters of `--chars_to_ignore`, lower-cases by the rules of the language
and keeps everything else that is audible: digits, apostrophes, the combining marks of Hindi. `readme` repeats the
arithmetic of the original scripts exactly, to compare with the README's figures; known to be wrong: `!-;` becomes a
range that also deletes digits and apostrophes, and Turkish `I` becomes `i`.

Rejected: deleting by category ("not a letter"), which strips vowel signs and nuktas; Unicode NFKC, which rewrites
spoken text ("½" -> "1⁄2", "ﬁ" -> "fi").
"""

from __future__ import annotations

import abc
import functools
import hashlib
import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from speechtune.errors import OptionError
from speechtune.text.languages import language_of

__all__ = ["Normaliser", "ReadmeNormaliser", "TextFunction", "make_normaliser"]

# Alphabets where I/ı and İ/i are two letters. tr, az: Unicode SpecialCasing.txt; crh, gag: the same Latin alphabet.
_DOTTED_I_LANGUAGES = {"tr", "az", "crh", "gag"}

# SpecialCasing.txt, Lithuanian: a lowered i, j or į keeps its dot below an accent.
_LITHUANIAN = {"\u00cc": "i\u0307\u0300", "\u00cd": "i\u0307\u0301", "\u0128": "i\u0307\u0303"}
_LITHUANIAN_DOT = re.compile("([IJ\u012e])(?=[\u0323\u0328]*[\u0300\u0301\u0303])")

# Invisible: control and format characters, lone surrogates. Kept: white space, which is collapsed; zero-width
# (non-)joiners, which are part of Persian and Indic spelling; zero-width space and tags, whose meaning is unclear.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u061c\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ud800-\udfff]"
)


class TextFunction(abc.ABC):
    """A function of transcripts that score files describe."""

    name: ClassVar[str] = ""  # of the protocol

    @abc.abstractmethod
    def __call__(self, text: str) -> str: ...

    @abc.abstractmethod
    def describe(self) -> str:
        """Return one line with all that is done; equal lines mean equal results."""

    def hash(self) -> str:
        """Return 12 hexadecimal digits of `describe()`, for score files."""
        line = f"{self.name}: {self.describe()}" if self.name else self.describe()
        return hashlib.sha256(line.encode("utf-8", "surrogatepass")).hexdigest()[:12]


@functools.lru_cache(maxsize=64)
def _deletion_pattern(ignored: tuple[str, ...]) -> re.Pattern[str] | None:
    """Return a regular expression of what is deleted, or None.

    White space is never a character to ignore: the shell leaves some where a line ends in a backslash.
    """
    whole, single = [], set()
    for item in ignored:
        item = unicodedata.normalize("NFC", item).strip()
        if len(item) > 1 and any(unicodedata.category(char)[0] in "LNM" for char in item):
            whole.append(re.escape(item))  # "[laughter]" is deleted as a whole, not letter by letter
        else:
            single |= {char for char in item if not char.isspace()}
    alternatives = sorted(whole, key=len, reverse=True)
    if single:
        alternatives.append("[" + "".join(re.escape(char) for char in sorted(single)) + "]")
    return re.compile("|".join(alternatives)) if alternatives else None


def _lower(text: str, language: str | None) -> str:
    """Lower-case by the rules of `language` (Unicode SpecialCasing.txt)."""
    if language in _DOTTED_I_LANGUAGES:
        # "i" + dot above is "İ" lower-cased without a language; such corpora exist.
        return text.replace("\u0130", "i").replace("I", "\u0131").lower().replace("i\u0307", "i")
    if language == "lt":
        for capital, small in _LITHUANIAN.items():
            text = text.replace(capital, small)
        text = _LITHUANIAN_DOT.sub(lambda match: match[1].lower() + "\u0307", text)
    return text.lower()


@dataclass(frozen=True)
class Normaliser(TextFunction):
    """The default protocol: `Normaliser(("!", "-"), "tr")("IŞIK-  nedir!")` is "ışık nedir".

    Order: invisible characters removed, Unicode NFC, `ignored` deleted, lower case, NFC, white space collapsed.

    Attributes:
        ignored: literal strings to delete, from `--chars_to_ignore`. Strings of signs are sets of characters; strings
            with letters or digits ("[laughter]") are deleted as a whole. White space in them is ignored.
        language: short code whose rules lower-casing follows (`language_of`), or None.
        do_lower_case: lower-case the text.
    """

    ignored: tuple[str, ...] = ()
    language: str | None = None
    do_lower_case: bool = True

    name: ClassVar[str] = "default"

    def __call__(self, text: str) -> str:
        """Return the normalised text in NFC, without white space at its ends. May be empty."""
        if not text.isascii():
            text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
        elif not text.isprintable():
            text = _INVISIBLE.sub("", text)
        pattern = _deletion_pattern(self.ignored)
        if pattern is not None:
            text = pattern.sub("", text)
        if self.do_lower_case:
            text = _lower(text, self.language)
        if not text.isascii():
            text = unicodedata.normalize("NFC", text)
        return " ".join(text.split())

    def describe(self) -> str:
        shown = [item for item in (item.strip() for item in self.ignored) if item]
        case = f"lower case ({self.language or 'no language'})" if self.do_lower_case else "case kept"
        deleted = f"deleted literally: {' '.join(shown)}" if shown else "nothing deleted"
        return f"Unicode NFC; {deleted}; {case}; white space collapsed"

    def letters_ignored(self) -> str:
        """Return the letters, digits and marks among single ignored characters, which are seldom intended.

        A shell replaces an unquoted `?` by the one-letter file names of the current folder.
        """
        return "".join(item for item in self.ignored if len(item) == 1 and unicodedata.category(item)[0] in "LNM")


@dataclass(frozen=True)
class ReadmeNormaliser(TextFunction):
    """The arithmetic of the original scripts: characters joined into a regex class, `.lower()`, a final space.

    Attributes:
        ignored: the strings of `--chars_to_ignore`, joined into `[...]`; empty deletes nothing.
        do_lower_case: `.lower()`, whatever the language.
        trailing_space: the CTC scripts add a space to every transcript; the seq2seq script doesn't.

    Raises:
        OptionError: on the first call, if the class is not a valid regular expression.
    """

    ignored: tuple[str, ...] = ()
    do_lower_case: bool = True
    trailing_space: bool = True

    name: ClassVar[str] = "readme"

    def __call__(self, text: str) -> str:
        """Return `text` as the original scripts made it; white space is kept."""
        pattern = _readme_pattern(self.ignored)
        if pattern is not None:
            text = pattern.sub("", text)
        if self.do_lower_case:
            text = text.lower()
        return text + " " if self.trailing_space else text

    def describe(self) -> str:
        deleted = f"deleted by regex class: [{''.join(self.ignored)}]" if self.ignored else "nothing deleted"
        case = "str.lower()" if self.do_lower_case else "case kept"
        space = "a space at the end" if self.trailing_space else "no space at the end"
        return f"{deleted}; {case}; {space}".replace("\n", "\\n")


@functools.lru_cache(maxsize=64)
def _readme_pattern(ignored: tuple[str, ...]) -> re.Pattern[str] | None:
    if not ignored:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # "[--" and "[||" may mean sets one day
            return re.compile(f"[{''.join(ignored)}]")
    except re.error as error:
        raise OptionError(
            f"--chars_to_ignore: the README protocol joins the characters into the regex class "
            f"[{''.join(ignored)}], which is not valid: {error}.\n"
            "Escape \\ and ] with a backslash, or leave out --protocol readme."
        ) from None


def make_normaliser(
    protocol: str,
    chars_to_ignore: Sequence[str] | None = None,
    *,
    language: str | None = None,
    lower_case: bool = True,
    trailing_space: bool = True,
) -> Normaliser | ReadmeNormaliser:
    """Return the normaliser of a protocol.

    Args:
        protocol: `default` or `readme`.
        chars_to_ignore: the strings of `--chars_to_ignore`, or None.
        language: any spelling that `language_of` knows; default protocol only.
        lower_case: lower-case the text.
        trailing_space: readme only; False for sequence-to-sequence models.

    Raises:
        OptionError: the regex class of the readme protocol is not valid.
    """
    ignored = tuple(chars_to_ignore or ())
    if protocol == "default":
        return Normaliser(ignored, language_of(None, language), lower_case)
    _readme_pattern(ignored)  # an invalid class is an error now, not after the corpus was read
    return ReadmeNormaliser(ignored, lower_case, trailing_space)
