"""Sequence-to-sequence models: a speech encoder and a decoder that writes the text token by token.

Legend: B utterances, T frames, L labels, D model width.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from speechtune.errors import ModelError
from speechtune.models.frames import num_frames
from speechtune.models.inputs import ModelInput
from speechtune.models.recogniser import Recognised, Recogniser
from speechtune.models.seq2seq.token_loss import decoder_inputs, index_of, token_losses
from speechtune.models.whisper.context import EncoderContext, encode_frames
from speechtune.models.whisper.encoder_cache import EncoderCache, Store, weights_hash

__all__ = ["Seq2SeqRecogniser"]

log = logging.getLogger("speechtune")
NAN = float("nan")


class Seq2SeqRecogniser(Recogniser):
    """A model of AutoModelForSpeechSeq2Seq, its generation config ready: `model.generate()` needs no more options.

    Args:
        training_input: as `model_input`, but refuses what can only be recognised in pieces.
        context: of Whisper's encoder; None for other models.
        processor_class: of transformers, in which tokenizer and feature extractor are saved.
        max_labels: longest label sequence the decoder takes.
        prompt_known: labels hold the prompt that `generate` uses; if not (language detected clip by clip), there is
            no loss.
    """

    kind = "seq2seq"
    encoder_cache: EncoderCache | None = None
    label_smoothing = 0.0  # in training; an evaluation's loss is plain cross-entropy
    # Of the precision, for what runs outside the model's own forward; the trainer sets accelerate's.
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext

    def __init__(
        self,
        model: Any,
        *,
        tokenizer: Any,
        model_input: ModelInput,
        training_input: ModelInput | None = None,
        context: EncoderContext | None = None,
        processor_class: str = "Wav2Vec2Processor",
        max_labels: int | None = None,
        prompt_known: bool = True,
    ) -> None:
        super().__init__(model, tokenizer=tokenizer, model_input=model_input)
        self.training_input = training_input or model_input
        self.context = context
        self.max_duration_s = getattr(self.model_input, "max_duration_s", None)
        self.processor_class = processor_class
        self.max_labels = max_labels
        self.prompt_known = prompt_known
        self.start = int(model.config.decoder_start_token_id)
        self.end = int(tokenizer.eos_token_id)
        self.encoder_frozen = not any(p.requires_grad for p in model.get_encoder().parameters())
        self._told_of_long_clips = False

    @property
    def min_input_length(self) -> int:
        """SpecAugment's time span must fit into the shortest batch, or transformers raises."""
        config = copy.copy(getattr(self.model.config, "encoder", self.model.config))
        if self.context is not None or not getattr(config, "apply_spec_augment", False):
            return 0
        if not getattr(config, "mask_time_prob", 0) or self.model_input.name != "input_values":
            return 0
        config.add_adapter = False  # spans are masked before it
        length = 1
        while num_frames(config, [length])[0] <= config.mask_time_length:
            length *= 2
        return length

    def encode(self, text: str) -> Sequence[int]:
        """Label ids with the prompt, but for the start token that the decoder's input begins with, and the end."""
        ids = list(self.tokenizer(text, verbose=False).input_ids)
        if ids and ids[0] == self.start:
            ids = ids[1:]
        # GPT-2's tokenizer writes no end: a decoder trained without one never stops.
        return ids if ids and ids[-1] == self.end else [*ids, self.end]

    def num_items(self, batch: Any) -> int:
        return sum(batch.label_lengths)

    # ---- loss

    def losses(self, model: Any, batch: Any) -> torch.Tensor:
        self._refuse_long_clips(batch)
        if self.context is None or (self.context.margin_s is None and self.encoder_cache is None):
            with self.with_lengths(batch):
                return self._losses(model, batch.inputs, batch.labels, batch.label_lengths)
        features = batch.inputs["input_features"]
        groups = self.context.groups(batch.input_lengths)
        parts: list[torch.Tensor] = []
        for i, (frames, places) in enumerate(groups):
            index = index_of(places, features.device)
            hidden = self._encoded(batch, frames, places)
            lengths = [batch.label_lengths[place] for place in places]
            labels = batch.labels.index_select(0, index)[:, : max(1, *lengths)]
            # DDP's forward runs once a step, whatever the number of groups: it arms the exchange of gradients.
            inner = model if i == len(groups) - 1 else self.model
            parts.append(self._losses(inner, {"encoder_outputs": (hidden,)}, labels, lengths))
        order = [place for _, places in groups for place in places]
        back = index_of(sorted(range(len(order)), key=order.__getitem__), features.device)
        return torch.cat(parts).index_select(0, back)

    def _losses(
        self, model: Any, inputs: dict[str, Any], labels: torch.Tensor, label_lengths: Sequence[int]
    ) -> torch.Tensor:
        """(B,) float32; nan where there are more labels than the decoder takes (an evaluation leaves nothing out)."""
        limit = self.max_labels or labels.shape[1]
        labels, lengths = labels[:, :limit], [min(n, limit) for n in label_lengths]
        tokens = decoder_inputs(labels, start=self.start, pad=self.end)
        head = None if _is_sharded(model) or _is_compiled(model) else self.model.get_output_embeddings()
        inputs = {**inputs, "decoder_input_ids": tokens}
        if self.context is not None:  # without it Whisper looks for packed sequences, and a GPU is waited for
            inputs["decoder_attention_mask"] = torch.ones_like(tokens)
        smoothing = self.label_smoothing if torch.is_grad_enabled() else 0.0
        losses = token_losses(model, inputs, labels, lengths, head=head, smoothing=smoothing)
        if max(label_lengths) > limit:
            too_long = torch.tensor([n > limit for n in label_lengths], device=losses.device)
            losses = losses.masked_fill(too_long, NAN)
        return losses

    def keep_encoded(self, store: Store) -> None:
        """From now on, training takes what the frozen encoder makes of a clip from `store`, and puts it there."""
        assert self.encoder_frozen and self.context is not None
        self.encoder_cache = EncoderCache(store, weights=weights_hash(self.model.get_encoder()))

    def _encoded(self, batch: Any, frames: int, places: Sequence[int]) -> torch.Tensor:
        """Encoder states of these utterances of a training batch, (b, frames / 2, D)."""

        def compute(places: Sequence[int]) -> torch.Tensor:
            inputs = _select(batch.inputs, places, frames)
            with self._input_lengths.set_to(torch.tensor([batch.input_lengths[place] for place in places])):
                return self._encoded_frames(inputs["input_features"], inputs.get("attention_mask"))

        if self.encoder_cache is None or not batch.utterances:
            return compute(places)
        return self.encoder_cache.states(
            [batch.utterances[place].audio_key for place in places],
            frames,
            lambda missing: compute([places[i] for i in missing]),
            device=batch.labels.device,
        )

    def _encoded_frames(self, features: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Whisper's encoder on (B, F, T) -> (B, T / 2, D), with SpecAugment as its model does it."""
        wants_gradient = torch.is_grad_enabled() and not self.encoder_frozen
        with self.autocast(), torch.set_grad_enabled(wants_gradient):
            if self.model.training:
                features = self.model.model._mask_input_features(features, attention_mask=mask)
            return encode_frames(self.model.get_encoder(), features)

    def _refuse_long_clips(self, batch: Any, where: str = "training") -> None:
        if self.context is not None and max(batch.input_lengths) > self.context.max_frames:
            raise ModelError(
                f"A recording of {max(batch.input_lengths) / 100:.0f} s got into {where}: Whisper's encoder takes "
                f"{self.context.max_frames / 100:g} s.\nLeave out what is longer, with --max_duration_in_seconds."
            )

    # ---- recognition

    def recognise(self, model: Any, batch: Any, *, with_loss: bool) -> list[Recognised]:
        """The encoder runs once; loss and text come from the same output, the text as `model.generate()` gives it."""
        with self.autocast():
            if _is_sharded(model):
                return self._recognise_sharded(model, batch, with_loss=with_loss)
            return self._recognise(batch, with_loss=with_loss)

    def _recognise(self, batch: Any, *, with_loss: bool) -> list[Recognised]:
        found: dict[int, Recognised] = {}
        for frames, places in self._groups(batch):
            if frames is not None and self.context is not None and frames > self.context.max_frames:
                found |= {place: self._recognise_in_pieces(batch, place) for place in places}
                continue
            inputs = _select(batch.inputs, places, frames)
            encoded = self._encoder_outputs(inputs)
            lengths = [batch.label_lengths[place] for place in places]
            losses = [NAN] * len(places)
            mask = {} if self.context is not None else {k: v for k, v in inputs.items() if k == "attention_mask"}
            if with_loss and self.prompt_known and max(lengths) > 0:
                labels = batch.labels.index_select(0, index_of(places, batch.labels.device))[:, : max(lengths)]
                values = self._losses(self.model, {"encoder_outputs": encoded, **mask}, labels, lengths).tolist()
                losses = [value if n else NAN for value, n in zip(values, lengths, strict=True)]
            texts = self._texts(inputs, encoded, mask)
            rows = zip(places, texts, losses, lengths, strict=True)
            found |= {place: Recognised(text, loss, n) for place, text, loss, n in rows}
        return [found[place] for place in range(len(batch))]

    def _texts(self, inputs: dict[str, torch.Tensor], encoded: Any, mask: dict[str, torch.Tensor]) -> list[str]:
        """What `model.generate()` writes, from an encoder's output."""
        if self.context is None:
            ids = self.model.generate(encoder_outputs=encoded, **mask)
            return list(self.tokenizer.batch_decode(ids, skip_special_tokens=True))
        generation = self.model.generation_config
        # One pass. Whisper's generate() would go on behind the last timestamp written, with this same encoder output.
        once = getattr(generation, "no_speech_threshold", None) is None
        ids = self.model.generate(encoder_outputs=encoded, force_unique_generate_call=once)
        texts = list(self.tokenizer.batch_decode(ids, skip_special_tokens=True))
        first = getattr(generation, "no_timestamps_token_id", None)
        if first is None or self.context.margin_s is not None:
            return texts
        for row in torch.nonzero((ids > first).any(1)).flatten().tolist():  # rare: asked for none, it wrote timestamps
            ids = self.model.generate(input_features=inputs["input_features"][row : row + 1])
            texts[row] = self.tokenizer.batch_decode(ids, skip_special_tokens=True)[0]
        return texts

    def _recognise_sharded(self, model: Any, batch: Any, *, with_loss: bool) -> list[Recognised]:
        """By the model's own forward and generate() alone, which gather its weights; all processes generate in step."""
        self._refuse_long_clips(batch, "evaluation with --fsdp")
        losses = [NAN] * len(batch)
        if with_loss and self.prompt_known:
            losses = self._losses(model, batch.inputs, batch.labels, batch.label_lengths).tolist()
        texts = self.tokenizer.batch_decode(model.generate(**batch.inputs, synced_gpus=True), skip_special_tokens=True)
        return [Recognised(*said) for said in zip(texts, losses, batch.label_lengths, strict=True)]

    def _groups(self, batch: Any) -> list[tuple[int | None, list[int]]]:
        """Utterances whose encoder runs together; with their frames where it is Whisper's."""
        everyone = list(range(len(batch)))
        if self.context is None:
            return [(None, everyone)]
        limit = self.context.max_frames
        lengths = batch.input_lengths
        fits = [place for place in everyone if lengths[place] <= limit]
        groups = self.context.groups([lengths[place] for place in fits])
        long = [(lengths[place], [place]) for place in everyone if lengths[place] > limit]
        return [*((frames, [fits[i] for i in members]) for frames, members in groups), *long]

    def _encoder_outputs(self, inputs: dict[str, torch.Tensor]) -> Any:
        from transformers.modeling_outputs import BaseModelOutput

        values = inputs[self.model_input.name]
        if self.context is not None and values.shape[-1] != self.context.max_frames:
            return BaseModelOutput(last_hidden_state=self._encoded_frames(values))
        return self.model.get_encoder()(values, attention_mask=inputs.get("attention_mask"))

    def _recognise_in_pieces(self, batch: Any, place: int) -> Recognised:
        """A clip over 30 s: Whisper's own sequential way, window by window, cut at the timestamps it writes."""
        if not hasattr(self.model.generation_config, "no_timestamps_token_id"):
            raise ModelError(
                f"A recording of {batch.input_lengths[place] / 100:.0f} s: over 30 s Whisper goes by the timestamps it "
                "writes, and this model's generation_config.json has no no_timestamps_token_id.\n"
                "Give shorter recordings, or mend that file."
            )
        if not self._told_of_long_clips:
            log.info(
                "recordings over 30 s are recognised window by window, by the model's own timestamps; they have no loss"
            )
            self._told_of_long_clips = True
        features = batch.inputs["input_features"][place : place + 1, :, : batch.input_lengths[place]]
        ids = self.model.generate(input_features=features, return_timestamps=True)
        return Recognised(
            self.tokenizer.batch_decode(ids, skip_special_tokens=True)[0], NAN, batch.label_lengths[place]
        )

    def save_processor(self, folder: Path) -> None:
        import transformers

        feature_extractor = self.model_input.feature_extractor
        getattr(transformers, self.processor_class)(feature_extractor, self.tokenizer).save_pretrained(folder)
        feature_extractor.save_pretrained(folder)


def _select(inputs: dict[str, torch.Tensor], places: Sequence[int], frames: int | None) -> dict[str, torch.Tensor]:
    """These utterances' inputs, cut to `frames` on the last axis."""
    everyone = list(places) == list(range(len(next(iter(inputs.values())))))
    index = index_of(places, next(iter(inputs.values())).device)
    chosen = inputs if everyone else {name: value.index_select(0, index) for name, value in inputs.items()}
    return dict(chosen) if frames is None else {name: value[..., :frames] for name, value in chosen.items()}


def _is_sharded(model: Any) -> bool:
    """Whether parameters are whole only while the model's own forward runs (FSDP 1 or 2)."""
    return any(base.__name__ in ("FullyShardedDataParallel", "FSDPModule") for base in type(model).__mro__)


def _is_compiled(model: Any) -> bool:
    """torch.compile traces a forward anew where a hook is new."""
    return any(hasattr(module, "_orig_mod") for module in (model, getattr(model, "module", None)))
