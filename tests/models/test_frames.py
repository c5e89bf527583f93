"""Frames from lengths, frames from labels: against transformers' and torch's own arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_families import FAMILIES, input_name, tiny_model, utterances

from speechtune.errors import TextError
from speechtune.models.frames import min_ctc_frames, num_frames


@pytest.mark.parametrize("name", FAMILIES)
def test_frames_are_those_of_the_model_and_of_its_own_method(name: str):
    model = tiny_model(name)
    lengths = np.array([90, 91, 92, 517, 1000, 1001])
    with torch.no_grad():
        for length, frames in zip(lengths, num_frames(model.config, lengths), strict=True):
            logits = model(**{input_name(model): utterances(model, [int(length)])[0][None]}).logits
            assert logits.shape[1] == frames
    name = "_get_feat_extract_output_lengths"
    method = getattr(model, name if hasattr(model, name) else "_get_subsampling_output_length")
    assert num_frames(model.config, lengths).tolist() == method(torch.from_numpy(lengths)).tolist()


def test_frames_keep_the_shape_and_are_never_negative():
    config = tiny_model("wav2vec2 group norm").config
    frames = num_frames(config, [[0, 29], [30, 50]])
    assert frames.tolist() == [[0, 0], [1, 2]]
    assert frames.dtype == np.int64
    assert num_frames(config, 50) == 2
    assert num_frames(tiny_model("wav2vec2 with adapter").config, [0, 29]).tolist() == [0, 0]


def test_a_published_configuration_has_50_frames_a_second():
    from transformers import Wav2Vec2Config

    assert num_frames(Wav2Vec2Config(), [400, 16000, 160_000]).tolist() == [1, 49, 499]


@pytest.mark.parametrize(
    ("labels", "frames"), [([], 0), ([3], 1), ([3, 4], 2), ([3, 3], 3), ([3, 3, 3, 4, 4], 8), ((1, 2, 1), 3)]
)
def test_each_repeat_costs_one_more_frame(labels: list[int], frames: int):
    assert min_ctc_frames(labels) == frames


def test_padding_among_the_labels_is_refused():
    with pytest.raises(TextError, match="Labels hold -100"):
        min_ctc_frames([1, -100])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=8))
def test_ctc_loss_is_finite_from_exactly_that_many_frames(labels: list[int]):
    frames = min_ctc_frames(labels)
    for length, finite in ((frames, True), (frames - 1, False)):
        log_probs = torch.zeros(max(length, 1), 1, 4).log_softmax(-1)
        loss = torch.nn.functional.ctc_loss(
            log_probs, torch.tensor([labels]), torch.tensor([length]), torch.tensor([len(labels)]), reduction="none"
        )
        assert bool(loss.isfinite().all()) is finite
