"""Samples in 16 bits and floating point, and whether they may hold speech."""

from __future__ import annotations

import audio_files
import numpy as np

from speechtune.audio.samples import dequantise, quantise, signal_problem

RATE = 16000
VOICE = audio_files.voice(2.0, RATE)


def test_every_16_bit_value_comes_back_exactly():
    pcm = np.arange(-32768, 32768).astype(np.int16)
    np.testing.assert_array_equal(quantise(dequantise(pcm)), pcm)
    assert dequantise(pcm).dtype == np.float32
    assert dequantise(pcm)[0] == -1.0


def test_rounding_is_to_the_nearest_and_clips():
    samples = np.array([0.0, 0.4, 0.6, 1.5, 2.5, -0.6, 40000, -40000], np.float32) / 32768
    np.testing.assert_array_equal(quantise(samples), [0, 0, 1, 2, 2, -1, 32767, -32768])
    assert np.abs(dequantise(quantise(samples[:6])) - samples[:6]).max() <= 0.5 / 32768


def test_what_needs_no_change_is_returned_as_it_is():
    samples, pcm = np.zeros(3, np.float32), np.zeros(3, np.int16)
    assert dequantise(samples) is samples
    assert quantise(pcm) is pcm


def test_signal_problems():
    silent_with_offset = np.full(RATE, 0.3, np.float32)
    with_nan = VOICE.copy()
    with_nan[5] = np.nan
    assert signal_problem(VOICE, RATE) is None
    assert signal_problem(np.zeros(RATE, np.float32), RATE) == "silent"
    assert signal_problem(silent_with_offset, RATE) == "silent"
    assert signal_problem(with_nan, RATE) == "non_finite"
    assert signal_problem(with_nan[:10], RATE) == "non_finite"
    assert signal_problem(VOICE[:399], RATE) == "too_short"
    assert signal_problem(VOICE[4000:4400], RATE) is None
    assert signal_problem(np.zeros(0, np.float32), RATE) == "too_short"
    assert signal_problem(np.clip(VOICE * 8, -1, 1), RATE) == "clipped"
    assert signal_problem(VOICE * (0.99 / np.abs(VOICE).max()), RATE) is None


def test_signal_problems_are_the_same_in_16_bits():
    for samples in (VOICE, VOICE[:399], np.zeros(RATE, np.float32), np.clip(VOICE * 8, -1, 1)):
        assert signal_problem(quantise(samples), RATE) == signal_problem(samples, RATE)
