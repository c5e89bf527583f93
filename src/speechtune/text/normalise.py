"""Transcript as the corpus has it -> text as the model learns it and is scored on.

Two protocols. `default` deletes the literal characters of `--chars_to_ignore`, lowers letters as the language does
and keeps everything else that is heard: digits, apostrophes, the combining marks of Hindi. `readme` repeats the
arithmetic of the original scripts to the letter, so that the README's figures can be compared; known to be wrong:
`!-;` becomes a range that also deletes digits and apostrophes, and Turkish `I` becomes `i`.

Rejected: deleting by category ("not a letter"), which strips vowel signs and nuktas; Unicode NFKC, which rewrites
what was said ("½" -> "1⁄2", "ﬁ" -> "fi").
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from speechtune.errors import OptionError
from speechtune.text.languages import language_of

__all__ = ["PROTOCOLS", "Normaliser", "ReadmeNormaliser", "drop_chars", "language_of", "make_normaliser"]

PROTOCOLS = ("default", "readme")

# Alphabets where I/ı and İ/i are two letters. tr, az: Unicode SpecialCasing.txt; crh, gag: the same Latin alphabet.
_DOTTED_I_LANGUAGES = {"tr", "az", "crh", "gag"}

# SpecialCasing.txt, Lithuanian: the dot stays when an accent stands above a lowered i, j or į.
_LITHUANIAN = {"\u00cc": "i\u0307\u0300", "\u00cd": "i\u0307\u0301", "\u0128": "i\u0307\u0303"}
_LITHUANIAN_DOT = re.compile("([IJ\u012e])(?=[\u0323\u0328]*[\u0300\u0301\u0303])")

# Never heard and invisible: control and format characters, lone surrogates. Kept: white space, which is collapsed;
# zero-width (non-)joiner, which spell Persian and Indic words; zero-width space and tags, which nobody should guess at.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u061c\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ud800-\udfff]"
)


def drop_chars(text: str, chars: str | Sequence[str]) -> str:
    """`text` without the literal characters `chars`: no ranges, no classes, no escapes.

    Args:
        text: any string.
        chars: a string of characters, or the strings of `--chars_to_ignore`.
    """
    pattern = _deletion_pattern((chars,) if isinstance(chars, str) else tuple(chars))
    return pattern.sub("", text) if pattern else text


@functools.lru_cache(maxsize=64)
def _deletion_pattern(ignored: tuple[str, ...]) -> re.Pattern[str] | None:
    """One regular expression that matches what is deleted, or None.

    White space is no character to ignore: the shell leaves some behind where a line ends in a backslash.
    """
    whole, single = [], set()
    for item in ignored:
        item = unicodedata.normalize("NFC", item).strip()
        if len(item) > 1 and any(unicodedata.category(char)[0] in "LNM" for char in item):
            whole.append(re.escape(item))  # "[laughter]" goes as a whole, not letter by letter
        else:
            single |= {char for char in item if not char.isspace()}
    alternatives = sorted(whole, key=len, reverse=True)
    if single:
        alternatives.append("[" + "".join(re.escape(char) for char in sorted(single)) + "]")
    return re.compile("|".join(alternatives)) if alternatives else None


def _lower(text: str, language: str | None) -> str:
    """Lower case as `language` writes it (Unicode SpecialCasing.txt)."""
    if language in _DOTTED_I_LANGUAGES:
        # "i" + dot above is what a lowering without a language made of "İ"; such corpora exist.
        return text.replace("\u0130", "i").replace("I", "\u0131").lower().replace("i\u0307", "i")
    if language == "lt":
        for capital, small in _LITHUANIAN.items():
            text = text.replace(capital, small)
        text = _LITHUANIAN_DOT.sub(lambda match: match[1].lower() + "\u0307", text)
    return text.lower()


@dataclass(frozen=True)
class Normaliser:
    """The default protocol. Call it: `Normaliser(("!", "-"), "tr")("IŞIK-  nedir!")` is "ışıknedir".

    Order: invisible characters out, Unicode NFC, `ignored` deleted, lower case, NFC, white space collapsed.

    Attributes:
        ignored: literal strings to delete, as `--chars_to_ignore` gave them. Strings of signs are sets of characters;
            strings with letters or digits ("[laughter]") are deleted as a whole. White space in them counts nothing.
        language: short code that decides how letters are lowered (`language_of`), or None.
        do_lower_case: lower the letters.
    """

    ignored: tuple[str, ...] = ()
    language: str | None = None
    do_lower_case: bool = True

    name = "default"

    def __call__(self, text: str) -> str:
        """Normalised `text`, NFC, no white space at its ends. May be empty."""
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
        """One line that says all that is done; equal lines mean equal results."""
        shown = [item for item in (item.strip() for item in self.ignored) if item]
        case = f"lower case ({self.language or 'no language'})" if self.do_lower_case else "case kept"
        deleted = f"deleted literally: {' '.join(shown)}" if shown else "nothing deleted"
        return f"Unicode NFC; {deleted}; {case}; white space collapsed"

    def hash(self) -> str:
        """12 hexadecimal digits of `describe()`, for score files."""
        return _hash(self.name, self.describe())

    def letters_ignored(self) -> str:
        """Letters, digits and marks among single ignored characters: seldom meant.

        A shell replaces an unquoted `?` by the one-letter file names of the current folder.
        """
        return "".join(item for item in self.ignored if len(item) == 1 and unicodedata.category(item)[0] in "LNM")


@dataclass(frozen=True)
class ReadmeNormaliser:
    """The original scripts' arithmetic: characters joined into a regex class, `.lower()`, a space at the end.

    Attributes:
        ignored: the strings of `--chars_to_ignore`, joined as they are into `[...]`. Empty: nothing is deleted.
        do_lower_case: `.lower()`, whatever the language.
        trailing_space: the CTC scripts end every transcript with a space; the seq2seq script doesn't.

    Raises:
        OptionError: on the first call, when the class is no regular expression.
    """

    ignored: tuple[str, ...] = ()
    do_lower_case: bool = True
    trailing_space: bool = True

    name = "readme"

    def __call__(self, text: str) -> str:
        """`text` as the original scripts made it; white space is kept as it was."""
        pattern = _readme_pattern(self.ignored)
        if pattern is not None:
            text = pattern.sub("", text)
        if self.do_lower_case:
            text = text.lower()
        return text + " " if self.trailing_space else text

    def describe(self) -> str:
        """One line that says all that is done; equal lines mean equal results."""
        deleted = f"deleted by regex class: [{''.join(self.ignored)}]" if self.ignored else "nothing deleted"
        case = "str.lower()" if self.do_lower_case else "case kept"
        space = "a space at the end" if self.trailing_space else "no space at the end"
        return f"{deleted}; {case}; {space}".replace("\n", "\\n")

    def hash(self) -> str:
        """12 hexadecimal digits of `describe()`, for score files."""
        return _hash(self.name, self.describe())


def _hash(name: str, description: str) -> str:
    return hashlib.sha256(f"{name}: {description}".encode("utf-8", "surrogatepass")).hexdigest()[:12]


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
    chars_to_ignore: Sequence[str] | str | None = None,
    *,
    language: str | None = None,
    lower_case: bool = True,
    trailing_space: bool = True,
) -> Normaliser | ReadmeNormaliser:
    """The normaliser of `protocol`.

    Args:
        protocol: `default` or `readme`.
        chars_to_ignore: the strings of `--chars_to_ignore` as the shell gave them, or None.
        language: any spelling that `language_of` knows; only the default protocol heeds it.
        lower_case: lower the letters.
        trailing_space: readme only; False for sequence-to-sequence models.

    Raises:
        OptionError: unknown protocol, or a class that is no regular expression.
    """
    if protocol not in PROTOCOLS:
        raise OptionError(f"--protocol {protocol}: unknown. Choose one of: {', '.join(PROTOCOLS)}.")
    ignored = (chars_to_ignore,) if isinstance(chars_to_ignore, str) else tuple(chars_to_ignore or ())
    if protocol == "default":
        return Normaliser(ignored, language_of(None, language), lower_case)
    normaliser = ReadmeNormaliser(ignored, lower_case, trailing_space)
    _readme_pattern(ignored)  # so that a wrong class is met at start-up
    return normaliser
