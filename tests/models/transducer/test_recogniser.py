"""Words of transducers have the times at which their tokens are emitted."""

from __future__ import annotations

from pathlib import Path

import audio_files
import numpy as np
import pytest
import torch
from tiny_checkpoints import build

from speechtune.decoding.long_form import transcript_of
from speechtune.models.recogniser import seconds_per_frame
from speechtune.models.transducer.recogniser import TransducerRecogniser
from speechtune.models.transducer.setup import load_transducer
from speechtune.options.table import Settings

RATE = 16_000


@pytest.fixture(scope="module", params=["parakeet_tdt", "parakeet_rnnt", "nemotron_asr_streaming"])
def recogniser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TransducerRecogniser:
    folder: Path = tmp_path_factory.mktemp("models") / request.param
    found = load_transducer(Settings(model_name_or_path=str(build(folder, request.param))))
    found.model.eval()
    return found


def test_words_start_and_end_as_transformers_says_of_their_tokens(recogniser: TransducerRecogniser):
    samples = audio_files.voice(4.0, RATE, seed=3)
    found = transcript_of(recogniser, samples)
    assert " ".join(word.text for word in found.words) == found.text != ""
    inputs = recogniser.processor(samples, sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        made = recogniser.model.generate(**inputs)
    if recogniser.model.config.model_type.startswith("nemotron"):  # its processor tells no times
        return
    _, (tokens,) = recogniser.processor.decode(made.sequences, durations=made.durations, skip_special_tokens=True)
    starts = [round(token["start"], 4) for token in tokens]
    ends = [round(token["end"], 4) for token in tokens]
    assert all(round(word.start_s, 4) in starts for word in found.words)
    assert all(round(word.end_s, 4) in ends or round(word.end_s - seconds_per_frame(recogniser), 4) in starts
               for word in found.words)  # fmt: skip
    first = next(token["start"] for token in tokens if token["token"].strip())
    assert found.words[0].start_s == pytest.approx(first)


def test_confidence_is_the_mean_probability_of_the_tokens(recogniser: TransducerRecogniser):
    """By the joint network's logits at each emission."""
    samples = audio_files.voice(2.0, RATE, seed=5)
    logits: list[torch.Tensor] = []
    hook = recogniser.model.joint.register_forward_hook(lambda module, args, output: logits.append(output))
    found = transcript_of(recogniser, samples)
    hook.remove()
    vocabulary = recogniser.model.config.vocab_size
    best = [float(row.flatten()[:vocabulary].log_softmax(-1).max().exp()) for row in logits]
    for word in found.words:
        assert word.confidence is not None and min(best) - 1e-5 <= word.confidence <= max(best) + 1e-5


def test_words_of_a_long_recording_are_where_their_speech_is(recogniser: TransducerRecogniser):
    voice = audio_files.voice(20.0, RATE, seed=1)
    pause = np.zeros(30 * RATE, np.float32)
    samples = np.concatenate([voice, pause, voice])
    speech = [(0, len(voice)), (len(voice) + len(pause), len(samples))]
    found = transcript_of(recogniser, samples, speech=speech)
    starts = [word.start_s for word in found.words]
    assert " ".join(word.text for word in found.words) == found.text and starts == sorted(starts)
    assert {start < 20.5 or start > 49.5 for start in starts} == {True} and starts[-1] > 49.5
