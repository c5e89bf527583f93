"""A batch: padded inputs and labels, with the utterances they belong to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from speechtune.types import Skipped, Utterance

if TYPE_CHECKING:
    import torch

__all__ = ["IGNORED_LABEL", "Batch", "Item"]

IGNORED_LABEL = -100  # pads labels; torch's cross-entropy ignores it


@dataclass(frozen=True, slots=True)
class Item:
    """One utterance before it is read: its row in the split, normalised transcript and label ids (L,)."""

    row: int
    utterance: Utterance
    text: str
    labels: NDArray[np.int64]


@dataclass
class Batch:
    """Padded inputs of B utterances and what belongs to them.

    Args:
        utterances: without audio that was given as bytes, length B; empty for a dummy batch of silence.
        texts: their normalised transcripts.
        rows: their rows in the split; hypotheses are put in this order.
        inputs: the model's keyword arguments, padded, (B, T, ...).
        labels: (B, L) int64, padded with IGNORED_LABEL; `label_lengths` has the number of real ones.
        input_lengths: samples or frames of each utterance before the model's own subsampling, length B.
        seconds: audio in the batch, without padding; `long` included.
        skipped: utterances that could not be used, and why.
        long: utterances of an evaluation that are too long for one pass; they are in none of the lists above.
    """

    utterances: list[Utterance]
    texts: list[str]
    rows: list[int]
    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    label_lengths: list[int]
    input_lengths: list[int]
    seconds: float
    skipped: list[Skipped] = field(default_factory=list)
    long: list[Item] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.utterances)

    def to(self, device: torch.device) -> Batch:
        """Return the same batch with its tensors on `device`."""
        inputs = {name: value.to(device, non_blocking=True) for name, value in self.inputs.items()}
        return replace(self, inputs=inputs, labels=self.labels.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Pin its tensors; called by the loader where batches go to a GPU."""
        self.inputs = {name: value.pin_memory() for name, value in self.inputs.items()}
        self.labels = self.labels.pin_memory()
        return self
