"""What is done to transcripts and to hypotheses before they are scored."""

from __future__ import annotations

import pytest

from speechtune.errors import OptionError
from speechtune.options.table import Settings
from speechtune.plan.text import protocol_normaliser, text_normaliser


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


def test_a_normaliser_of_scores_changes_no_transcript_and_describes_the_scores():
    normalise, of_hypotheses = text_normaliser(Settings(normaliser="whisper-basic"), "tr", "ctc")
    assert normalise("İYİ, (o)!") == "iyi, (o)!" and of_hypotheses("İYİ, (o)!") == "iyi"
    described = protocol_normaliser(Settings(normaliser="whisper-basic"), "tr", "ctc")
    assert described.describe().startswith("whisper-basic 1: ")
    assert protocol_normaliser(Settings(), "tr", "ctc") == text_normaliser(Settings(), "tr", "ctc")[0]


def test_numbers_are_written_out_in_scores_only():
    pytest.importorskip("unicode_rbnf", reason="the extra scores is not installed")
    normalise, of_scores = text_normaliser(Settings(spell_numbers=True, chars_to_ignore=("!",)), "tr", "ctc")
    assert normalise("On 2!") == "on 2" and of_scores("On 2!") == "on iki"
    _, of_scores = text_normaliser(Settings(spell_numbers=True, normaliser="none"), "tr", "seq2seq")
    assert of_scores("On 2!") == "On iki!"
    with pytest.raises(OptionError, match="--protocol readme scores as the original scripts did"):
        text_normaliser(Settings(spell_numbers=True, protocol="readme"), "tr", "ctc")
    with pytest.raises(OptionError, match="--spell_numbers is for words"):
        text_normaliser(Settings(spell_numbers=True, phoneme_language="tr"), "tr", "ctc")


def test_phones_have_no_normaliser_of_scores():
    with pytest.raises(OptionError, match="--normaliser none is for words"):
        text_normaliser(Settings(normaliser="none", phoneme_language="tr"), "tr", "ctc")
