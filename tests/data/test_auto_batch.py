"""`--batch_seconds auto`: what is chosen, and that trying leaves nothing behind."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from tiny_families import tiny_model

from speechtune.data.auto_batch import FoundBatch, Trial, find_batch_seconds, largest_on_cpu, largest_on_gpu
from speechtune.models.ctc.recogniser import CtcRecogniser
from speechtune.models.inputs import WaveformInput


class Tokenizer:
    """What a CTC recogniser asks of one."""

    pad_token_id, unk_token, word_delimiter_token = 0, "[UNK]", "|"

    def get_vocab(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(["[PAD]", "|", "[UNK]", *"abcdefgh"])}


def gpu(*, bytes_a_second: float, base: float = 100.0, out_of_memory_at: float = 1e9) -> tuple[list[float], object]:
    tried: list[float] = []

    def try_step(num_clips: int, clip_s: float) -> Trial:
        tried.append(num_clips * clip_s)
        if base + num_clips * clip_s * bytes_a_second > out_of_memory_at:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Trial(0.01, base + num_clips * clip_s * bytes_a_second)

    return tried, try_step


def cpu(times_s: dict[int, float], peak_bytes: float = 1.0) -> object:
    return lambda num_clips, clip_s: Trial(times_s[num_clips], peak_bytes * num_clips)


def test_gpu_takes_85_percent_of_what_fits():
    tried, try_step = gpu(bytes_a_second=10.0)
    found = largest_on_gpu(try_step, clip_s=10.0, most_s=1e6, limit_bytes=5100.0)
    assert tried == [10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0]
    assert found.seconds == pytest.approx(0.85 * 500.0)


def test_gpu_out_of_memory_ends_the_trials():
    tried, try_step = gpu(bytes_a_second=10.0, out_of_memory_at=5100.0)
    found = largest_on_gpu(try_step, clip_s=10.0, most_s=1e6, limit_bytes=1e6)
    assert tried[-1] == 640.0
    assert found.seconds == pytest.approx(0.85 * 640.0)  # at most what was seen not to fit


def test_gpu_one_clip_that_does_not_fit_is_said():
    _, try_step = gpu(bytes_a_second=10.0)
    found = largest_on_gpu(try_step, clip_s=30.0, most_s=1e6, limit_bytes=200.0)
    assert found.seconds == 30.0
    assert "hardly fits" in found.line


def test_gpu_small_corpus_keeps_its_steps():
    _, try_step = gpu(bytes_a_second=1e-9)
    assert largest_on_gpu(try_step, clip_s=10.0, most_s=72.0, limit_bytes=1e9).seconds == 72.0


def test_cpu_stops_where_doubling_gains_nothing():
    found = largest_on_cpu(
        cpu({1: 1.0, 2: 1.0, 4: 1.1, 8: 1.4, 16: 2.8}), clip_s=5.0, most_s=400.0, available_bytes=1e9
    )
    assert found == FoundBatch(40.0, "batch: 40 s of audio, found by trying; limited by speed")


def test_cpu_stops_at_half_of_free_memory():
    found = largest_on_cpu(
        cpu(dict.fromkeys((1, 2, 4, 8, 16, 32), 0.1), peak_bytes=1e6), clip_s=5.0, most_s=400.0, available_bytes=31e6
    )
    assert found.seconds == 80.0
    assert "memory" in found.line


def test_cpu_has_a_cap():
    found = largest_on_cpu(cpu(dict.fromkeys((1, 2, 4, 8, 16), 0.1)), clip_s=5.0, most_s=80.0, available_bytes=1e9)
    assert found.seconds == 80.0


def test_cpu_slow_model_gets_eight_clips_without_trying_them():
    found = largest_on_cpu(cpu({1: 5.0}), clip_s=5.0, most_s=80.0, available_bytes=1e9)
    assert found.seconds == 40.0
    assert "time" in found.line


def recogniser(name: str = "hubert with batch norm") -> CtcRecogniser:
    from transformers import Wav2Vec2FeatureExtractor

    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    return CtcRecogniser(tiny_model(name), tokenizer=Tokenizer(), model_input=WaveformInput(extractor))


def test_trying_leaves_nothing_behind():
    tried = recogniser()
    before = {name: value.clone() for name, value in tried.model.state_dict().items()}
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    durations_s = np.full(2000, 0.5, np.float32)
    found = find_batch_seconds(tried, durations_s, labels_per_s=5.0, device=torch.device("cpu"))
    assert (torch.rand(1), np.random.rand(), random.random()) == expected
    assert all(torch.equal(value, before[name]) for name, value in tried.model.state_dict().items())
    assert all(parameter.grad is None for parameter in tried.model.parameters())
    assert not tried.model.training
    assert 0.5 <= found.seconds <= 20.0


def test_unknown_durations_still_find_a_batch():
    found = find_batch_seconds(
        recogniser("wav2vec2 layer norm"), np.array([np.nan]), labels_per_s=5.0, device=torch.device("cpu")
    )
    assert found.seconds >= 5.0


def test_small_corpus_gets_eight_clips_at_most():
    durations_s = np.full(400, 0.5, np.float32)  # 200 s
    found = find_batch_seconds(
        recogniser("wav2vec2 layer norm"), durations_s, labels_per_s=5.0, device=torch.device("cpu"), num_parts=2
    )
    assert found.seconds == pytest.approx(4.0)
