"""One short code for every spelling of a language."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechtune.text import languages
from speechtune.text.languages import find_language, language_of, near_languages


@pytest.mark.parametrize(
    ("config_name", "code"),
    [
        ("tr", "tr"),  # Common Voice
        ("sv-SE", "sv"),
        ("zh-HK", "zh"),
        ("rm-sursilv", "rm"),
        ("tr_tr", "tr"),  # FLEURS
        ("cmn_hans_cn", "zh"),
        ("german", "de"),  # MLS
        ("en_accented", "en"),  # VoxPopuli
        ("azj-script_latin", "az"),  # MMS
        ("tur", "tr"),
        ("<|hi|>", "hi"),  # Whisper
        ("Haitian Creole", "ht"),
        ("kmr", "ku"),
        ("nan-tw", "nan"),  # not in the table: handed through
        ("clean", None),  # LibriSpeech
        ("all", None),
        ("", None),
        (None, None),
    ],
)
def test_config_names_of_the_corpora(config_name: str | None, code: str | None):
    assert language_of(config_name) == code


def test_the_target_language_wins_over_the_config():
    assert language_of("sw", "swe") == "sv"
    assert language_of("sw") == "sw"


def test_sw_is_swahili_and_not_swedish():
    language = find_language("sw")
    assert language is not None
    assert (language.name, language.iso3) == ("Swahili", "swa")


def test_every_language_that_whisper_names_is_known():
    from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

    assert [name for name in (*LANGUAGES, *TO_LANGUAGE_CODE) if find_language(name) is None] == []


def test_near_languages_are_found_by_code_and_by_name():
    assert near_languages("turkisch", ["tr", "tk", "de", "sv"])[0] == "tr (Turkish)"
    assert near_languages("swe", ["tr", "sv"]) == ["sv (Swedish)"]


def test_no_spelling_in_the_table_names_two_languages():
    owners: dict[str, set[str]] = {}
    for line in Path(languages.__file__).with_name("languages.txt").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            row, _, others = line.partition("; ")
            code, iso3, name = row.split(" ", 2)
            for spelling in (code, iso3, name.lower(), *filter(None, others.split(", "))):
                owners.setdefault(spelling, set()).add(code)
    assert len(owners) == 604
    assert {spelling: codes for spelling, codes in owners.items() if len(codes) > 1} == {}


@pytest.mark.parametrize("spelling", ["", " ", "-", "<||>", "xx", "klingon"])
def test_what_names_no_language_is_unknown(spelling: str):
    assert find_language(spelling) is None
