"""Transducers: losses, and greedy decoding by the model's own `generate`.

Legend: B utterances, T frames, U labels, D width of the joint network.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from speechtune.models.batch import Batch
from speechtune.models.ctc.pieces import PieceLabeller
from speechtune.models.frames import num_frames
from speechtune.models.inputs import ModelInput
from speechtune.models.recogniser import Recognised, Recogniser
from speechtune.models.transducer.loss import transducer_losses

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

__all__ = ["TransducerRecogniser"]

NAN = float("nan")


class TransducerRecogniser(Recogniser):
    """A model of AutoModelForTDT or AutoModelForRNNT. The loss of a step is divided by its number of labels.

    Args:
        processor: of the checkpoint; saved with the model as it is.
        prompt_id: language that the model is told (Nemotron 3.5).
    """

    kind = "transducer"

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        processor: ProcessorMixin,
        model_input: ModelInput,
        prompt_id: int | None = None,
    ) -> None:
        super().__init__(model, tokenizer=processor.tokenizer, model_input=model_input)
        self.processor = processor
        self.prompt_id = prompt_id
        self.labeller = PieceLabeller(self.tokenizer)
        self.blank = int(model.config.blank_token_id)

    def encode(self, text: str) -> Sequence[int]:
        return self.labeller(text)

    def num_items(self, batch: Batch) -> int:
        return sum(batch.label_lengths)

    def losses(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return losses (B,), computed where the model calls its joint network: under its autocast and DDP wrapper."""
        labels = batch.labels.clamp(min=0)
        found: list[torch.Tensor] = []
        config: Any = self.model.config
        lengths = num_frames(config, batch.input_lengths).tolist()

        def at_joint(joint: Any, args: tuple[Any, ...], kwargs: dict[str, torch.Tensor]) -> Any:
            encoded, decoded = kwargs["encoder_hidden_states"], kwargs["decoder_hidden_states"]
            found.append(
                transducer_losses(
                    encoded[:, :, 0],
                    decoded[:, 0],
                    labels,
                    [min(length, encoded.shape[1]) for length in lengths],
                    batch.label_lengths or [0] * len(labels),
                    joint=lambda encoded, decoded: joint.forward(
                        encoder_hidden_states=encoded, decoder_hidden_states=decoded
                    ),  # the forward, not a call: calling it would run our own hook again
                    num_tokens=int(config.vocab_size),
                    blank=self.blank,
                    durations=getattr(config, "durations", None),
                )
            )
            return args, {"encoder_hidden_states": encoded[:, :1], "decoder_hidden_states": decoded[:, :, :1]}

        blanks = labels.new_full((len(labels), 1), self.blank)
        real = torch.arange(labels.shape[1], device=labels.device) < self._lengths_of(batch, labels.device)[:, None]
        tokens = torch.cat([blanks, labels.where(real, blanks)], dim=1)
        hook = self.model.joint.register_forward_pre_hook(at_joint, with_kwargs=True)
        try:
            model(**self._inputs(batch), decoder_input_ids=tokens)
        finally:
            hook.remove()
        (losses,) = found
        return losses if len(batch) else losses.sum()[None] * 0.0

    def recognise(self, model: torch.nn.Module, batch: Batch, *, with_loss: bool) -> list[Recognised]:
        losses = [NAN] * len(batch)
        if with_loss:
            values = self.losses(model, batch).tolist()
            losses = [value if n else NAN for value, n in zip(values, batch.label_lengths, strict=True)]
        made = self.model.generate(**self._inputs(batch))
        frames = num_frames(self.model.config, batch.input_lengths).tolist()
        rows = zip(made.sequences.tolist(), made.durations.tolist(), frames, strict=False)
        texts = [self._text(*row) for row in rows]
        return [Recognised(*row) for row in zip(texts, losses, batch.label_lengths, strict=True)]

    def _text(self, ids: list[int], durations: list[int], num_frames: int) -> str:
        """Return the text of a generated sequence with blanks, up to the utterance's own end.

        transformers keeps decoding the shorter utterances of a batch until the longest is finished.

        Args:
            durations: frames from one token to the next.
        """
        at = [0, *itertools.accumulate(durations)]
        kept = [i for i, frame in zip(ids, at, strict=False) if frame < num_frames and i != self.blank]
        return str(self.tokenizer.decode(kept, skip_special_tokens=True, group_tokens=False))

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        inputs: dict[str, Any] = dict(batch.inputs)
        lookahead = getattr(self.processor, "default_num_lookahead_tokens", None)
        if lookahead is not None:
            inputs["num_lookahead_tokens"] = lookahead
        if self.prompt_id is not None:
            inputs["prompt_ids"] = torch.full_like(batch.labels[:, 0], self.prompt_id)
        return inputs

    def _lengths_of(self, batch: Batch, device: torch.device) -> torch.Tensor:
        lengths = torch.tensor(batch.label_lengths or [0] * len(batch.labels))
        return lengths.to(device, non_blocking=True)

    def save_processor(self, folder: Path) -> None:
        self.processor.save_pretrained(folder)
        self.model_input.feature_extractor.save_pretrained(folder)
