"""Samples become what transformers' own feature extractors make of them, to the bit, each recording by itself."""

from __future__ import annotations

from typing import Any

import audio_files
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from speechtune.audio.samples import dequantise
from speechtune.errors import ModelError
from speechtune.models.inputs import FbankInput, WaveformInput, input_for

RATE = 16_000
LENGTHS = [1, 2, 7, 8, 127, 128, 129, 400, 4_096, 16_001, 100_003]


def noise(num_samples: int, *, scale: float = 0.1, mean: float = 0.0, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (mean + scale * random.standard_normal(num_samples)).astype(np.float32)


def theirs(extractor: Any, samples: np.ndarray) -> np.ndarray:
    return np.asarray(extractor(samples, sampling_rate=RATE)["input_values"][0], np.float32)


def ours(extractor: Any, samples: np.ndarray) -> np.ndarray:
    """What a model is given of one recording."""
    waveform = WaveformInput(extractor)
    return waveform.pad([waveform.features(samples)])["input_values"][0]


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    return left.dtype == right.dtype == np.float32 and left.tobytes() == right.tobytes()


# ---- one recording


@pytest.mark.parametrize("num_samples", LENGTHS)
def test_normalised_samples_are_those_of_transformers_to_the_bit(num_samples: int):
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    for samples in (noise(num_samples), noise(num_samples, mean=0.5), audio_files.voice(num_samples / RATE, RATE)):
        assert same_bits(ours(extractor, samples), theirs(extractor, samples))


@settings(max_examples=60, deadline=None)
@given(
    num_samples=st.integers(1, 3_000),
    scale=st.sampled_from([0.0, 1e-8, 1e-4, 0.1, 1.0, 8.0]),
    mean=st.sampled_from([0.0, 1e-3, -0.9]),
    seed=st.integers(0, 99),
)
def test_normalised_samples_are_those_of_transformers_at_any_loudness(num_samples, scale, mean, seed):
    samples = noise(num_samples, scale=scale, mean=mean, seed=seed)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    assert same_bits(ours(extractor, samples), theirs(extractor, samples))


@pytest.mark.parametrize("do_normalize", [True, False])
def test_16_bit_samples_become_what_their_values_become(do_normalize: bool):
    extractor = Wav2Vec2FeatureExtractor(do_normalize=do_normalize)
    pcm = np.random.default_rng(0).integers(-32768, 32768, 5_001).astype(np.int16)
    assert same_bits(ours(extractor, pcm), theirs(extractor, dequantise(pcm)))
    banks = FbankInput(SeamlessM4TFeatureExtractor())
    assert same_bits(banks.features(pcm), banks.features(dequantise(pcm)))


def test_silence_stays_silence_and_nothing_is_divided_by_zero():
    made = ours(Wav2Vec2FeatureExtractor(do_normalize=True), np.full(100, 0.25, np.float32))
    assert made.tolist() == [0.0] * 100


def test_the_samples_given_are_not_changed():
    samples = noise(1000)
    before = samples.copy()
    ours(Wav2Vec2FeatureExtractor(do_normalize=True), samples)
    assert same_bits(samples, before)


def test_without_normalisation_samples_are_as_they_were():
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False)
    samples = noise(1000, mean=0.5)
    assert same_bits(ours(extractor, samples), samples)
    assert same_bits(theirs(extractor, samples), samples)


@pytest.mark.parametrize("num_samples", [560, 720, 16_000, 16_161, 31_999])
def test_filter_banks_are_those_of_transformers_without_its_padding(num_samples: int):
    extractor = SeamlessM4TFeatureExtractor()
    samples = audio_files.voice(num_samples / RATE, RATE, seed=2)
    made = extractor(samples, sampling_rate=RATE, return_attention_mask=True)
    real = int(np.asarray(made["attention_mask"][0]).sum())
    features = FbankInput(extractor).features(samples)
    assert features.shape == (real, 160) and real <= len(np.asarray(made["input_features"][0]))
    assert same_bits(features, np.asarray(made["input_features"][0], np.float32)[:real])


# ---- several


def test_padding_and_mask_are_those_of_transformers():
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    clips = [noise(400, seed=1), noise(1000, seed=2), noise(999, seed=3)]
    ours = WaveformInput(extractor)
    padded = ours.pad([ours.features(clip) for clip in clips])
    expected = extractor(clips, sampling_rate=RATE, padding=True, return_tensors="np")
    assert same_bits(padded["input_values"], expected["input_values"].astype(np.float32))
    assert np.array_equal(padded["attention_mask"], expected["attention_mask"])
    assert padded["attention_mask"].dtype == np.int32


def test_filter_banks_are_padded_behind_the_real_frames():
    ours = FbankInput(SeamlessM4TFeatureExtractor())
    features = [ours.features(audio_files.voice(s, RATE)) for s in (0.5, 1.0)]
    padded = ours.pad(features)
    assert padded["input_features"].shape == (2, len(features[1]), 160)
    assert padded["attention_mask"].sum(1).tolist() == [len(f) for f in features]
    assert not padded["input_features"][0, len(features[0]) :].any()


@pytest.mark.parametrize(("min_length", "has_mask"), [(0, False), (5, False), (6, True)])
def test_a_mask_is_there_only_where_something_was_padded(min_length: int, has_mask: bool):
    ours = WaveformInput(Wav2Vec2FeatureExtractor(return_attention_mask=True))
    padded = ours.pad([noise(5), noise(5, seed=1)], min_length=min_length)
    assert ("attention_mask" in padded) is has_mask
    assert padded["input_values"].shape == (2, max(5, min_length))


@pytest.mark.parametrize(
    ("padding", "of_checkpoint", "has_mask"),
    [("invariant", False, True), ("invariant", True, True), ("original", False, False), ("original", True, True)],
)
def test_original_padding_has_a_mask_only_where_the_checkpoint_asks_for_it(padding, of_checkpoint, has_mask):
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=of_checkpoint)
    padded = input_for(extractor, padding=padding).pad([noise(5), noise(4)])
    assert ("attention_mask" in padded) is has_mask


def test_padding_has_the_checkpoints_own_value():
    padded = WaveformInput(Wav2Vec2FeatureExtractor(padding_value=-1.0)).pad([noise(3), noise(1)])
    assert padded["input_values"][1, 1:].tolist() == [-1.0, -1.0]


def test_an_empty_recording_is_all_padding():
    padded = WaveformInput(Wav2Vec2FeatureExtractor()).pad([np.zeros(0, np.float32)], min_length=4)
    assert padded["input_values"].tolist() == [[0.0] * 4] and padded["attention_mask"].tolist() == [[0] * 4]


# ---- which


def test_the_extractors_class_and_rate_decide():
    waveform = input_for(Wav2Vec2FeatureExtractor(sampling_rate=8_000))
    assert (type(waveform), waveform.name, waveform.sampling_rate) == (WaveformInput, "input_values", 8_000)
    banks = input_for(SeamlessM4TFeatureExtractor())
    assert (type(banks), banks.name, banks.sampling_rate) == (FbankInput, "input_features", 16_000)


def test_an_extractor_of_another_kind_is_named():
    with pytest.raises(ModelError, match="Feature extractor WhisperFeatureExtractor"):
        input_for(WhisperFeatureExtractor())


@pytest.mark.parametrize("num_samples", [1, 100, 239, 240, 399, 559])
def test_a_recording_of_a_few_milliseconds_is_one_frame(num_samples: int):
    features = input_for(SeamlessM4TFeatureExtractor()).features(noise(num_samples))
    assert features.shape == (1, 160) and np.isfinite(features).all()
