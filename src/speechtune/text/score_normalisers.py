"""Normalisers of scores: what is done to reference and hypothesis before they are compared, by name.

The default is the transcripts' own normaliser (normalise.py), which training uses too. These replace it in scores only,
so that figures can be set beside published ones. Each has a version, which is part of the protocol's hash.

Whisper's normalisers are transformers' own code (Radford et al. 2022, appendix C), with one change: it replaces every
combining mark by a space, which cuts the words of Hindi, Thai or Yoruba into pieces; here marks are kept. Rejected: the
leaderboard's copy (its lists change without a version) and normalising hypotheses that were normalised already.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import unicodedata
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from speechtune.errors import OptionError
from speechtune.text.normalise import Normaliser, TextFunction

__all__ = ["EXTRA", "AsWritten", "ScoreNormaliser", "WhisperBasic", "WhisperEnglish", "score_normaliser"]

_PRIVATE = 0xF0000  # first of Unicode's private-use characters, which stand for marks while Whisper's code runs
EXTRA = "pip install 'speechtune[scores]'"


class ScoreNormaliser(TextFunction):
    """A normaliser that is applied to the corpus' own transcript and to the model's own output."""

    version: ClassVar[int] = 1

    def describe(self) -> str:
        return f"{self.name} {self.version}: {self.what()}"

    @abstractmethod
    def what(self) -> str:
        """Return what is done, in one line."""


@dataclass(frozen=True)
class AsWritten(ScoreNormaliser):
    """The text as it is written: case and punctuation count."""

    name: ClassVar[str] = "none"

    def __call__(self, text: str) -> str:
        return Normaliser((), None, do_lower_case=False)(text)

    def what(self) -> str:
        return "as written; Unicode NFC; white space collapsed"


@dataclass(frozen=True)
class WhisperBasic(ScoreNormaliser):
    """Whisper's normaliser of every language but English: lower case, no brackets, no punctuation and symbols."""

    name: ClassVar[str] = "whisper-basic"

    def __call__(self, text: str) -> str:
        # "İ" lower-cased is "i" with a dot of its own, which is no mark of a word.
        text = unicodedata.normalize("NFKC", text.lower().replace("i\u0307", "i"))
        marks = sorted({char for char in text if unicodedata.category(char).startswith("M")})
        hidden = {ord(mark): chr(_PRIVATE + place) for place, mark in enumerate(marks)}
        cleaned = _basic()(text.translate(hidden))
        return " ".join(cleaned.translate({ord(char): chr(mark) for mark, char in hidden.items()}).split())

    def what(self) -> str:
        return "transformers' BasicTextNormalizer; combining marks kept"


@dataclass(frozen=True)
class WhisperEnglish(ScoreNormaliser):
    """Whisper's normaliser of English: contractions and numbers in one form, American spelling, no "uh"."""

    name: ClassVar[str] = "whisper-english"

    def __call__(self, text: str) -> str:
        return " ".join(_english()(text).split())

    def what(self) -> str:
        return f"transformers' EnglishTextNormalizer; spellings {_spellings_hash()}"


def score_normaliser(name: str, language: str | None) -> ScoreNormaliser:
    """Return a normaliser of scores: "none", "whisper-basic" or "whisper-english".

    Args:
        language: short code of the transcripts' language, or None.

    Raises:
        OptionError: it does not fit the language, or a package is missing.
    """
    if name == "whisper-english" and language not in (None, "en"):
        raise OptionError(
            f"--normaliser whisper-english: it rewrites English, and the transcripts are in {language!r}.\n"
            "Use --normaliser whisper-basic."
        )
    if name == "whisper-english":
        _spellings()  # a missing package is an error now, not after the evaluation
    found: Mapping[str, ScoreNormaliser] = {one.name: one for one in (AsWritten(), WhisperBasic(), WhisperEnglish())}
    return found[name]


@functools.cache
def _basic() -> Callable[[str], str]:
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer

    return BasicTextNormalizer()


@functools.cache
def _english() -> Callable[[str], str]:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return EnglishTextNormalizer(_spellings())


@functools.cache
def _spellings() -> dict[str, str]:
    """Return OpenAI's table of British to American spellings, which transformers has only in Whisper's checkpoints."""
    spec = importlib.util.find_spec("whisper_normalizer")
    if spec is None or spec.origin is None:
        raise OptionError(f"--normaliser whisper-english: whisper-normalizer is not installed. Run: {EXTRA}")
    table: dict[str, str] = json.loads((Path(spec.origin).parent / "normalizers" / "english.json").read_text("utf-8"))
    return table


def _spellings_hash() -> str:
    return hashlib.sha256(json.dumps(_spellings(), sort_keys=True).encode()).hexdigest()[:8]
