"""The interface of a model of any kind to training, evaluation and transcription.

`ctc/recogniser.py` and `seq2seq/recogniser.py` implement it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechtune.models.batch import Batch
from speechtune.models.frames import input_stride
from speechtune.models.inputs import ModelInput
from speechtune.types import Word

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Recognised", "Recogniser", "is_sharded", "seconds_per_frame"]


@dataclass(frozen=True, slots=True)
class Recognised:
    """The hypothesis of one utterance.

    Args:
        text: as the tokenizer decodes it.
        loss: summed over its labels or tokens; nan where it has none, inf where CTC can't emit them.
        num_items: what `loss` is divided by in the corpus' mean loss; 0 without labels.
        unaided: what the model alone writes, where `text` is chosen with a language model or hot words.
        evidence: what a search chooses from, where the recogniser keeps it: of CTC the log probabilities of its frames,
            (num_frames, num_labels) in float16; else the texts of the beams with their log probabilities.
        words: with their times in the utterance, where recognition tells them by the way (transducers).
        path: of CTC the label of each frame, (num_frames,), that `text` was written by.
    """

    text: str
    loss: float
    num_items: int
    unaided: str | None = None
    evidence: Any = None
    words: tuple[Word, ...] = ()
    path: NDArray[np.int64] | None = None


class Recogniser(ABC):
    """A model with its tokenizer and input, and what differs between kinds of models.

    Args:
        model: of transformers.
        tokenizer: text <-> ids.
        model_input: samples -> padded inputs.
    """

    kind: str
    keeps_evidence = False  # to try several searches on one recognition
    max_labels: int | None = None  # longest label sequence that a decoder takes
    max_duration_s: float | None = None  # longest recording that can be trained on
    has_new_head = False  # its output layer starts from random weights

    def __init__(self, model: PreTrainedModel, *, tokenizer: PreTrainedTokenizerBase, model_input: ModelInput) -> None:
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
        """Number of samples or frames that inputs are padded to at least."""
        return 0

    def with_lengths(self, batch: Batch) -> AbstractContextManager[None]:
        """Tell the model the lengths of the batch's inputs for one pass, so that it need not read them from the GPU."""
        import torch

        return self._input_lengths.set_to(torch.tensor(batch.input_lengths))

    def speaking(self, language: str | None) -> AbstractContextManager[None]:
        """Encode and recognise another language meanwhile, by models that are told which; None changes nothing.

        Raises:
            OptionError: the model has no such language.
        """
        return nullcontext()

    @abstractmethod
    def encode(self, text: str) -> Sequence[int]:
        """Return the label ids of a normalised text."""

    @abstractmethod
    def losses(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return each utterance's loss, summed over its items: (B,) float32 with gradient; 0 for a dummy batch."""

    @abstractmethod
    def num_items(self, batch: Batch) -> int:
        """Return what the losses are counted by: the step's loss is their sum divided by the step's items.

        A step without items is not divided: a batch that returns 0 has its losses summed.
        """

    @abstractmethod
    def recognise(self, model: torch.nn.Module, batch: Batch, *, with_loss: bool) -> list[Recognised]:
        """Return hypothesis and loss of each utterance of a batch; neither depends on padding."""

    @abstractmethod
    def save_processor(self, folder: Path) -> None:
        """Write tokenizer and feature extractor so that plain transformers loads them."""

    def words_of(self, text: str) -> str:
        """Return the text with its words separated by spaces, for WER."""
        return text

    def phones_of(self, text: str) -> str:
        """Return the text with its phones separated by spaces, for PER."""
        return text

    def frames_of(self) -> Callable[[ArrayLike], NDArray[np.int64]] | None:
        """Return the function from durations in seconds to encoder frames; None where labels may outnumber frames."""
        return None


def seconds_per_frame(recogniser: Recogniser) -> float:
    """Return the seconds from one frame of the model's output to the next."""
    stride = input_stride(recogniser.model.config)
    if recogniser.model_input.name == "input_values":
        return stride / recogniser.sampling_rate
    extractor = recogniser.model_input.feature_extractor
    hop_s = getattr(extractor, "hop_length", 160) / recogniser.sampling_rate
    # The feature extractor of wav2vec2-bert and that of Granite stack mel frames
    return stride * hop_s * int(getattr(extractor, "stride", getattr(extractor, "frame_stacking", 1)))


def is_sharded(model: torch.nn.Module) -> bool:
    """Return whether parameters are whole only while the model's own forward runs (FSDP 1 or 2)."""
    return any(base.__name__ in ("FullyShardedDataParallel", "FSDPModule") for base in type(model).__mro__)
