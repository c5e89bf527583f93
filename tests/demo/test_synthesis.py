"""The synthetic voices: the same words, the same samples."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from speechtune.demo import synthesis
from speechtune.demo.synthesis import SAMPLING_RATE, Speaker
from speechtune.errors import OptionError
from speechtune.text.espeak import is_installed
from speechtune.text.phonemes import make_phonemizer

needs_voices = pytest.mark.skipif(not is_installed(), reason="espeakng-loader, an optional part, is not installed")


def say(voice: str, text: str, **how: int) -> np.ndarray:
    with Speaker(voice) as speaker:
        return speaker.say(text, **how)


@needs_voices
def test_a_voice_says_the_same_whoever_spoke_before():
    first = say("tr+f2", "Merhaba dünya, nasılsın?")
    say("de+m3", "Etwas ganz anderes.")
    assert np.array_equal(first, say("tr+f2", "Merhaba dünya, nasılsın?"))


@needs_voices
def test_a_voice_says_the_same_after_a_phonemizer_used_the_library():
    expected = say("tr+f2", "Merhaba dünya, nasılsın?")
    make_phonemizer("de")("Etwas ganz anderes.")
    assert np.array_equal(expected, say("tr+f2", "Merhaba dünya, nasılsın?"))


@needs_voices
def test_speech_is_16_bit_mono_of_plausible_length_and_loudness():
    samples = say("tr", "Merhaba dünya.")
    assert samples.dtype == np.int16
    assert samples.ndim == 1
    assert 0.7 < len(samples) / SAMPLING_RATE < 2.0
    assert np.abs(samples).max() > 3000


@needs_voices
def test_a_higher_rate_is_shorter_and_a_higher_pitch_is_other_samples():
    slow, fast = (say("tr+m1", "Bugün hava çok güzel.", rate_wpm=rate) for rate in (120, 240))
    assert len(slow) > 1.5 * len(fast)
    low, high = (say("tr+m1", "Bugün hava çok güzel.", pitch=pitch) for pitch in (10, 90))
    assert not np.array_equal(low, high)


@needs_voices
def test_phonemes_come_with_their_first_sample_in_order():
    with Speaker("tr") as speaker:
        samples = speaker.say("Dağ.")
        phonemes = speaker.phonemes
    starts = [start for start, _ in phonemes]
    assert starts == sorted(starts)
    assert 0 <= starts[0] <= starts[-1] <= len(samples)
    assert phonemes[0][1] == "d"


@needs_voices
def test_nothing_said_before_is_said_again():
    with Speaker("tr") as speaker:
        speaker.say("Merhaba dünya, nasılsın?")
        assert len(speaker.say("Ev.")) < SAMPLING_RATE


@needs_voices
def test_voices_of_two_threads_wait_for_each_other():
    expected = say("tr+f1", "Bir, iki, üç.")
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(say("tr+f1", "Bir, iki, üç."))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.array_equal(expected, samples) for samples in found)


@needs_voices
def test_an_unknown_voice_is_an_error_that_names_it_and_leaves_the_library_free():
    with pytest.raises(OptionError, match="no voice 'xx-nowhere'"), Speaker("xx-nowhere"):
        pass
    assert len(say("tr", "Ev.")) > 0


@needs_voices
def test_data_at_a_path_too_long_for_the_library_is_found_by_a_link(tmp_path, monkeypatch):
    import espeakng_loader

    deep = tmp_path / ("long" * 40)
    deep.mkdir()
    (deep / "espeak-ng-data").symlink_to(espeakng_loader.get_data_path(), target_is_directory=True)
    expected = say("tr", "Ev.")
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(deep / "espeak-ng-data"))
    assert np.array_equal(expected, say("tr", "Ev."))


def test_without_the_optional_part_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "espeakng_loader", None)
    with pytest.raises(OptionError, match=r'pip install "speechtune\[phonemes\]"'), synthesis.Speaker("tr"):
        pass
    assert not synthesis._lock.locked()
