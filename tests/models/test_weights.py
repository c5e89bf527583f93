"""Mixtures of weights are computed from files, tensor by tensor."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_checkpoints import build
from torch import nn

from speechtune.errors import ModelError
from speechtune.models.seq2seq.families import auto_class
from speechtune.models.weights import load_mixture, load_renamed, save_weights, weights_version


class Tied(nn.Module):
    """Two names of one tensor, a statistic and a counter."""

    def __init__(self, value: float, count: int = 0) -> None:
        super().__init__()
        self.embedding = nn.Linear(2, 2, bias=False)
        self.head = nn.Linear(2, 2, bias=False)
        self.head.weight = self.embedding.weight
        self.norm = nn.BatchNorm1d(2)
        nn.init.constant_(self.embedding.weight, value)
        self.norm.num_batches_tracked.fill_(count)
        self.norm.running_mean.fill_(value)


def test_a_mixture_is_the_weighted_sum_and_counters_stay(tmp_path: Path):
    for name, value in (("old", 1.0), ("new", 3.0)):
        save_weights(Tied(value, count=5), tmp_path / name)
    model = Tied(9.0, count=7)
    load_mixture(model, [(tmp_path / "old", 0.25), (tmp_path / "new", 0.75)])
    assert model.embedding.weight.tolist() == [[2.5, 2.5], [2.5, 2.5]] and model.head.weight is model.embedding.weight
    assert model.norm.running_mean.tolist() == [2.5, 2.5]
    assert model.norm.num_batches_tracked.item() == 7


def test_a_share_of_1_gives_the_weights_back_to_the_bit(tmp_path: Path):
    torch.manual_seed(0)
    old, new = nn.Linear(3, 3), nn.Linear(3, 3)
    before = {name: tensor.clone() for name, tensor in old.state_dict().items()}
    for name, model in (("old", old), ("new", new)):
        save_weights(model, tmp_path / name)
    load_mixture(old, [(tmp_path / "old", 0.0), (tmp_path / "new", 1.0)])
    assert all(torch.equal(tensor, new.state_dict()[name]) for name, tensor in old.state_dict().items())
    load_mixture(old, [(tmp_path / "old", 1.0), (tmp_path / "new", 0.0)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in old.state_dict().items())


def test_tied_weights_are_written_once(tmp_path: Path):
    save_weights(Tied(1.0), tmp_path / "file")
    assert set(load_file(tmp_path / "file")) == {
        "embedding.weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var",
    }  # fmt: skip


def test_weights_of_another_model_are_a_message(tmp_path: Path):
    save_weights(nn.Linear(2, 2), tmp_path / "other")
    with pytest.raises(ModelError, match=r"other: weight has the shape \(2, 2\)"):
        load_mixture(nn.Linear(3, 2), [(tmp_path / "other", 1.0)])
    with pytest.raises(ModelError, match=r"embedding\.weight is missing"):
        load_mixture(Tied(1.0), [(tmp_path / "other", 1.0)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"has no model\.safetensors"):
        load_mixture(nn.Linear(2, 2), [(tmp_path / "empty", 1.0)])


def test_weights_that_were_trained_again_are_others_and_what_lies_beside_them_is_not(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"x")
    first = weights_version(str(tmp_path))
    (tmp_path / "README.md").write_text("x")
    assert weights_version(str(tmp_path)) == first
    os.utime(tmp_path / "model.safetensors", ns=(1, 1))  # of the same size
    assert weights_version(str(tmp_path)) != first
    assert weights_version("openai/no-such-model", cache_dir=str(tmp_path)) is None


@pytest.mark.parametrize("family", ["cohere_asr", "canary"])
def test_a_checkpoint_with_the_names_of_the_original_release_is_loaded_whole(family: str, tmp_path: Path):
    model = auto_class(family).from_pretrained(build(tmp_path / "start", family))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.5)
    model.save_pretrained(tmp_path / "trained")
    resumed = auto_class(family).from_pretrained(tmp_path / "start")
    before = {name: value.clone() for name, value in resumed.state_dict().items()}
    is_renamed = family == "cohere_asr"
    assert load_renamed(resumed, tmp_path / "trained") is is_renamed
    wanted = model.state_dict() if is_renamed else before
    assert all(torch.equal(value, wanted[name]) for name, value in resumed.state_dict().items())
