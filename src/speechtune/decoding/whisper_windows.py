"""Whisper over a long recording, in windows that start where the last finished segment ended.

Sources: Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision", section 4.5, and
openai/whisper's transcribe.py. Windows differ from theirs: they end at a pause, have their own mel normalisation (as
in training), and advance by MIN_ADVANCE_S at least, so that the number of generations is bounded by the duration.

Rejected: transformers' own long-form generation, whose cost has no bound (a random model needs 150 generations for one
window), and which computes the features of the whole recording at once.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutput

from speechtune.audio.samples import Samples, signal_problem
from speechtune.decoding.pauses import cut_at_pauses
from speechtune.decoding.whisper_words import whisper_words
from speechtune.models.seq2seq.recogniser import Seq2SeqRecogniser
from speechtune.types import Word

__all__ = ["WhisperWindows", "writes_timestamps"]

# Whisper's safeguards. A generation that fails is repeated at the next temperature; the last one counts anyway.
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
MAX_COMPRESSION_RATIO = 2.4  # of the text: more is a loop
MIN_LOG_PROB = -1.0  # mean of the tokens
MAX_NO_SPEECH = 0.6  # probability of <|nospeech|>; over it, a text under MIN_LOG_PROB is dropped
MIN_ADVANCE_S = 5.0  # a window whose finished segments are shorter is taken whole
MAX_NEW_TOKENS = 224
SEED = 0  # of sampling, for each window: the text does not depend on what was recognised before
TIMESTAMP_S = 0.02
NUM_TIMESTAMPS = 1501
UNSPACED = ("zh", "ja", "th", "lo", "my", "yue", "km")  # Whisper's languages without spaces between words


def writes_timestamps(recogniser: Seq2SeqRecogniser) -> bool:
    """Return whether the model is a Whisper whose vocabulary has timestamps that generation may write."""
    generation = recogniser.model.generation_config
    last_other = getattr(generation, "no_timestamps_token_id", None)
    if recogniser.context is None or last_other is None:
        return False
    has_timestamps = last_other + NUM_TIMESTAMPS < recogniser.model.config.vocab_size
    return has_timestamps and last_other + 1 not in (generation.suppress_tokens or ())


@dataclass(frozen=True, slots=True)
class _Window:
    """What Whisper wrote for one window: tokens without the prompt, and how sure it is of them."""

    tokens: list[int]
    text: str
    log_prob: float
    hidden: torch.Tensor  # of the encoder, (1, T, D)

    @property
    def is_loop(self) -> bool:
        written = self.text.encode("utf-8")
        return len(written) > MAX_COMPRESSION_RATIO * len(zlib.compress(written))


class WhisperWindows:
    """Goes over one recording by the timestamps that Whisper writes."""

    def __init__(
        self,
        recogniser: Seq2SeqRecogniser,
        samples: Samples,
        on_advance: Callable[[float], None] | None = None,
        *,
        with_words: bool = False,
    ) -> None:
        self.recogniser = recogniser
        self.samples = samples
        self.on_advance = on_advance
        self.with_words = with_words
        self.words: list[Word] = []  # with times in the samples, once `segments` is through
        self.generation: Any = recogniser.model.generation_config
        self.device = next(recogniser.model.parameters()).device
        self.first_timestamp = self.generation.no_timestamps_token_id + 1
        self.detected: str | None = None  # token of the language, where none is given

    @property
    def separator(self) -> str:
        language = str(self.detected or getattr(self.generation, "language", None) or "").strip("<|>")
        return "" if language in UNSPACED else " "

    def segments(self) -> Iterator[tuple[str, int, int]]:
        """Yield the text of each segment with its first and last sample."""
        rate, start = self.recogniser.sampling_rate, 0
        while start < len(self.samples):
            piece = next(cut_at_pauses(self.samples[start:], rate))
            advance = len(piece)
            if signal_problem(piece, rate) not in ("silent", "too_short"):
                found, advance_s = self._segments(self._recognised(piece), len(piece) / rate, start / rate)
                for text, start_s, end_s in found:
                    yield text, start + int(start_s * rate), start + int(end_s * rate)
                advance = min(advance, int(advance_s * rate)) if advance_s >= MIN_ADVANCE_S else advance
            start += advance
            if self.on_advance is not None:
                self.on_advance(advance / rate)

    def words_of(self, text: str) -> list[Word]:
        """Return the words of a text that was recognised in all of the samples, at most 30 s."""
        hidden = self._encoded(self.samples)
        tokens = self.recogniser.tokenizer(f" {text}", add_special_tokens=False).input_ids
        return self._words(hidden, tokens, self.samples)

    def _words(self, hidden: torch.Tensor, tokens: list[int], samples: Samples) -> list[Word]:
        text = [token for token in tokens if token < self.recogniser.end]
        return whisper_words(
            self.recogniser, hidden, text, samples=samples, language=self.detected, spaced=bool(self.separator)
        )

    def _segments(
        self, window: _Window | None, duration_s: float, start_s: float
    ) -> tuple[list[tuple[str, float, float]], float]:
        """Return text, start and end of a window's finished segments, and where the last ends; 0.0 is the window's end.

        A window without two timestamps in a row, or that ends with one, is finished as a whole.
        """
        tokens = [] if window is None else window.tokens
        is_time = [self._is_timestamp(token) for token in tokens]
        starts = [i + 1 for i in range(len(tokens) - 1) if is_time[i] and is_time[i + 1]]
        end_s = 0.0
        if starts and is_time[-2:] != [False, True]:
            end_s = self._seconds(tokens[starts[-1] - 1])
            if end_s >= MIN_ADVANCE_S:
                tokens = tokens[: starts[-1]]
        if self.with_words and window is not None:
            first, last = (round(s * self.recogniser.sampling_rate) for s in (start_s, start_s + duration_s))
            found = self._words(window.hidden, tokens, self.samples[first:last])
            self.words += [replace(w, start_s=w.start_s + start_s, end_s=w.end_s + start_s) for w in found]
        bounds = [0, *starts, len(tokens)]
        segments: list[tuple[str, float, float]] = []
        at_s = 0.0
        for i, j in itertools.pairwise(bounds):
            times_s = [self._seconds(token) for token in tokens[i:j] if self._is_timestamp(token)]
            from_s = times_s[0] if times_s and self._is_timestamp(tokens[i]) else at_s
            at_s = min(times_s[-1] if times_s and self._is_timestamp(tokens[j - 1]) else duration_s, duration_s)
            if text := self._decoded(tokens[i:j]):
                segments.append((text, min(from_s, at_s), at_s))
        return segments, end_s

    def _seconds(self, timestamp: int) -> float:
        return (timestamp - self.first_timestamp) * TIMESTAMP_S

    def _recognised(self, piece: Samples) -> _Window | None:
        """Return what is said in a piece of at most 30 s, None for no speech."""
        hidden = self._encoded(piece)
        for temperature in TEMPERATURES:
            window = self._generated(hidden, temperature)
            if window.log_prob < MIN_LOG_PROB and self._no_speech(hidden) > MAX_NO_SPEECH:
                return None
            if not window.is_loop and window.log_prob >= MIN_LOG_PROB:
                break
        return window

    def _encoded(self, piece: Samples) -> torch.Tensor:
        """Return the encoder's output of a piece, (1, T, D); the language is detected with the first."""
        recogniser = self.recogniser
        features = recogniser.model_input.features(piece)
        values = torch.from_numpy(recogniser.model_input.pad([features])["input_features"]).to(self.device)
        hidden = recogniser.encoder_outputs({"input_features": values}).last_hidden_state
        if self.generation.is_multilingual and getattr(self.generation, "language", None) is None and not self.detected:
            outputs = BaseModelOutput(last_hidden_state=hidden)
            (language,) = recogniser.model.detect_language(encoder_outputs=outputs).tolist()
            self.detected = next(token for token, i in self.generation.lang_to_id.items() if i == language)
        return hidden

    def _generated(self, hidden: torch.Tensor, temperature: float) -> _Window:
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(SEED)
            made = self.recogniser.model.generate(
                encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
                return_timestamps=True,
                force_unique_generate_call=True,
                return_dict_in_generate=True,
                output_scores=True,
                temperature=temperature,
                top_k=0,
                max_length=min(MAX_NEW_TOKENS, self.generation.max_length or MAX_NEW_TOKENS),
                **({"language": self.detected} if self.detected else {}),
                **self.recogniser.given_before(),
            )
        written = made.sequences[0].tolist()
        if self.recogniser.preceding:  # it is in the output
            written = written[written.index(self.recogniser.start) :]
        end = self.recogniser.end
        tokens = [token for token in written if token < end or token >= self.first_timestamp]
        if "sequences_scores" in made:  # of beams
            log_prob = float(made.sequences_scores[0])
        else:
            scores = torch.stack(made.scores)[:, 0].float() * (temperature or 1.0)
            chosen = torch.tensor(written[-len(scores) :], device=scores.device)
            log_prob = float(scores.log_softmax(-1).gather(1, chosen[:, None]).mean())
        return _Window(tokens, self._decoded(tokens), log_prob, hidden)

    def _no_speech(self, hidden: torch.Tensor) -> float:
        start = torch.tensor([[self.generation.decoder_start_token_id]], device=self.device)
        logits = self.recogniser.model(encoder_outputs=(hidden,), decoder_input_ids=start, use_cache=False).logits
        return float(logits[0, 0].float().softmax(-1)[self.generation.no_timestamps_token_id - 1])

    def _is_timestamp(self, token: int) -> bool:
        return self.first_timestamp <= token < self.first_timestamp + NUM_TIMESTAMPS

    def _decoded(self, tokens: list[int]) -> str:
        text = [token for token in tokens if not self._is_timestamp(token)]
        return str(self.recogniser.tokenizer.decode(text, skip_special_tokens=True)).strip()
