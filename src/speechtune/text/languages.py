"""Recognise languages by any of their names: `tr`, `sv-SE`, `tr_tr`, `german`, `tur`, `<|hi|>` -> one short code.

Corpora and models spell languages in many ways (Common Voice locales, FLEURS, MLS' English names, MMS' ISO 639-3,
Whisper's names). Lower-casing, phonemes and messages need one spelling: the ISO 639-1 code, or the 639-3 code of a
language without one. The table is `languages.txt`. Rejected: `langcodes` and others, see docs/dependencies.md.
"""

from __future__ import annotations

import difflib
import functools
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Language", "find_language", "language_of", "near_languages"]

_NOT_CODES = {"all", "raw", "dev"}  # names of configs that only look like a code


@dataclass(frozen=True, slots=True)
class Language:
    """A language: `code` as short as ISO 639 allows, `iso3` its ISO 639-3 code, `name` in English."""

    code: str
    iso3: str
    name: str


@functools.lru_cache(maxsize=1)
def _languages() -> dict[str, Language]:
    """Return all languages of `languages.txt` by each of their spellings in lower case."""
    table: dict[str, Language] = {}
    aliases: dict[str, Language] = {}
    for line in Path(__file__).with_name("languages.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        row, _, others = line.partition("; ")
        code, iso3, name = row.split(" ", 2)
        table[code] = table[iso3] = table[name.lower()] = language = Language(code, iso3, name)
        aliases |= dict.fromkeys(filter(None, others.split(", ")), language)
    return aliases | table


def find_language(spelling: str) -> Language | None:
    """Return the language of a spelling, or None if it is unknown.

    Understands codes (`tr`, `tur`), locales (`sv-SE`, `tr_tr`, `cmn_hans_cn`), MMS' scripts (`azj-script_latin`),
    English names (`german`, `Haitian Creole`) and Whisper's tokens (`<|hi|>`). `sw` is Swahili, not Swedish.
    """
    key = spelling.strip().removeprefix("<|").removesuffix("|>").strip().lower()
    table = _languages()
    return table.get(key) or table.get(re.split("[-_]", key)[0])


def language_of(config_name: str | None, target_language: str | None = None) -> str | None:
    """Return the short code of the language to recognise, or None if neither argument names one.

    Args:
        config_name: config of the corpus (`tr`, `sv-SE`, `german`; LibriSpeech's `clean` names none).
        target_language: `--target_language` or `--language`; overrides the config.

    Returns:
        `tr`, `sv`, `de`, ...; an unknown code of two or three letters is returned in lower case.
    """
    for spelling in (target_language, config_name):
        if not spelling:
            continue
        if language := find_language(spelling):
            return language.code
        head = re.split("[-_]", spelling.strip().lower())[0]
        if re.fullmatch("[a-z]{2,3}", head) and head not in _NOT_CODES:
            return head
    return None


def near_languages(spelling: str, codes: list[str]) -> list[str]:
    """Return up to five of `codes` whose code or name resembles `spelling`, nearest first, as `tr (Turkish)`."""
    key = spelling.strip().lower()
    candidates: dict[str, str] = {}
    for code in codes:
        candidates[code.lower()] = code
        if language := find_language(code):
            candidates.setdefault(language.name.lower(), code)
            candidates.setdefault(language.iso3, code)
    matches = difflib.get_close_matches(key, candidates, n=8, cutoff=0.5)
    matches += [name for name in sorted(candidates) if name[:1] == key[:1] and len(name) <= 3]
    nearest = list(dict.fromkeys(candidates[match] for match in matches))[:5]
    found = {code: find_language(code) for code in nearest}
    return [f"{code} ({language.name})" if language else code for code, language in found.items()]
