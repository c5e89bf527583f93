"""Norms over the real frames only, on both kinds of device."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_families import difference

from speechtune.models.encoder.masked_norms import Lengths, MaskedBatchNorm1d, MaskedGroupNorm
from speechtune.models.encoder.padding import _Hooks

TOLERANCE = 1e-5  # relative, float32


@pytest.mark.parametrize("num_groups", [6, 2, 1])
def test_group_norm_for_gpus_equals_the_one_for_cpus(num_groups: int):
    norm = torch.nn.GroupNorm(num_groups, 6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    expected_class = copy.deepcopy(norm)
    norm.__class__ = MaskedGroupNorm
    lengths = torch.tensor([40, 7, 1])
    values = torch.randn(3, 6, 40) * 3 + 5
    at_once, by_rows = values.clone().requires_grad_(), values.clone().requires_grad_()
    gpu, cpu = norm._at_once(at_once, lengths), norm._by_rows(by_rows, lengths)
    for row, length in enumerate(lengths[:2].tolist()):
        assert difference(gpu[row, :, :length], expected_class(values[row : row + 1, :, :length])[0]) < TOLERANCE
        assert difference(cpu[row, :, :length], expected_class(values[row : row + 1, :, :length])[0]) < TOLERANCE
    weights = torch.randn(2, 6, 7)
    (gpu[:2, :, :7] * weights).sum().backward()
    (cpu[:2, :, :7] * weights).sum().backward()
    assert difference(at_once.grad[:2], by_rows.grad[:2]) < 1e-4


@pytest.mark.parametrize("lengths", [[40, 7, 1], [0, 12, 40]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_frozen_group_norm_equals_one_that_learns(lengths: list[int], dtype: torch.dtype):
    norm = torch.nn.GroupNorm(4, 4)
    torch.nn.init.normal_(norm.weight)
    norm.__class__ = MaskedGroupNorm
    values = (torch.randn(3, 4, 40) * 3 + 5).to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        learning = norm._by_rows(values.clone().requires_grad_(), torch.tensor(lengths)).detach()
        frozen = norm.requires_grad_(False)._by_rows(values.clone(), torch.tensor(lengths))
    assert frozen.dtype == learning.dtype
    assert torch.equal(frozen, learning)
    assert not any(frozen[row, :, max(length, 1) :].any() for row, length in enumerate(lengths))


def test_nothing_waits_for_the_gpu():
    """On the meta device a tensor has no values: whatever asks for one fails."""
    norm = torch.nn.GroupNorm(4, 4, device="meta")
    norm.__class__ = MaskedGroupNorm
    norm._lengths, norm._conv = _Hooks(), (torch.nn.Conv1d(1, 4, 10, stride=5, device="meta"),)
    batch_norm = torch.nn.BatchNorm1d(4, device="meta")
    batch_norm.__class__ = MaskedBatchNorm1d
    batch_norm._lengths = norm._lengths
    norm._lengths.begin(norm, (), {"attention_mask": torch.ones(3, 100, dtype=torch.int32, device="meta")})
    values = torch.zeros(3, 4, 19, device="meta", requires_grad=True)
    (norm(values).sum() + batch_norm(values).sum()).backward()
    (zeroed,) = norm._lengths.zero_padding(norm, (values,))
    norm._lengths.after_adapter_layer(torch.nn.Sequential(torch.nn.Conv1d(4, 4, 3, stride=2)), (), zeroed)


def test_batch_norm_learns_from_the_real_frames_only():
    values = torch.randn(3, 4, 12) * 2 + 1
    plain = torch.nn.BatchNorm1d(4)
    norm = copy.deepcopy(plain)
    norm.__class__ = MaskedBatchNorm1d
    norm._lengths = Lengths()
    norm._lengths.now = torch.tensor([12, 12, 12])
    padded = torch.cat([values, torch.full((3, 4, 9), 100.0)], dim=2)
    expected, found = plain(values), norm(padded)
    assert difference(found[:, :, :12], expected) < TOLERANCE
    assert difference(norm.running_mean, plain.running_mean) < TOLERANCE
    assert difference(norm.running_var, plain.running_var) < TOLERANCE
    assert norm.num_batches_tracked == plain.num_batches_tracked == 1
