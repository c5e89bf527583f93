"""CTC models: losses and decoding, greedy or by a search that is set from outside.

Sources: Graves et al. 2006, "Connectionist Temporal Classification"; section 3.2, best path decoding.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from speechtune.models.batch import Batch
from speechtune.models.ctc.pieces import PieceDecoder, PieceLabeller, writes_letters
from speechtune.models.frames import min_input_length, num_frames, spec_augment_frames
from speechtune.models.inputs import MAX_WHOLE_S, ModelInput
from speechtune.models.recogniser import Recognised, Recogniser
from speechtune.text.vocab import Labeller

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["CtcRecogniser", "GreedyDecoder"]

WINDOW_S = 20.0  # where the length of the clips that a model was trained with is not known
MIN_WINDOW_S = 2.0
CLIP_KEY = "speechtune_clip_s"  # in config.json: mean duration of the training clips; plain transformers keeps it


class CtcRecogniser(Recogniser):
    """A model of AutoModelForCTC.

    Args:
        loss_reduction: "mean" divides each utterance's loss by its number of labels, and the step's by its utterances,
            as torch does; "sum" divides by nothing.
        phone_words: phones are recognised, with a delimiter between words.
        zero_infinity: an utterance with more labels than frames counts 0 instead of infinity.
    """

    kind = "ctc"
    window_s = WINDOW_S  # longest window of a long recording
    # Log probabilities of some utterances, (num_frames, num_labels) each -> the label of each of their frames.
    search: Callable[[Sequence[NDArray[np.float32]]], list[NDArray[np.int64]]] | None = None

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        tokenizer: PreTrainedTokenizerBase,
        model_input: ModelInput,
        phone_words: bool = False,
        loss_reduction: str = "mean",
        zero_infinity: bool = False,
    ) -> None:
        super().__init__(model, tokenizer=tokenizer, model_input=model_input)
        self.delimiter = str(tokenizer.word_delimiter_token) if phone_words else None
        self.loss_reduction = loss_reduction
        self.zero_infinity = zero_infinity
        self.upper_case = self.phones = False
        if (clip_s := getattr(model.config, CLIP_KEY, None)) is not None:
            self.expect_clips(clip_s)
        self.labeller: Callable[[str], Sequence[int]]
        self.decoder: Callable[[NDArray[np.integer[Any]]], str]
        if writes_letters(tokenizer):
            self._write_letters(tokenizer)
        else:
            self.blank = int(model.config.pad_token_id)
            self.labeller = PieceLabeller(tokenizer)
            self.decoder = PieceDecoder(tokenizer, blank=self.blank)

    def _write_letters(self, tokenizer: PreTrainedTokenizerBase) -> None:
        model = self.model
        self.blank = int(tokenizer.pad_token_id)
        self.phones = type(tokenizer).__name__ == "Wav2Vec2PhonemeCTCTokenizer"
        vocabulary = {token: i for token, i in tokenizer.get_vocab().items() if i < model.config.vocab_size}
        # Some checkpoints (wav2vec2-base-960h) know capital letters only.
        self.upper_case = not self.phones and "A" in vocabulary and "a" not in vocabulary
        self.labeller = Labeller(
            vocabulary,
            unk_token=tokenizer.unk_token,
            word_delimiter_token=tokenizer.word_delimiter_token,
            phones=self.phones,
        )
        self.decoder = GreedyDecoder(tokenizer, num_labels=int(model.config.vocab_size))

    def remember_clips(self, clip_s: float) -> None:
        """Keep the mean duration of the training clips with the model; recognition in windows fits it from now on."""
        setattr(self.model.config, CLIP_KEY, round(clip_s, 3))
        self.expect_clips(clip_s)

    def expect_clips(self, clip_s: float) -> None:
        """Recognise recordings over four times this duration in windows of up to twice of it."""
        self.window_s = min(max(2 * clip_s, MIN_WINDOW_S), WINDOW_S)
        self.model_input.usual_whole_s = min(2 * self.window_s, MAX_WHOLE_S)

    @property
    def min_input_length(self) -> int:
        """One frame must come out, and SpecAugment's masks must fit into the shortest batch."""
        return min_input_length(self.model.config, spec_augment_frames(self.model.config) or 1)

    def encode(self, text: str) -> Sequence[int]:
        return self.labeller(text.upper() if self.upper_case else text)

    def words_of(self, text: str) -> str:
        """Of phones "m ɛ | d ø" the words "mɛ dø"; TIMIT's phones, which have no words, stay phones."""
        return text if self.delimiter is None else text.replace(" ", "").replace(self.delimiter, " ")

    def phones_of(self, text: str) -> str:
        return text if self.delimiter is None else text.replace(self.delimiter, " ")

    def frames_of(self) -> Callable[[ArrayLike], NDArray[np.int64]] | None:
        if self.model_input.num_features(np.zeros(1, np.int64)) is None:
            return None
        return self._frames_of_seconds

    def _frames_of_seconds(self, durations_s: ArrayLike) -> NDArray[np.int64]:
        lengths = self.model_input.num_features((np.asarray(durations_s) * self.sampling_rate).astype(np.int64))
        assert lengths is not None
        return self._frames(lengths)

    def _frames(self, input_lengths: ArrayLike) -> NDArray[np.int64]:
        return num_frames(self.model.config, np.asarray(input_lengths).astype(np.int64))

    def losses(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        with self.with_lengths(batch):
            logits = model(**batch.inputs).logits
        if not len(batch):
            return logits.float().sum()[None] * 0.0
        return self._ctc(logits, batch)

    def num_items(self, batch: Batch) -> int:
        return len(batch) if self.loss_reduction == "mean" else 0

    def _ctc(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the CTC loss of each utterance (B,), in float32: half precision loses sums over paths."""
        # Lengths stay on the CPU: there they cost no wait for the GPU.
        target_lengths = torch.tensor(batch.label_lengths)
        log_probs = torch.log_softmax(logits.float(), dim=-1).transpose(0, 1)
        losses = torch.nn.functional.ctc_loss(
            log_probs,
            batch.labels.clamp(min=0),
            torch.from_numpy(np.minimum(self._frames(batch.input_lengths), log_probs.shape[0])),
            target_lengths,
            blank=self.blank,
            reduction="none",
            zero_infinity=self.zero_infinity,
        )
        if self.loss_reduction == "mean":
            losses = losses / target_lengths.clamp(min=1).to(losses.device, non_blocking=True)
        return losses

    def recognise(self, model: torch.nn.Module, batch: Batch, *, with_loss: bool) -> list[Recognised]:
        logits = model(**batch.inputs).logits
        frame_lengths = np.minimum(self._frames(batch.input_lengths), logits.shape[1])
        losses = self._ctc(logits, batch).cpu().tolist() if with_loss else [float("nan")] * len(batch)
        ids = logits.argmax(-1).cpu().numpy()
        best = [row[:length] for row, length in zip(ids, frame_lengths.tolist(), strict=True)]
        texts = [self.decoder(path) for path in best]
        if self.search is None and not self.keeps_evidence:
            return [Recognised(text, loss, 1, path=path) for text, loss, path in zip(texts, losses, best, strict=True)]
        padded = logits.float().log_softmax(-1).cpu().numpy()
        log_probs = [row[:length] for row, length in zip(padded, frame_lengths.tolist(), strict=True)]
        if self.search is None:
            rows = zip(texts, losses, log_probs, strict=True)
            return [Recognised(text, loss, 1, evidence=of_text.astype(np.float16)) for text, loss, of_text in rows]
        paths = self.search(log_probs)
        return [
            Recognised(self.decoder(path), loss, 1, text, path=path)
            for path, text, loss in zip(paths, texts, losses, strict=True)
        ]

    def save_processor(self, folder: Path) -> None:
        import transformers

        feature_extractor = self.model_input.feature_extractor
        processor_class = getattr(transformers, self.model_input.processor_class)
        takes_type = "decoder_type" in inspect.signature(processor_class.__init__).parameters
        options = {"decoder_type": "ctc"} if takes_type else {}
        processor_class(feature_extractor, self.tokenizer, **options).save_pretrained(folder)
        feature_extractor.save_pretrained(folder)  # preprocessor_config.json, for older transformers too


class GreedyDecoder:
    """Collapse repeats, drop blanks and join tokens, as `tokenizer.decode` does (a test holds it), on whole arrays.

    Special tokens other than the blank are written out, as `tokenizer.decode` does: an unknown token in a hypothesis is
    an error to be seen.

    Args:
        tokenizer: of a CTC model.
        num_labels: size of the model's head, which may exceed the tokenizer's vocabulary.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, num_labels: int) -> None:
        self.blank = int(tokenizer.pad_token_id)
        delimiter = getattr(tokenizer, "word_delimiter_token", None)
        tokens = {i: token for token, i in tokenizer.get_vocab().items()}
        unknown = str(tokenizer.unk_token or "")
        named = [tokens.get(i, unknown) for i in range(max(num_labels, len(tokens)))]
        phones = type(tokenizer).__name__ == "Wav2Vec2PhonemeCTCTokenizer"
        # Among phones the delimiter stays, or one could not tell words from phones.
        self.tokens = np.array([" " if token == delimiter and not phones else token for token in named], dtype=object)
        self.joint = " " if phones else ""
        self.lower = bool(getattr(tokenizer, "do_lower_case", False))

    def __call__(self, ids: NDArray[np.integer[Any]]) -> str:
        """Label ids of the real frames, (num_frames,) -> text."""
        if len(ids) == 0:
            return ""
        first = np.concatenate([[True], ids[1:] != ids[:-1]])
        kept = ids[first & (ids != self.blank)]
        text = self.joint.join(self.tokens[kept]).strip()
        return text.lower() if self.lower else text
