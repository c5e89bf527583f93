"""Text -> phones, through libespeak-ng, and TIMIT's own phone labels folded to the 39 that papers score.

espeak-ng (GPL-3) is never bundled: the extra `phonemes` installs the wheel `espeakng-loader`, whose library is loaded
with ctypes when the first text is phonemised. Its output is brought into the form of `transformers`'
`Wav2Vec2PhonemeCTCTokenizer` (stress marks and language flags removed). Rejected: the `phonemizer` package,
which brings ten more packages for the same phones (compared on 309 Common Voice sentences in five languages: equal).
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechtune.errors import OptionError, TextError
from speechtune.text.languages import find_language, near_languages

__all__ = ["TIMIT_FOLDING", "Phonemizer", "TimitPhones", "espeak_voices", "fold_timit", "make_phonemizer"]

# espeak_ng/speak_lib.h
_AUDIO_OUTPUT_RETRIEVAL = 1
_INITIALIZE_DONT_EXIT = 0x8000  # without it a missing data folder ends the process
_CHARS_UTF8 = 1
_PHONEMES_IPA = 0x02
_PHONE_SEPARATOR = "_"

_LANGUAGE_SWITCH = re.compile(r"\([a-zA-Z][^()]*\)")  # "(en)" before a foreign word, "(hi)" after it
_STRESS = re.compile(r"[ˈˌ'-]+")

# Our code -> espeak-ng's, where they differ. English: transformers' default accent.
_ESPEAK_CODES = {"en": "en-us", "zh": "cmn", "no": "nb", "nn": "nb", "fr": "fr-fr", "sh": "hr", "ckb": "ku"}

_lock = threading.Lock()
_library: Any = None


def _renew_lock() -> None:
    """In a forked child: another thread of the parent may have held the lock."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def _loader() -> Any:
    """The package `espeakng_loader`.

    Raises:
        OptionError: it is not installed.
    """
    try:
        return importlib.import_module("espeakng_loader")
    except ImportError:
        raise OptionError(
            "--phoneme_language needs espeak-ng, an optional part (GPL-3).\n"
            "Install it with: pip install speechtune[phonemes]"
        ) from None


def _initialised_library() -> Any:
    """libespeak-ng, initialised once in a process; a forked child goes on with its copy. Call it under the lock.

    Raises:
        OptionError: the package is missing, or its library or data can't be loaded.
    """
    global _library
    if _library is not None:
        return _library
    import ctypes

    loader = _loader()
    try:
        library = ctypes.CDLL(loader.get_library_path())
    except OSError as error:
        raise OptionError(f"espeak-ng's library can't be loaded: {error}.") from None
    library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
    library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
    library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    data = os.fsencode(loader.get_data_path())
    if library.espeak_Initialize(_AUDIO_OUTPUT_RETRIEVAL, 0, data, _INITIALIZE_DONT_EXIT) <= 0:
        raise OptionError(
            f"espeak-ng can't read its data in {os.fsdecode(data)}.\n"
            "Reinstall it with: pip install --force-reinstall espeakng-loader "
            "(a path of more than 150 characters is too long for it)."
        )
    _library = library
    return library


@functools.lru_cache(maxsize=1)
def espeak_voices() -> dict[str, str]:
    """Language code in lower case (`tr`, `en-us`, `cmn`) -> name of espeak-ng's voice file.

    Raises:
        OptionError: espeak-ng is not installed.
    """
    voices: dict[str, str] = {}
    for path in sorted(Path(_loader().get_data_path(), "lang").rglob("*")):
        if not path.is_file():
            continue
        voices.setdefault(path.name.lower(), path.name)
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            words = line.split()
            if len(words) >= 2 and words[0] == "language":
                voices.setdefault(words[1].lower(), path.name)
    return voices


def _find_voice(language: str) -> str:
    """espeak-ng's voice for `language`.

    Raises:
        OptionError: there is none; names the nearest ones.
    """
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
    """Call it: `make_phonemizer("tr")("merhaba dünya")` is "m ɛ r h a b a | d ø n j a". Picklable, thread-safe.

    Attributes:
        language: as the user wrote it.
        voice: espeak-ng's voice, see `espeak_voices`.
        word_delimiter_token: stands between two words; None: nothing does.
    """

    language: str
    voice: str
    word_delimiter_token: str | None = "|"

    def __call__(self, text: str) -> str:
        """Phones of `text` in IPA, separated by one space, without stress; punctuation is silent. May be empty."""
        words = []
        for word in _text_to_phonemes(text, self.voice).split():
            phones = _STRESS.sub("", word).replace(_PHONE_SEPARATOR, " ").split()
            if phones:
                words.append(" ".join(phones))
        delimiter = f" {self.word_delimiter_token} " if self.word_delimiter_token else " "
        return delimiter.join(words)

    def describe(self) -> str:
        """One line for score files."""
        return (
            f"phones by espeak-ng, voice {self.voice}, IPA without stress, words apart by {self.word_delimiter_token}"
        )


def make_phonemizer(language: str, *, word_delimiter_token: str | None = "|") -> Phonemizer:
    """Phonemizer for `language`, checked now, so that a wrong one is met at start-up.

    Args:
        language: `--phoneme_language`: espeak-ng's code (`tr`, `en-gb`), or any spelling that `find_language` knows
            (`sv-SE`, `tur`, `german`). `en` is `en-us`.
        word_delimiter_token: stands between two words.

    Raises:
        OptionError: espeak-ng is not installed, or has no such language.
    """
    phonemizer = Phonemizer(language, _find_voice(language), word_delimiter_token)
    phonemizer("a")
    return phonemizer


def _text_to_phonemes(text: str, voice: str) -> str:
    """espeak-ng's line: words apart by a space, phones by an underscore, language flags removed."""
    import ctypes

    clauses = []
    with _lock:
        library = _initialised_library()
        # Set anew each time (microseconds): the library is global, and a synthesiser may use it beside us.
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise OptionError(f"espeak-ng can't load its voice '{voice}'.")
        rest = ctypes.c_char_p(text.replace("\0", " ").encode("utf-8", "replace"))
        mode = ord(_PHONE_SEPARATOR) << 8 | _PHONEMES_IPA
        while rest.value is not None:  # one clause a call; the pointer is null after the last
            clause = library.espeak_TextToPhonemes(ctypes.byref(rest), _CHARS_UTF8, mode)
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
class TimitPhones:
    """Normaliser of TIMIT's own labels: folded from 61 to 39 classes."""

    def __call__(self, text: str) -> str:
        return fold_timit(text)

    def describe(self) -> str:
        """One line for score files."""
        return "TIMIT's phone labels, folded from 61 to 39 classes (Lee and Hon 1989)"

    def hash(self) -> str:
        """12 hexadecimal digits of `describe()`."""
        return hashlib.sha256(self.describe().encode()).hexdigest()[:12]


def fold_timit(phones: str) -> str:
    """TIMIT phone labels folded from 61 (or 48) to 39.

    Args:
        phones: labels separated by white space, as in a .PHN file's third column, any case.

    Returns:
        Labels separated by one space; "q" is gone. Folding twice changes nothing.

    Raises:
        TextError: a label that TIMIT doesn't have.

    Source: see `TIMIT_FOLDING`.
    """
    folded = []
    for phone in phones.lower().split():
        if phone not in TIMIT_FOLDING:
            raise TextError(f"'{phone}' is none of TIMIT's 61 phone labels, in: {phones[:80]}")
        folded.append(TIMIT_FOLDING[phone])
    return " ".join(phone for phone in folded if phone)
