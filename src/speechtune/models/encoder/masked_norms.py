"""Norms over the real frames of a padded batch.

Group norm in a feature encoder averages over time, so padding moves its output by tens of per cent; these average over
the real frames. `padding.make_padding_invariant` puts them into a model by changing the class of its norms: parameters,
names and hooks stay.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

__all__ = ["Lengths", "MaskedBatchNorm1d", "MaskedGroupNorm", "convolved", "is_real", "zero_after"]


class Lengths:
    """Real frames of each utterance, (B,) int64, in the tensor that one encoder is computing now; None: no padding."""

    def __init__(self) -> None:
        self.now: torch.Tensor | None = None

    @contextlib.contextmanager
    def set_to(self, lengths: torch.Tensor | None) -> Iterator[None]:
        """Set the lengths for the duration of a block."""
        before, self.now = self.now, lengths
        try:
            yield
        finally:
            self.now = before


def is_real(lengths: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Return a mask (B, num_frames), True on real frames, of lengths (B,)."""
    return torch.arange(num_frames, device=lengths.device) < lengths[:, None]


def zero_after(values: torch.Tensor, lengths: torch.Tensor, *, time_dim: int) -> torch.Tensor:
    """Return values (B, T, C) or (B, C, T) with zeros after each utterance's last real frame."""
    padded = ~is_real(lengths, values.shape[time_dim])
    return values.masked_fill(padded.unsqueeze(1 if time_dim == 2 else 2), 0.0)


def convolved(lengths: torch.Tensor, conv: nn.Conv1d) -> torch.Tensor:
    """Return the number of frames after `conv`; at least 0."""
    kernel_size, stride = conv.kernel_size[0], conv.stride[0]
    padding = conv.padding[0] if not isinstance(conv.padding, str) else 0
    return ((lengths + 2 * int(padding) - kernel_size) // stride + 1).clamp(min=0)


def _moments(values: torch.Tensor, share: torch.Tensor, dims: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and variance (divided by the count) over the real entries, from one fused pass over all entries.

    The mean square's difference loses (mean / deviation)^2 times the float's precision: harmless for what convolutions
    make of speech, and the only form that needs neither a sync nor further copies of the largest tensor of the model.

    Args:
        values: float32, 0 where not real.
        share: real entries divided by all entries of `dims`, more than 0; broadcastable.
        dims: what is averaged over; they stay as size 1.
    """
    variance, mean = torch.var_mean(values, dim=dims, correction=0, keepdim=True)
    return mean / share, (variance / share - mean.square() * (1 - share) / share.square()).clamp(min=0)


class MaskedGroupNorm(nn.GroupNorm):
    """Group norm of (B, C, T) with statistics over the real frames. A GroupNorm becomes one by changing its class.

    Source: Wu and He 2018, "Group Normalization"; the mask is ours.
    """

    _lengths: Lengths
    _conv: tuple[nn.Conv1d]  # the convolution before; in a tuple, so that it is no child of two modules

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, T) -> (B, C, T). Values of padded frames are finite and meaningless."""
        if self._lengths.now is None:
            return super().forward(input)
        lengths = convolved(self._lengths.now, self._conv[0]).clamp(max=input.shape[2])
        return self._by_rows(input, lengths) if input.device.type == "cpu" else self._at_once(input, lengths)

    def _by_rows(self, input: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """On a CPU: normalise one utterance at a time, its real frames only; no slower than all with their padding.

        Where no gradient is needed, the output overwrites the input: it is the largest tensor of the model, fresh from
        a convolution and used nowhere else.
        """
        num_frames = input.shape[2]
        learns = input.requires_grad or any(parameter.requires_grad for parameter in self.parameters())
        output: torch.Tensor | None = None
        rows = []
        for row, length in enumerate(lengths.clamp(min=1).tolist()):
            real = torch.group_norm(input[row : row + 1, :, :length], self.num_groups, self.weight, self.bias, self.eps)
            if learns and torch.is_grad_enabled():
                rows.append(nn.functional.pad(real, (0, num_frames - length)))
                continue
            if output is None:  # under autocast the norm is float32, its input may not be
                output = input if real.dtype == input.dtype else torch.empty_like(input, dtype=real.dtype)
            output[row, :, :length] = real[0]
            output[row, :, length:] = 0.0
        return torch.cat(rows) if output is None else output

    def _at_once(self, input: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """On a GPU: normalise all at once; nothing depends on the lengths' values, so the host never waits."""
        batch_size, _, num_frames = input.shape
        groups = input.float().view(batch_size, self.num_groups, -1, num_frames)
        groups = groups * is_real(lengths, num_frames)[:, None, None]
        share = lengths.clamp(min=1)[:, None, None, None] / num_frames
        mean, variance = _moments(groups, share, (2, 3))
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight.view(1, self.num_groups, -1, 1)
        shift = -mean * scale
        if self.affine:
            shift = shift + self.bias.view(1, self.num_groups, -1, 1)
        output = torch.addcmul(shift, groups, scale).view_as(input)
        # Autocast runs group norm in float32; without it the dtype is kept.
        device = input.device.type
        autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        return output if autocast else output.to(input.dtype)


class MaskedBatchNorm1d(nn.BatchNorm1d):
    """Batch norm of (B, C, T) with statistics of the real frames. A BatchNorm1d becomes one by changing its class.

    In training an utterance's output still depends on the others of its batch, as in any batch norm, but not on how
    much they are padded.
    """

    _lengths: Lengths

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, T) -> (B, C, T)."""
        lengths = self._lengths.now
        if lengths is None or not self.training or self.running_mean is None or self.running_var is None:
            return super().forward(input)
        count = lengths.sum()
        values = zero_after(input.float(), lengths, time_dim=2)
        mean, variance = _moments(values, count.clamp(min=1) / (input.shape[0] * input.shape[2]), (0, 2))
        with torch.no_grad():
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            weight = 1.0 / self.num_batches_tracked if self.momentum is None else torch.tensor(self.momentum)
            unbiased = variance * (count / (count - 1).clamp(min=1))
            self.running_mean.lerp_(mean.flatten().to(self.running_mean.dtype), weight.to(self.running_mean))
            self.running_var.lerp_(unbiased.flatten().to(self.running_var.dtype), weight.to(self.running_var))
        output = (values - mean) * torch.rsqrt(variance + self.eps)
        if self.affine:
            output = output * self.weight[:, None] + self.bias[:, None]
        return output.to(input.dtype)
