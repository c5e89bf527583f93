"""The first weights of a new CTC head: its first output is how often each label comes, whatever the audio.

From transformers' random weights all labels are equally likely at first, and the first steps are spent on learning that
most frames are blank (measured: docs/results.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

__all__ = ["HEADS", "LABEL_LAYERS", "find_head", "label_log_prior", "start_from_prior"]

HEADS = ("lm_head", "ctc_head")  # transformers' names of the layer whose outputs are the logits of the labels
# Granite's head is its encoder's, whose output is fed back half-way up: both depend on the labels.
LABEL_LAYERS = (*HEADS, "encoder.out", "encoder.out_mid")
BLANK_PRIOR = 0.75
WEIGHT_SCALE = 0.1
MAX_TEXTS = 100_000  # enough for frequencies


def find_head(model: nn.Module) -> nn.Module | None:
    """Return the model's head; None if it has another name."""
    return next((getattr(model, name) for name in HEADS if hasattr(model, name)), None)


def label_log_prior(
    labels: Iterable[int], *, num_labels: int, blank: int, blank_prior: float = BLANK_PRIOR
) -> NDArray[np.float64]:
    """Return the log probability of each label in any frame, shape (num_labels,), natural logarithm.

    The blank has `blank_prior`; the others share the rest by their frequency, each counted once more than it occurs, so
    that none is impossible. Without labels they share it equally.

    Args:
        labels: ids of the training text, blanks not counted.
        blank_prior: probability between 0 and 1.

    Source: class-prior bias; Lin et al. 2017, "Focal Loss for Dense Object Detection", section 4.1.
    """
    counts = 1.0 + np.bincount(np.fromiter(labels, np.int64), minlength=num_labels)
    counts[blank] = 0.0
    prior = (1.0 - blank_prior) * counts / counts.sum()
    prior[blank] = blank_prior
    return np.log(prior)


def start_from_prior(
    head: nn.Module | None, texts: Sequence[str], *, encode: Callable[[str], Sequence[int]], blank: int
) -> None:
    """Set a new head's bias to the log prior of the labels and scale its random weights by `WEIGHT_SCALE`, in place.

    Args:
        head: a head without a bias is left as it is.
        texts: normalised training texts; empty for a stream.
        encode: text -> label ids.
    """
    import torch

    if head is None or not isinstance(head.bias, torch.Tensor) or not isinstance(head.weight, torch.Tensor):
        return
    sample = texts[:: max(1, len(texts) // MAX_TEXTS)]
    log_prior = label_log_prior(chain.from_iterable(map(encode, sample)), num_labels=len(head.bias), blank=blank)
    with torch.no_grad():
        head.bias.copy_(torch.from_numpy(log_prior))
        head.weight.mul_(WEIGHT_SCALE)
