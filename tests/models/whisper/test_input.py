"""Whisper's log-mel: on the real frames only, and yet what the feature extractor of transformers gives."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from transformers import WhisperFeatureExtractor

from speechtune.errors import AudioError
from speechtune.models.whisper.context import EncoderContext
from speechtune.models.whisper.input import WhisperInput


@cache
def extractor() -> WhisperFeatureExtractor:
    return WhisperFeatureExtractor(feature_size=80)


def noise(num_samples: int, *, scale: float = 0.3) -> np.ndarray:
    return (scale * np.random.default_rng(num_samples).standard_normal(num_samples)).astype(np.float32)


def reference(samples: np.ndarray) -> np.ndarray:
    return extractor()(samples, sampling_rate=16000, return_tensors="np").input_features[0]


@pytest.mark.parametrize("scale", [0.3, 1e-4, 0.0])  # silence is clamped by the loudest bin; it is not; all is silence
@pytest.mark.parametrize("num_samples", [1, 160, 199, 201, 16_000, 80_123, 479_801, 479_999, 480_000])
def test_padded_features_are_the_extractors(num_samples: int, scale: float):
    model_input = WhisperInput(extractor())
    samples = noise(num_samples, scale=scale)
    padded = model_input.pad([model_input.features(samples)])["input_features"][0]
    assert padded.shape == (80, 3000)
    assert np.abs(padded - reference(samples)).max() < 2e-7


def test_only_real_frames_are_computed():
    features = WhisperInput(extractor()).features(noise(80_000))
    assert features.shape == (503, 80)  # 5 s, what half a window smears, one frame of silence


def test_padding_of_a_batch_follows_each_clips_own_silence():
    model_input = WhisperInput(extractor())
    clips = [noise(16_000), noise(48_000, scale=1e-3)]
    padded = model_input.pad([model_input.features(clip) for clip in clips])["input_features"]
    for row, clip in zip(padded, clips, strict=True):
        assert np.abs(row - reference(clip)).max() < 2e-7


def test_a_short_context_pads_no_further_than_the_batch_needs():
    context = EncoderContext(margin_s=1.0)
    model_input = WhisperInput(extractor(), frames=context.frames)
    clips = [noise(16_000), noise(48_000)]
    padded = model_input.pad([model_input.features(clip) for clip in clips])["input_features"]
    assert padded.shape == (2, 80, 500)
    for row, clip in zip(padded, clips, strict=True):
        assert np.abs(row - reference(clip)[:, :500]).max() < 2e-7


def test_training_refuses_over_30_s_and_recognition_keeps_every_frame():
    samples = noise(700_123)
    with pytest.raises(AudioError, match="30 s") as caught:
        WhisperInput(extractor(), no_longer=True).features(samples)
    assert caught.value.reason == "too_long"
    whole = extractor()(samples, sampling_rate=16000, truncation=False, padding="longest", return_tensors="np")
    np.testing.assert_allclose(WhisperInput(extractor()).features(samples).T, whole.input_features[0], atol=2e-7)


def test_the_mask_for_specaugment_covers_the_clips_frames():
    model_input = WhisperInput(extractor(), mask=True)
    padded = model_input.pad([model_input.features(noise(n)) for n in (16_000, 480_000)])
    assert padded["attention_mask"].sum(1).tolist() == [103, 3000]
    assert "attention_mask" not in WhisperInput(extractor()).pad([model_input.features(noise(16_000))])


def test_dither_leaves_no_constant_silence_to_rely_on():
    dithered = WhisperFeatureExtractor(feature_size=80, dither=1e-3)
    assert WhisperInput(dithered).features(noise(16_000)).shape == (3000, 80)
