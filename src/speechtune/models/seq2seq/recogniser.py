"""Sequence-to-sequence models: a speech encoder and a decoder that writes the text token by token.

Legend: B utterances, T frames, L labels, D model width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from speechtune.errors import ModelError
from speechtune.models.batch import Batch
from speechtune.models.frames import min_input_length, spec_augment_frames
from speechtune.models.inputs import ModelInput
from speechtune.models.recogniser import Recognised, Recogniser, is_sharded
from speechtune.models.seq2seq.n_best import n_best, num_prompt_tokens
from speechtune.models.seq2seq.token_loss import decoder_inputs, index_of, token_losses
from speechtune.models.whisper.context import EncoderContext, encode_frames
from speechtune.models.whisper.encoder_cache import EncoderCache, weights_hash
from speechtune.models.whisper.prompt import prompt_in

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.modeling_outputs import BaseModelOutput

    from speechtune.audio.cache import AudioCache

__all__ = ["Seq2SeqRecogniser", "is_compiled"]

NAN = float("nan")


class Seq2SeqRecogniser(Recogniser):
    """A model of AutoModelForSpeechSeq2Seq with a complete generation config: `model.generate()` needs no options.

    Args:
        training_input: as `model_input`, but refuses recordings over 30 s (Whisper).
        context: of Whisper's encoder; None for other models.
        processor_class: of transformers, in which tokenizer and feature extractor are saved.
        max_labels: longest label sequence the decoder takes.
        prompt_known: labels hold the prompt that `generate` uses; if not (language detected clip by clip), there is
            no loss.
        prompt: what the decoder is given before the transcript, its start token first (Canary, Cohere); not in labels.
        processor: of the checkpoint, to be saved instead of one that is made of `processor_class`.
        start: first token of the decoder; None: the prompt's, else that of the model's config.
    """

    kind = "seq2seq"
    encoder_cache: EncoderCache | None = None
    num_beams: int | None = None  # of the search; None: as the generation config says
    # Score of a text by a language model, added to its log probability in the choice among the beams.
    external_score: Callable[[str], float] | None = None
    # Tokens of a text that Whisper takes for what was said before, <|startofprev|> first: `preceding_tokens`.
    preceding: Sequence[int] = ()
    label_smoothing = 0.0  # in training; an evaluation's loss is plain cross-entropy
    # The run's precision, for what runs outside the model's own forward; the trainer sets accelerate's.
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        tokenizer: PreTrainedTokenizerBase,
        model_input: ModelInput,
        training_input: ModelInput | None = None,
        context: EncoderContext | None = None,
        processor_class: str = "Wav2Vec2Processor",
        max_labels: int | None = None,
        prompt_known: bool = True,
        prompt: Sequence[int] = (),
        processor: Any = None,
        start: int | None = None,
    ) -> None:
        super().__init__(model, tokenizer=tokenizer, model_input=model_input)
        self.training_input = training_input or model_input
        self.context = context
        self.max_duration_s = model_input.max_duration_s
        self.processor_class = processor_class
        self.max_labels = max_labels
        self.prompt_known = prompt_known
        self.prompt, self.processor = list(prompt), processor
        if start is None:
            start = self.prompt[0] if self.prompt else int(model.config.decoder_start_token_id)
        self.start = start
        self.end = int(tokenizer.eos_token_id)

    @cached_property
    def encoder_frozen(self) -> bool:
        """Nothing of the encoder is trained; what is trained is chosen before the first use."""
        return not any(parameter.requires_grad for parameter in self.model.get_encoder().parameters())

    @property
    def min_input_length(self) -> int:
        """SpecAugment's masks over time must fit into the shortest batch."""
        config = copy.copy(getattr(self.model.config, "encoder", self.model.config))
        config.add_adapter = False  # masks are applied before it
        frames = spec_augment_frames(config)
        if self.context is not None or not frames or self.model_input.name != "input_values":
            return 0
        return min_input_length(config, frames)

    @contextmanager
    def speaking(self, language: str | None) -> Iterator[None]:
        if self.context is None or language is None:
            yield
            return
        known = self.prompt_known
        with prompt_in(self.model, self.tokenizer, language):
            self.prompt_known = True
            try:
                yield
            finally:
                self.prompt_known = known

    def encode(self, text: str) -> Sequence[int]:
        """Return label ids with the prompt and the end token, without the decoder's start token."""
        if self.prompt:
            return [*self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids, self.end]
        ids = list(self.tokenizer(text, verbose=False).input_ids)
        if ids and ids[0] == self.start:
            ids = ids[1:]
        # GPT-2's tokenizer adds no end token: a decoder trained without one never stops.
        return ids if ids and ids[-1] == self.end else [*ids, self.end]

    def num_items(self, batch: Batch) -> int:
        return sum(batch.label_lengths)

    # ---- loss

    def losses(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        self._refuse_long_clips(batch, "training")
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
            # DDP's forward runs exactly once a step, for the last group: it prepares the sync of gradients.
            inner = model if i == len(groups) - 1 else self.model
            parts.append(self._losses(inner, {"encoder_outputs": (hidden,)}, labels, lengths))
        order = [place for _, places in groups for place in places]
        back = index_of(sorted(range(len(order)), key=order.__getitem__), features.device)
        return torch.cat(parts).index_select(0, back)

    def _losses(
        self, model: torch.nn.Module, inputs: dict[str, Any], labels: torch.Tensor, label_lengths: Sequence[int]
    ) -> torch.Tensor:
        """Return losses (B,) float32; nan where there are more labels than the decoder takes (in evaluation)."""
        limit = self.max_labels or labels.shape[1]
        labels, lengths = labels[:, :limit], [min(n, limit) for n in label_lengths]
        tokens = decoder_inputs(labels, start=self.start, pad=self.end)
        head = None if is_sharded(model) or is_compiled(model) else self.model.get_output_embeddings()
        skip = max(0, len(self.prompt) - 1)
        if skip:
            tokens = torch.cat([self._prompts(len(labels)).to(tokens.device), tokens[:, 1:]], dim=1)
        inputs = {**inputs, "decoder_input_ids": tokens}
        if self.context is not None:  # without it Whisper looks for packed sequences, which waits for the GPU
            inputs["decoder_attention_mask"] = torch.ones_like(tokens)
        smoothing = self.label_smoothing if torch.is_grad_enabled() else 0.0
        losses = token_losses(model, inputs, labels, lengths, head=head, smoothing=smoothing, skip=skip)
        if max(label_lengths) > limit:
            too_long = torch.tensor([n > limit for n in label_lengths], device=losses.device)
            losses = losses.masked_fill(too_long, NAN)
        return losses

    def keep_encoded(self, store: AudioCache) -> None:
        """Let training take the frozen encoder's output from `store` where it is there, and put it there otherwise."""
        assert self.encoder_frozen and self.context is not None
        self.encoder_cache = EncoderCache(store, weights=weights_hash(self.model.get_encoder()))

    def _encoded(self, batch: Batch, frames: int, places: Sequence[int]) -> torch.Tensor:
        """Return encoder states of these utterances of a training batch, (b, frames / 2, D)."""

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
        """Run Whisper's encoder, (B, F, T) -> (B, T / 2, D), with SpecAugment as its model does it."""
        needs_gradient = torch.is_grad_enabled() and not self.encoder_frozen
        with self.autocast(), torch.set_grad_enabled(needs_gradient):
            if self.model.training:
                features = self.model.model._mask_input_features(features, attention_mask=mask)
            return encode_frames(self.model.get_encoder(), features)

    def _refuse_long_clips(self, batch: Batch, where: str) -> None:
        if self.context is not None and max(batch.input_lengths) > self.context.max_frames:
            raise ModelError(
                f"A recording of {max(batch.input_lengths) / 100:.0f} s got into {where}: Whisper's encoder takes "
                f"{self.context.max_frames / 100:g} s.\nSkip longer ones with --max_duration_in_seconds."
            )

    # ---- recognition

    def recognise(self, model: torch.nn.Module, batch: Batch, *, with_loss: bool) -> list[Recognised]:
        """The encoder runs once; loss and text come from the same output, the text as `model.generate()` gives it."""
        self._refuse_long_clips(batch, "recognition")
        with self.autocast():
            if is_sharded(model):
                return self._recognise_sharded(model, batch, with_loss=with_loss)
            return self._recognise(batch, with_loss=with_loss)

    def _recognise(self, batch: Batch, *, with_loss: bool) -> list[Recognised]:
        groups: list[tuple[int | None, list[int]]] = [(None, list(range(len(batch))))]
        if self.context is not None:
            groups = list(self.context.groups(batch.input_lengths[: len(batch)]))
        found: dict[int, Recognised] = {}
        for frames, places in groups:
            inputs = _select(batch.inputs, places, frames)
            encoded = self.encoder_outputs(inputs)
            lengths = [batch.label_lengths[place] for place in places]
            losses = [NAN] * len(places)
            mask = {} if self.context is not None else {k: v for k, v in inputs.items() if k == "attention_mask"}
            if with_loss and self.prompt_known and max(lengths) > 0:
                labels = batch.labels.index_select(0, index_of(places, batch.labels.device))[:, : max(lengths)]
                values = self._losses(self.model, {"encoder_outputs": encoded, **mask}, labels, lengths).tolist()
                losses = [value if n else NAN for value, n in zip(values, lengths, strict=True)]
            texts = self._texts(self.model, encoder_outputs=encoded, **mask)
            rows = zip(places, texts, losses, lengths, strict=True)
            found |= {place: Recognised(text, loss, n, *more) for place, (text, *more), loss, n in rows}
        return [found[place] for place in range(len(batch))]

    def _texts(self, model: Any, **inputs: Any) -> list[tuple[Any, ...]]:
        """Return what `model.generate()` writes: one generation for all clips. The first fields of Recognised, no loss.

        Whisper's prompt has <|notimestamps|>. Where a model writes timestamps all the same, `generate()` would start
        again behind each, up to 150 times a clip; so they are suppressed.
        """
        if self.context is not None:
            generation = self.model.generation_config
            inputs["force_unique_generate_call"] = getattr(generation, "no_speech_threshold", None) is None
            no_timestamps = getattr(generation, "no_timestamps_token_id", None)
            if no_timestamps is not None:
                timestamps = range(no_timestamps + 1, self.model.config.vocab_size)
                inputs["suppress_tokens"] = [*timestamps, *(generation.suppress_tokens or ())]
        if self.prompt:
            values = inputs["encoder_outputs"][0] if "encoder_outputs" in inputs else inputs[self.model_input.name]
            inputs["decoder_input_ids"] = self._prompts(len(values))
        if self.external_score is None and not self.keeps_evidence:
            beams = {} if self.num_beams is None else {"num_beams": self.num_beams}
            made = model.generate(**inputs, **beams, **self.given_before())
            length = len(self.preceding)
            if made[:, :length].tolist() == [list(self.preceding)] * len(made):  # in a single generation it is there
                made = made[:, length:]
            return [(text,) for text in self.decoded(made, num_prompt=num_prompt_tokens(inputs))]
        score = self.external_score or (lambda text: 0.0)
        return [
            (max(texts, key=lambda text: texts[text] + score(text)), next(iter(texts)), texts)
            for texts in n_best(self, model, self.num_beams or 1, **inputs)
        ]

    def given_before(self) -> dict[str, torch.Tensor]:
        """Return the argument of Whisper's `generate` for the text before, if there is one."""
        device = next(self.model.parameters()).device
        return {"prompt_ids": torch.tensor(self.preceding, device=device)} if self.preceding else {}

    def decoded(self, made: torch.Tensor, *, num_prompt: int) -> list[str]:
        """Return the texts of what `generate` returned, of which `num_prompt` tokens were given to it."""
        return list(self.tokenizer.batch_decode(made, skip_special_tokens=True))

    def _prompts(self, num_rows: int) -> torch.Tensor:
        return torch.tensor([self.prompt] * num_rows, device=next(self.model.parameters()).device)

    def _recognise_sharded(self, model: Any, batch: Batch, *, with_loss: bool) -> list[Recognised]:
        """Use only the model's own forward and generate(), which gather its weights; all processes generate in step."""
        losses = [NAN] * len(batch)
        if with_loss and self.prompt_known:
            losses = self._losses(model, batch.inputs, batch.labels, batch.label_lengths).tolist()
        texts = self._texts(model, **batch.inputs, synced_gpus=True)
        rows = zip(texts, losses, batch.label_lengths, strict=True)
        return [Recognised(text, loss, n, *more) for (text, *more), loss, n in rows]

    def encoder_outputs(self, inputs: dict[str, torch.Tensor]) -> BaseModelOutput:
        """Run the encoder on padded inputs; Whisper's on as many frames as they have, at most its 30 s."""
        from transformers.modeling_outputs import BaseModelOutput

        values = inputs[self.model_input.name]
        if self.context is not None and values.shape[-1] != self.context.max_frames:
            return BaseModelOutput(last_hidden_state=self._encoded_frames(values))
        return self.model.get_encoder()(values, attention_mask=inputs.get("attention_mask"))

    def save_processor(self, folder: Path) -> None:
        import transformers

        feature_extractor = self.model_input.feature_extractor
        processor = self.processor or getattr(transformers, self.processor_class)(feature_extractor, self.tokenizer)
        processor.save_pretrained(folder)
        feature_extractor.save_pretrained(folder)


def _select(inputs: dict[str, torch.Tensor], places: Sequence[int], frames: int | None) -> dict[str, torch.Tensor]:
    """Return these utterances' inputs, cut to `frames` on the last axis."""
    everyone = list(places) == list(range(len(next(iter(inputs.values())))))
    index = index_of(places, next(iter(inputs.values())).device)
    chosen = inputs if everyone else {name: value.index_select(0, index) for name, value in inputs.items()}
    return dict(chosen) if frames is None else {name: value[..., :frames] for name, value in chosen.items()}


def is_compiled(model: Any) -> bool:
    """Return whether torch.compile wraps the model: it would trace it again for every new hook."""
    return any(hasattr(module, "_orig_mod") for module in (model, getattr(model, "module", None)))
