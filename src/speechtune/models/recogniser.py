"""What training, evaluation and transcription ask of a model, whichever its kind. ctc.py and seq2seq.py answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechtune.models.inputs import ModelInput

__all__ = ["Recognised", "Recogniser"]


@dataclass(frozen=True, slots=True)
class Recognised:
    """What came out for one utterance of a batch.

    Args:
        text: the hypothesis, as the tokenizer writes it.
        loss: summed over its labels or tokens; nan where it has none, inf where CTC can't emit them.
        num_items: what `loss` is divided by in the corpus' mean loss.
    """

    text: str
    loss: float
    num_items: int


class Recogniser(ABC):
    """A model with its tokenizer and input, and what differs between kinds of models.

    Args:
        model: of transformers.
        tokenizer: text <-> ids.
        model_input: samples -> padded inputs.
    """

    kind: str
    max_labels: int | None = None  # longest label sequence that a decoder takes
    max_duration_s: float | None = None  # longest recording that can be trained on

    def __init__(self, model: Any, *, tokenizer: Any, model_input: ModelInput) -> None:
        from speechtune.models.encoder.spec_augment import draw_masks_on_host

        self.model = model
        self.tokenizer = tokenizer
        self.model_input = model_input
        self.training_input = model_input  # may refuse what can only be recognised
        self._input_lengths = draw_masks_on_host(model)

    @property
    def sampling_rate(self) -> int:
        return self.model_input.sampling_rate

    @property
    def min_input_length(self) -> int:
        """Inputs are padded to at least this many samples or frames."""
        return 0

    def with_lengths(self, batch: Any) -> AbstractContextManager[None]:
        """Around a training pass: the model need not ask the GPU how long the batch's inputs are."""
        import torch

        return self._input_lengths.set_to(torch.tensor(batch.input_lengths))

    @abstractmethod
    def encode(self, text: str) -> Sequence[int]:
        """Normalised text -> label ids."""

    @abstractmethod
    def losses(self, model: Any, batch: Any) -> Any:
        """Loss of each utterance, summed over its items, (B,) float32 with gradient; 0 for a stand-in of silence."""

    @abstractmethod
    def num_items(self, batch: Any) -> int:
        """What the losses' sum is divided by: utterances or tokens with a label."""

    @abstractmethod
    def recognise(self, model: Any, batch: Any, *, with_loss: bool) -> list[Recognised]:
        """Hypothesis and loss of each utterance of a batch; padding takes no part."""

    @abstractmethod
    def save_processor(self, folder: Path) -> None:
        """Write tokenizer and feature extractor so that plain transformers loads them."""

    def words_of(self, text: str) -> str:
        """The text with its words apart by spaces, for WER."""
        return text

    def phones_of(self, text: str) -> str:
        """The text with its phones apart by spaces, for PER."""
        return text

    def frames_of(self) -> Callable[[ArrayLike], NDArray[np.int64]] | None:
        """Durations in seconds, any shape -> encoder frames; None where labels may outnumber frames."""
        return None
