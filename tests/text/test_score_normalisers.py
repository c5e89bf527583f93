"""Normalisers of scores: Whisper's own, without what they do to combining marks."""

from __future__ import annotations

import unicodedata

import pytest

from speechtune.errors import OptionError
from speechtune.text.score_normalisers import AsWritten, WhisperBasic, score_normaliser


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Günaydın, [gülüyor] nasılsın? (evet)", "günaydın nasılsın"),
        ("¿Qué tal—bien?", "qué tal bien"),
        ("It's 5 % off!", "it s 5 off"),
        ("नमस्ते, दुनिया।", "नमस्ते दुनिया"),
        ("สวัสดีครับ ที่นี่", "สวัสดีครับ ที่นี่"),
        ("İstanbul", "istanbul"),
    ],
)
def test_whisper_basic_removes_signs_and_keeps_vowel_signs(text, expected):
    assert WhisperBasic()(text) == unicodedata.normalize("NFKC", expected)


def test_without_combining_marks_it_is_transformers_own():
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer

    for text in ("Dün, <b>gece</b> 3½ saat “uyudum” …", "Où est-il? Là-bas!", "A\u030angstro\u0308m №5 — ½"):
        assert WhisperBasic()(text) == BasicTextNormalizer()(text).strip()
    assert WhisperBasic()("ọ́jọ́") == unicodedata.normalize("NFKC", "ọ́jọ́") != BasicTextNormalizer()("ọ́jọ́")


def test_whisper_english_has_one_form_of_numbers_contractions_and_spellings():
    pytest.importorskip("whisper_normalizer")
    normalise = score_normaliser("whisper-english", "en")
    assert normalise("Uh, Mr. Smith won't pay twenty-five dollars for the COLOUR.") == (
        "mister smith will not pay $25 for the color"
    )
    assert "spellings " in normalise.describe()
    with pytest.raises(OptionError, match="whisper-basic"):
        score_normaliser("whisper-english", "tr")


def test_none_keeps_case_and_punctuation():
    assert AsWritten()("  Hello,\u200e World! ") == "Hello, World!"


def test_names_and_versions_are_in_the_description_and_the_hash():
    names = ("none", "whisper-basic")
    assert [score_normaliser(name, None).describe().partition(":")[0] for name in names] == [
        "none 1",
        "whisper-basic 1",
    ]
    assert len({score_normaliser(name, None).hash() for name in names}) == 2
