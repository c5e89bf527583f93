"""Language models that hear audio: a row is prompt, transcript and end, and only the last two are labels.

Legend: B utterances, P tokens of the longest prompt, L labels, D model width.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from speechtune.models.batch import IGNORED_LABEL, Batch
from speechtune.models.lora import keep_as_in_evaluation
from speechtune.models.recogniser import Recognised, is_sharded
from speechtune.models.seq2seq.audio_prompt import AudioPromptInput
from speechtune.models.seq2seq.recogniser import NAN, Seq2SeqRecogniser, is_compiled
from speechtune.models.seq2seq.token_loss import token_losses

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["AudioPromptRecogniser", "audio_encoders"]

ENCODERS = ("audio_tower", "encoder", "acoustic_tokenizer_encoder", "semantic_tokenizer_encoder")


def audio_encoders(model: PreTrainedModel) -> list[torch.nn.Module]:
    """Return the parts of a language model that read audio, without the projection into its width."""
    inner: Any = model.model
    return [getattr(inner, name) for name in ENCODERS if hasattr(inner, name)]


class AudioPromptRecogniser(Seq2SeqRecogniser):
    """A language model with a complete generation config; `model.generate()` continues a prompt.

    Args:
        processor: of the checkpoint; it writes the prompts and reads what follows them.
        end: token that ends a transcript.
        max_labels: most tokens of a transcript, the end among them.
    """

    model_input: AudioPromptInput

    def __init__(
        self, model: PreTrainedModel, *, processor: Any, model_input: AudioPromptInput, end: int, max_labels: int | None
    ) -> None:
        super().__init__(
            model,
            tokenizer=processor.tokenizer,
            model_input=model_input,
            max_labels=max_labels,
            processor=processor,
            start=end,
        )
        self.end = end
        self._takes_noise = "sample" in inspect.signature(type(model).forward).parameters  # VibeVoice
        reads = "return_format" in inspect.signature(processor.decode).parameters
        self._reading = {"return_format": "transcription_only"} if reads else {}

    @cached_property
    def encoder_frozen(self) -> bool:
        encoders = audio_encoders(self.model)
        return not any(parameter.requires_grad for encoder in encoders for parameter in encoder.parameters())

    @property
    def min_input_length(self) -> int:
        return 0

    def encode(self, text: str) -> Sequence[int]:
        """Return the ids of a transcript and the end; VibeVoice's transcripts are JSON, which its processor reads."""
        if hasattr(self.processor, "extract_speaker_dict"):
            text = json.dumps([{"Content": text}], ensure_ascii=False, separators=(",", ":"))
        return [*self.tokenizer(text, add_special_tokens=False).input_ids, self.end]

    def encode_each_alone(self) -> None:
        """Make the model's audio encoder read one clip at a time, in place, so that no output depends on padding.

        Its batch norms keep their statistics: those of one clip are not what they were made for.
        """
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        inner: Any = self.model.model
        encode, lengths = inner.get_audio_features, self._input_lengths
        for module in inner.modules():
            if hasattr(module, "running_mean"):
                keep_as_in_evaluation(module)

        def get_audio_features(input_features: torch.Tensor, **options: Any) -> Any:
            if lengths.now is None:
                return encode(input_features, **options)
            beams = len(input_features) // len(lengths.now)
            frames = [length for length in lengths.now.tolist() for _ in range(beams)]
            rows = [
                encode(clip[None, :length], **options).pooler_output[0]
                for clip, length in zip(input_features, frames, strict=True)
            ]
            return BaseModelOutputWithPooling(pooler_output=torch.nn.utils.rnn.pad_sequence(rows, batch_first=True))

        inner.get_audio_features = get_audio_features

    def _losses(
        self, model: torch.nn.Module, inputs: dict[str, Any], labels: torch.Tensor, label_lengths: Sequence[int]
    ) -> torch.Tensor:
        prompts, mask = inputs["input_ids"], inputs["attention_mask"]
        given = labels[:, :-1]  # the last label is only written, never read
        tokens = torch.cat([prompts, given.masked_fill(given == IGNORED_LABEL, self.model_input.pad_id)], dim=1)
        # Padding behind a transcript needs no mask: nothing before it sees it.
        mask = torch.cat([mask, mask.new_ones(given.shape)], dim=1)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)  # as `generate` counts them
        inputs = {**inputs, "input_ids": tokens, "attention_mask": mask, "position_ids": positions}
        head = None if is_sharded(model) or is_compiled(model) else self.model.get_output_embeddings()
        smoothing = self.label_smoothing if torch.is_grad_enabled() else 0.0
        return token_losses(
            model,
            {**inputs, **self._noise()},
            labels,
            list(label_lengths),
            head=head,
            smoothing=smoothing,
            skip=prompts.shape[1] - 1,
        )

    def _noise(self) -> dict[str, bool]:
        """VibeVoice adds noise to what it hears; an evaluation leaves it out, or the text would vary."""
        return {"sample": self.model.training} if self._takes_noise else {}

    def _recognise(self, batch: Batch, *, with_loss: bool) -> list[Recognised]:
        return self._recognise_whole(self.model, batch, with_loss=with_loss)

    def _recognise_sharded(self, model: Any, batch: Batch, *, with_loss: bool) -> list[Recognised]:
        return self._recognise_whole(model, batch, with_loss=with_loss, synced_gpus=True)

    def _recognise_whole(self, model: Any, batch: Batch, *, with_loss: bool, **options: Any) -> list[Recognised]:
        losses = [NAN] * len(batch.label_lengths)
        with self.with_lengths(batch):
            if with_loss and max(batch.label_lengths) > 0:
                values = self._losses(model, batch.inputs, batch.labels, batch.label_lengths).tolist()
                losses = [value if n else NAN for value, n in zip(values, batch.label_lengths, strict=True)]
            texts = self._texts(model, **batch.inputs, **self._noise(), **options)
        rows = zip(texts, losses, batch.label_lengths, strict=True)
        return [Recognised(text, loss, n, *more) for (text, *more), loss, n in rows][: len(batch)]

    def decoded(self, made: torch.Tensor, *, num_prompt: int) -> list[str]:
        texts = self.processor.decode(made[:, num_prompt:], skip_special_tokens=True, **self._reading)
        return [str(text) for text in texts]

    def save_processor(self, folder: Path) -> None:
        # Padding of the last prompt, saved, would come back as options of the audio, which VibeVoice fails on.
        self.processor.tokenizer.backend_tokenizer.no_padding()
        self.processor.save_pretrained(folder)
