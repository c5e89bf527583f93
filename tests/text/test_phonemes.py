"""Phones from text, and TIMIT's folding."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from speechtune.errors import OptionError, TextError
from speechtune.text import phonemes
from speechtune.text.phonemes import TIMIT_FOLDING, fold_timit, make_phonemizer


@pytest.fixture
def espeak() -> None:
    pytest.importorskip("espeakng_loader", reason="needs the extra: pip install speechtune[phonemes]")


@pytest.mark.usefixtures("espeak")
class TestPhonemizer:
    def test_phones_are_apart_by_spaces_and_words_by_the_delimiter(self):
        assert make_phonemizer("tr")("merhaba dünya") == "m ɛ r h a b a | d ø n j a"

    def test_words_need_no_delimiter(self):
        assert make_phonemizer("tr", word_delimiter_token=None)("bir iki") == "b ɪ r i k ɪ"

    def test_punctuation_clauses_and_language_flags_leave_no_trace(self):
        assert make_phonemizer("tr")("evet, hayır! \n evet.") == "e v ɛ t | h a j ɯ r | e v ɛ t"
        assert "(" not in make_phonemizer("hi")("नमस्ते computer")

    @pytest.mark.parametrize("text", ["", " ", "...", "\0"])
    def test_silent_text_has_no_phones(self, text: str):
        assert make_phonemizer("tr")(text) == ""

    @pytest.mark.parametrize(
        ("language", "voice"),
        [
            ("tr", "tr"),
            ("it", "it"),
            ("sv-SE", "sv"),
            ("tur", "tr"),
            ("german", "de"),
            ("en", "en-US"),
            ("en-gb", "en"),
        ],
    )
    def test_corpus_codes_find_their_voice(self, language: str, voice: str):
        assert make_phonemizer(language).voice == voice

    def test_unknown_language_names_near_ones(self):
        with pytest.raises(
            OptionError, match=r"--phoneme_language turkisch: espeak-ng has no such.*\nNear: tr \(Turkish\)"
        ):
            make_phonemizer("turkisch")
        with pytest.raises(OptionError, match=r"--phoneme_language yor \(Yoruba\)"):
            make_phonemizer("yor")

    def test_two_languages_do_not_disturb_each_other_in_threads(self):
        turkish, swedish = make_phonemizer("tr"), make_phonemizer("sv")
        expected = {turkish: turkish("bugün hava güzel"), swedish: swedish("bugün hava güzel")}
        assert len(set(expected.values())) == 2
        with ThreadPoolExecutor(8) as pool:
            jobs = [(one, pool.submit(one, "bugün hava güzel")) for one in [turkish, swedish] * 100]
            assert all(job.result() == expected[one] for one, job in jobs)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_works_after_a_fork_even_while_the_lock_is_held(self):
        phonemizer = make_phonemizer("tr")
        expected = phonemizer("merhaba")
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        with phonemes._lock:
            child = context.Process(target=lambda: queue.put(phonemizer("merhaba")))
            child.start()
        child.join(20)
        assert child.exitcode == 0
        assert queue.get() == expected

    def test_data_at_a_path_too_long_for_the_library_is_found_by_a_link(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        import espeakng_loader

        deep = tmp_path / ("long" * 40) / "espeak-ng-data"
        deep.parent.mkdir()
        deep.symlink_to(espeakng_loader.get_data_path(), target_is_directory=True)
        monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(deep))
        phonemes._initialised_library.cache_clear()
        assert make_phonemizer("tr")("ev") == "ɛ v"
        phonemes._initialised_library.cache_clear()

    def test_phonemizer_travels_to_worker_processes(self):
        phonemizer = pickle.loads(pickle.dumps(make_phonemizer("tr")))
        assert phonemizer("ev") == "ɛ v"


def test_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    phonemes.espeak_voices.cache_clear()
    with pytest.raises(OptionError, match=r'pip install "speechtune\[phonemes\]"'):
        make_phonemizer("tr")


def test_timit_has_61_labels_that_fold_to_39():
    table = (
        "iy ih eh ey ae aa aw ay ah ao oy ow uh uw ux er ax ix axr ax-h jh ch b d g p t k dx q bcl dcl gcl pcl tcl kcl "
        "s sh z zh f th v dh m n ng em en eng nx l r w y hh hv el h# pau epi"
    )
    labels = table.split()
    assert len(labels) == 61
    assert len({TIMIT_FOLDING[label] for label in labels} - {""}) == 39
    assert set(TIMIT_FOLDING) - set(labels) == {"cl", "vcl", "sil"}


def test_timit_folding_deletes_the_glottal_stop_and_is_idempotent():
    folded = fold_timit("h# sh ix hv eh dcl jh ih q AX-H zh epi h#")
    assert folded == "sil sh ih hh eh sil jh ih ah sh sil sil"
    assert fold_timit(folded) == folded


def test_a_label_that_timit_lacks_is_named():
    with pytest.raises(TextError, match="'qq' is not one of TIMIT's 61 phone labels, in: sh qq"):
        fold_timit("sh qq")
