"""Phonemes of a text by libespeak-ng, and TIMIT's phone labels folded to the 39 classes that papers score.

Phonemes have the form of `transformers`' `Wav2Vec2PhonemeCTCTokenizer` (no stress marks, no language flags). Rejected:
the `phonemizer` package, see docs/dependencies.md.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from speechtune.errors import OptionError, TextError
from speechtune.text.espeak import CHARS_UTF8, data_path, load_library, start_library
from speechtune.text.languages import find_language, near_languages
from speechtune.text.normalise import TextFunction

__all__ = ["TIMIT_FOLDING", "Phonemised", "Phonemizer", "TimitPhones", "espeak_voices", "fold_timit", "make_phonemizer"]

# espeak-ng/speak_lib.h
_AUDIO_OUTPUT_RETRIEVAL = 1
_PHONEMES_IPA = 0x02
_PHONE_SEPARATOR = "_"

_LANGUAGE_SWITCH = re.compile(r"\([a-zA-Z][^()]*\)")  # "(en)" before a foreign word, "(hi)" after it
_STRESS = re.compile(r"[ˈˌ'-]+")

# Our code -> espeak-ng's, where they differ. English: the default accent of transformers.
_ESPEAK_CODES = {"en": "en-us", "zh": "cmn", "no": "nb", "nn": "nb", "fr": "fr-fr", "sh": "hr", "ckb": "ku"}

_lock = threading.Lock()


def _renew_lock() -> None:
    """Replace the lock in a forked child: another thread of the parent may have held it."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@functools.lru_cache(maxsize=1)
def _initialised_library() -> ctypes.CDLL:
    """Return libespeak-ng, initialised once per process; a forked child keeps its copy. Call it under the lock."""
    library = load_library()
    library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
    library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    start_library(library, _AUDIO_OUTPUT_RETRIEVAL)
    return library


@functools.lru_cache(maxsize=1)
def espeak_voices() -> dict[str, str]:
    """Return language code in lower case (`tr`, `en-us`, `cmn`) -> name of espeak-ng's voice file.

    Raises:
        OptionError: espeak-ng is not installed.
    """
    voices: dict[str, str] = {}
    for path in sorted(Path(data_path(), "lang").rglob("*")):
        if path.is_file():
            voices.setdefault(path.name.lower(), path.name)
            languages = re.findall(r"^[ \t]*language[ \t]+(\S+)", path.read_text("utf-8", "replace"), re.MULTILINE)
            for language in languages:
                voices.setdefault(language.lower(), path.name)
    return voices


def _find_voice(language: str) -> str:
    """Return espeak-ng's voice for `language`, or raise an OptionError that names near ones."""
    voices = espeak_voices()
    key = language.strip().lower().replace("_", "-")
    known = find_language(language)
    candidates = [_ESPEAK_CODES.get(key, key), key]
    if known is not None:
        candidates += [_ESPEAK_CODES.get(known.code, known.code), known.code, known.iso3]
    for candidate in candidates:
        if candidate in voices:
            return voices[candidate]
    near = near_languages(language, sorted(voices))
    hint = f"Near: {', '.join(near)}.\n" if near else ""
    called = f" ({known.name})" if known else ""
    raise OptionError(
        f"--phoneme_language {language}{called}: espeak-ng has no such language.\n{hint}"
        f"It knows {len(voices)} codes, among them: ar, cmn, de, en-us, es, fr-fr, hi, it, nl, pt, ru, sv, tr."
    )


@dataclass(frozen=True)
class Phonemizer:
    """Text -> phonemes: `make_phonemizer("tr")("merhaba dünya")` is "m ɛ r h a b a | d ø n j a".

    Can be pickled and used by several threads.

    Attributes:
        language: the user's spelling.
        voice: espeak-ng's voice, see `espeak_voices`.
        word_delimiter_token: separates words, or None.
    """

    language: str
    voice: str
    word_delimiter_token: str | None = "|"

    def __call__(self, text: str) -> str:
        """Return the phonemes of `text` in IPA, separated by spaces, without stress and punctuation. May be empty."""
        words = []
        for word in _text_to_phonemes(text, self.voice).split():
            phones = _STRESS.sub("", word).replace(_PHONE_SEPARATOR, " ").split()
            if phones:
                words.append(" ".join(phones))
        delimiter = f" {self.word_delimiter_token} " if self.word_delimiter_token else " "
        return delimiter.join(words)

    def describe(self) -> str:
        """Return one line for score files."""
        return (
            f"phones by espeak-ng, voice {self.voice}, IPA without stress, words apart by {self.word_delimiter_token}"
        )


