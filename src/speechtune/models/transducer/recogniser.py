"""Transducers: losses, and greedy decoding by the model's own `generate`, whose emissions tell when words are said.

Legend: B utterances, T frames, U labels, D width of the joint network.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import LogitsProcessorList

from speechtune.models.batch import Batch
from speechtune.models.ctc.pieces import PIECE_START, PieceLabeller
from speechtune.models.frames import num_frames
from speechtune.models.inputs import ModelInput
from speechtune.models.recogniser import Recognised, Recogniser, seconds_per_frame
from speechtune.models.transducer.loss import transducer_losses
from speechtune.types import Word

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
        best: list[torch.Tensor] = []

        def note(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # those of a TDT model's durations come last
            best.append(scores[:, : int(self.model.config.vocab_size)].float().log_softmax(-1).amax(-1))
            return scores

        made = self.model.generate(**self._inputs(batch), logits_processor=LogitsProcessorList([note]))
        log_probs = torch.stack([torch.zeros_like(best[0]), *best], dim=1).tolist()  # (B, tokens), as the sequences
        frames = num_frames(self.model.config, batch.input_lengths).tolist()
        rows = zip(made.sequences.tolist(), made.durations.tolist(), log_probs, frames, strict=False)
        emitted = [self._emitted(*row) for row in rows]
        return [
            Recognised(self._text(tokens), loss, n, words=self._words(tokens))
            for tokens, loss, n in zip(emitted, losses, batch.label_lengths, strict=True)
        ]

    def _emitted(
        self, ids: list[int], durations: list[int], log_probs: list[float], num_frames: int
    ) -> list[tuple[int, int, int, float]]:
        """Return the tokens of a generated sequence with blanks, up to the utterance's own end.

        transformers keeps decoding the shorter utterances of a batch until the longest is finished.

        Args:
            durations: frames from one token to the next.

        Returns:
            Each token, its frame, the frame after it (TDT: by its duration), and its log probability.
        """
        starts = [0, *itertools.accumulate(durations)]
        rows = zip(ids, starts, durations, log_probs, strict=False)
        return [
            (token, start, start + max(1, duration), log_prob)
            for token, start, duration, log_prob in rows
            if start < num_frames and token != self.blank
        ]

    def _text(self, tokens: Sequence[tuple[int, int, int, float]]) -> str:
        ids = [token for token, *_ in tokens]
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, group_tokens=False))

    def _words(self, tokens: Sequence[tuple[int, int, int, float]]) -> tuple[Word, ...]:
        """Return the words, from the emission of their first token to that of their last; marks have no time."""
        frame_s = seconds_per_frame(self)
        special = set(self.tokenizer.all_special_ids)
        words: list[list[tuple[str, int, int, float]]] = []
        for token, start, end, log_prob in tokens:
            if token in special:
                continue
            piece = str(self.tokenizer.convert_ids_to_tokens(token))
            if not words or piece.startswith(PIECE_START):
                words.append([])
            if text := piece.removeprefix(PIECE_START):
                words[-1].append((text, start, end, log_prob))
        found = []
        for pieces in filter(None, words):
            spoken = [piece for piece in pieces if any(map(str.isalnum, piece[0]))] or pieces
            start_s, end_s = spoken[0][1] * frame_s, spoken[-1][2] * frame_s
            confidence = math.exp(sum(log_prob for *_, log_prob in pieces) / len(pieces))
            found.append(Word("".join(text for text, *_ in pieces), start_s, end_s, confidence))
        return tuple(found)

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
