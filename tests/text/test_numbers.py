"""Numbers written out: Unicode's words, in the places where figures stood."""

from __future__ import annotations

import sys

import pytest

from speechtune.errors import OptionError
from speechtune.text.normalise import Normaliser
from speechtune.text.numbers import numbers_spelled, spell_numbers
from speechtune.text.score_normalisers import WhisperBasic, score_normaliser

pytest.importorskip("unicode_rbnf", reason="the extra scores is not installed")


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "no figures", "no figures"),
        (
            "en",
            "21 of 1,200 and 1,234.5",
            "twenty-one of one thousand two hundred and one thousand two hundred thirty-four point five",
        ),
        ("en", "A4, 5km, x²", "A four, five km, x²"),
        ("en", "18:30 on 1.5.2024", "eighteen: thirty on one. five. two thousand twenty-four"),
        ("en", "007", "zero zero seven"),
        ("tr", "1994'te 123 kişi", "bin dokuz yüz doksan dört'te yüz yirmi üç kişi"),
        ("de", "1.234,5 und 21", "eintausendzweihundertvierunddreißig Komma fünf und einundzwanzig"),
        ("hi", "१२३", "एक सौ तेईस"),
        ("zh", "3个", "三个"),
        ("nb", "21", "tjueén"),
    ],
)
def test_figures_become_words_of_the_language(language, text, expected):
    assert spell_numbers(text, language) == expected


def test_numbers_are_written_out_before_signs_are_removed_and_the_protocol_says_so():
    normalise = numbers_spelled(WhisperBasic(), "en")
    assert normalise("It's 1,200!") == "it s one thousand two hundred" != WhisperBasic()("It's 1,200!")
    assert "numbers written out (en, unicode-rbnf " in normalise.describe()
    others = (WhisperBasic(), numbers_spelled(WhisperBasic(), "tr"), numbers_spelled(Normaliser(), "en"))
    assert normalise.hash() not in {other.hash() for other in others}


def test_what_it_can_not_do_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(OptionError, match=r"has no rules that spell numbers in 'eu'. Leave it out"):
        numbers_spelled(Normaliser(), "eu")
    with pytest.raises(OptionError, match=r"is not known. Give --language"):
        numbers_spelled(Normaliser(), None)
    pytest.importorskip("whisper_normalizer")
    with pytest.raises(OptionError, match="whisper-english writes numbers as figures"):
        numbers_spelled(score_normaliser("whisper-english", "en"), "en")
    monkeypatch.setitem(sys.modules, "unicode_rbnf", None)
    with pytest.raises(OptionError, match=r"pip install 'speechtune\[scores\]'"):
        numbers_spelled(Normaliser(), "sv")
