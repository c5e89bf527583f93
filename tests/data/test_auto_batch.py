"""`--batch_seconds auto`: what is chosen, and that trying leaves nothing behind."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from tiny_families import tiny_model

from speechtune.data import auto_batch
from speechtune.data.auto_batch import find_batch_seconds, largest_that_fits
from speechtune.models.ctc.recogniser import CtcRecogniser
from speechtune.models.inputs import WaveformInput

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def few_objects_to_collect() -> Iterator[None]:
    """Every try collects garbage: seconds in a process that holds all the tests."""
    gc.freeze()
    yield
    gc.unfreeze()


class Tokenizer:
    """What a CTC recogniser needs of one."""

    pad_token_id, unk_token, word_delimiter_token = 0, "[UNK]", "|"

    def get_vocab(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(["[PAD]", "|", "[UNK]", *"abcdefgh"])}


def gpu(*, bytes_a_clip: float, base: float = 100.0, out_of_memory_at: float = 1e9) -> Callable[[int], float]:
    def peak_bytes(num_clips: int) -> float:
        peak = base + num_clips * bytes_a_clip
        if peak > out_of_memory_at:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
        return peak

    return peak_bytes


@pytest.mark.parametrize("limit", [{"limit_bytes": 5100.0}, {"out_of_memory_at": 5100.0}])
def test_a_gpu_takes_85_percent_of_what_fits(limit: dict[str, float]):
    limit_bytes = limit.pop("limit_bytes", 1e9)
    found = largest_that_fits(gpu(bytes_a_clip=100.0, **limit), clip_s=10.0, most_s=3600.0, limit_bytes=limit_bytes)
    assert 0.85 * 0.85 * 500 < found.seconds <= 0.85 * 500 and "limited by memory" in found.line


def test_a_small_corpus_keeps_its_steps():
    found = largest_that_fits(gpu(bytes_a_clip=1e-9), clip_s=10.0, most_s=72.0, limit_bytes=1e9)
    assert found.seconds == 72.0 and "the corpus' size" in found.line


def test_one_clip_that_does_not_fit_is_reported():
    found = largest_that_fits(gpu(bytes_a_clip=300.0), clip_s=30.0, most_s=1e4, limit_bytes=200.0)
    assert found.seconds == 30.0 and "hardly fits" in found.line


def test_an_error_of_another_kind_is_not_taken_for_a_lack_of_memory():
    def broken(num_clips: int) -> float:
        raise RuntimeError("expected scalar type Half")

    with pytest.raises(RuntimeError, match="scalar type"):
        largest_that_fits(broken, clip_s=1.0, most_s=8.0, limit_bytes=1e9)


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
    with auto_batch._unchanged(tried.model, CPU):
        assert tried.model.training
        tried.losses(tried.model, auto_batch._noise(tried, 3, 0.5, 5.0)).sum().backward()
        tried.model.zero_grad(set_to_none=True)
    assert (torch.rand(1), np.random.rand(), random.random()) == expected
    assert all(torch.equal(value, before[name]) for name, value in tried.model.state_dict().items())
    assert not tried.model.training


@pytest.mark.parametrize(
    ("durations_s", "num_parts", "seconds"),
    [
        ([np.nan], 1, 40.0),  # unknown: 5 s a clip
        ([0.5] * 400, 2, 4.0),  # 200 s: 50 steps would be of fewer than 8 clips
        ([5.0] * 4000, 1, 40.0),
        ([5.0] * 4000 + [100.0], 1, 100.0),  # the longest clip must fit
        ([0.5] * 8000, 4, 20.0),  # 4000 s, 50 steps of 4 batches
    ],
)
def test_a_cpu_takes_the_same_batch_every_time(durations_s: list[float], num_parts: int, seconds: float):
    found = find_batch_seconds(recogniser(), np.array(durations_s), labels_per_s=5.0, device=CPU, num_parts=num_parts)
    assert found.seconds == seconds
