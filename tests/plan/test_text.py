"""What is done to transcripts and to hypotheses before they are scored."""

from __future__ import annotations

from speechtune.options.table import Settings
from speechtune.plan.text import text_normaliser


def test_hypotheses_are_normalised_as_transcripts_are():
    normalise, of_hypotheses = text_normaliser(Settings(chars_to_ignore=("!",)), "tr", "ctc")
    assert normalise("İYİ!").strip() == of_hypotheses("İYİ!").strip() == "iyi"


def test_phonemes_are_made_of_normalised_text_and_hypotheses_are_phonemes_already():
    settings = Settings(chars_to_ignore=("!",), phoneme_language="tr")
    normalise, of_hypotheses = text_normaliser(settings, "tr", "ctc")
    plain, _ = text_normaliser(Settings(chars_to_ignore=("!",)), "tr", "ctc")
    assert normalise("İYİ!") == normalise("iyi") != "" and of_hypotheses("İ Y") == "İ Y"
    assert normalise.describe().startswith(plain.describe()) and normalise.hash() != plain.hash()
    assert len(normalise.hash()) == 12


def test_a_corpus_own_phones_are_folded_and_hypotheses_stay():
    normalise, of_hypotheses = text_normaliser(Settings(text_column_name="phones"), None, "ctc")
    assert normalise("h# ao r").split() == ["sil", "aa", "r"] and of_hypotheses("ao") == "ao"