@dataclass(frozen=True)
class Phonemised(TextFunction):
    """Transcripts normalised, then converted to phonemes."""

    normaliser: TextFunction
    phonemizer: Phonemizer

    def __call__(self, text: str) -> str:
        return self.phonemizer(self.normaliser(text))

    def describe(self) -> str:
        return f"{self.normaliser.describe()}; then {self.phonemizer.describe()}"


def make_phonemizer(language: str, *, word_delimiter_token: str | None = "|") -> Phonemizer:
    """Return the phonemizer of a language, after a first call that checks it.

    Args:
        language: `--phoneme_language`: espeak-ng's code (`tr`, `en-gb`), or any spelling that `find_language` knows
            (`sv-SE`, `tur`, `german`). `en` is `en-us`.
        word_delimiter_token: separates words.

    Raises:
        OptionError: espeak-ng is not installed, or has no such language.
    """
    phonemizer = Phonemizer(language, _find_voice(language), word_delimiter_token)
    phonemizer("a")
    return phonemizer


def _text_to_phonemes(text: str, voice: str) -> str:
    """Return espeak-ng's line: spaces between words, underscores between phones, no language flags."""
    clauses = []
    with _lock:
        library = _initialised_library()
        # Set for each text (microseconds): several phonemizers share the library.
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise OptionError(f"espeak-ng can't load its voice '{voice}'.")
        rest = ctypes.c_char_p(text.replace("\0", " ").encode("utf-8", "replace"))
        mode = ord(_PHONE_SEPARATOR) << 8 | _PHONEMES_IPA
        while rest.value is not None:  # one clause a call; the pointer is null after the last
            clause = library.espeak_TextToPhonemes(ctypes.byref(rest), CHARS_UTF8, mode)
            clauses.append((clause or b"").decode("utf-8", "replace"))
    return _LANGUAGE_SWITCH.sub("", " ".join(clauses))


# TIMIT's 61 phone labels -> the 39 classes that are scored. "q" (glottal stop) is deleted.
# Source: Lee and Hon 1989, "Speaker-independent phone recognition using hidden Markov models", table II; its 48
# training labels (cl, vcl, epi, sil) are folded too.
_TIMIT_39 = (
    "iy ih eh ae ah uw uh aa ey ay oy aw ow er l r w y m n ng "  # vowels, liquids, nasals
    "ch jh dh b d dx g p t k z sh f v th s hh sil"
)
_TIMIT_FOLDED = (
    "ix=ih ax=ah ax-h=ah ux=uw ao=aa axr=er el=l em=m en=n nx=n eng=ng zh=sh hv=hh q= "
    "pcl=sil tcl=sil kcl=sil bcl=sil dcl=sil gcl=sil cl=sil vcl=sil h#=sil pau=sil epi=sil"
)
TIMIT_FOLDING: dict[str, str] = {phone: phone for phone in _TIMIT_39.split()}
TIMIT_FOLDING |= dict(pair.split("=") for pair in _TIMIT_FOLDED.split())


@dataclass(frozen=True)
class TimitPhones(TextFunction):
    """Normaliser of TIMIT's labels: folds them from 61 to 39 classes."""

    def __call__(self, text: str) -> str:
        return fold_timit(text)

    def describe(self) -> str:
        return "TIMIT's phone labels, folded from 61 to 39 classes (Lee and Hon 1989)"


def fold_timit(phones: str) -> str:
    """Fold TIMIT phone labels from 61 (or 48) to 39 classes.

    Args:
        phones: labels separated by white space, as in a .PHN file's third column, in any case.

    Returns:
        Labels separated by one space, without "q". Folding twice changes nothing.

    Raises:
        TextError: TIMIT has no such label.

    Source: see `TIMIT_FOLDING`.
    """
    folded = []
    for phone in phones.lower().split():
        if phone not in TIMIT_FOLDING:
            raise TextError(f"'{phone}' is not one of TIMIT's 61 phone labels, in: {phones[:80]}")
        folded.append(TIMIT_FOLDING[phone])
    return " ".join(phone for phone in folded if phone)
