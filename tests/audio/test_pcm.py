"""16 bits and floating point: exact where they can be, to the nearest where not."""

from __future__ import annotations

import numpy as np

from speechtune.audio.pcm import dequantise, full_scale, quantise


def test_every_16_bit_value_comes_back_exactly():
    pcm = np.arange(-32768, 32768).astype(np.int16)
    np.testing.assert_array_equal(quantise(dequantise(pcm)), pcm)
    assert dequantise(pcm).dtype == np.float32
    assert dequantise(pcm)[0] == -1.0


def test_rounding_is_to_the_nearest_and_clips():
    samples = np.array([0.0, 0.4, 0.6, 1.5, 2.5, -0.6, 40000, -40000], np.float32) / 32768
    np.testing.assert_array_equal(quantise(samples), [0, 0, 1, 2, 2, -1, 32767, -32768])
    assert np.abs(dequantise(quantise(samples[:6])) - samples[:6]).max() <= 0.5 / 32768


def test_what_needs_no_change_is_given_back_as_it_is():
    samples, pcm = np.zeros(3, np.float32), np.zeros(3, np.int16)
    assert dequantise(samples) is samples
    assert quantise(pcm) is pcm


def test_full_scale_is_what_stands_for_one():
    assert full_scale(np.zeros(1, np.float32)) == 1.0
    assert dequantise(np.array([-full_scale(np.zeros(1, np.int16))], np.int16)).tolist() == [-1.0]
