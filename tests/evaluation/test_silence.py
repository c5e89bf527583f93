"""The probe for text where nobody speaks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from speechtune.audio.samples import signal_problem
from speechtune.decoding import long_form
from speechtune.evaluation.silence import probe_clips, probe_silence


def test_the_clips_are_always_the_same_finite_and_only_silence_is_silent():
    clips, again = list(probe_clips(16_000)), list(probe_clips(16_000))
    assert len(clips) == 12 and {len(samples) for _, samples in clips} == {32_000, 128_000}
    for (kind, samples), (_, same) in zip(clips, again, strict=True):
        assert np.array_equal(samples, same) and np.abs(samples).max() <= 0.1 + 1e-6
        assert signal_problem(samples, 16_000) == ("silent" if kind == "silence" else None)


def test_words_are_counted_by_kind_after_normalising(monkeypatch: pytest.MonkeyPatch):
    model = torch.nn.Linear(1, 1).train()
    recogniser: Any = SimpleNamespace(model=model, sampling_rate=16_000)

    def heard(recogniser: Any, samples: Any, *, model: Any = None) -> str:
        assert not recogniser.model.training
        return "" if len(samples) == 32_000 else "Thank You. "

    monkeypatch.setattr(long_form, "transcribe_samples", heard)
    found = probe_silence(recogniser, normalise=str.lower)
    assert (found["clips"], found["clips_with_words"], found["words"], found["seconds"]) == (12, 6, 12, 60.0)
    assert found["by_kind"][0] == {"kind": "silence", "clips": 2, "words": 2, "texts": ["", "thank you."]}
    assert model.training
