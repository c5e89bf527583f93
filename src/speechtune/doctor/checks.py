"""What of a corpus matters to training, counted: no opinion and no terminal, which are doctor.py's.

Transcripts and durations are looked at whole; of the audio itself a sample is decoded, since all of it would take as
long as an epoch's reading.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechtune.audio.decode import load_audio, read_header, signal_problem
from speechtune.errors import AudioError
from speechtune.models.frames import num_frames
from speechtune.options.table import Options
from speechtune.text.vocab import Labeller, build_vocabulary
from speechtune.training.data import Splits
from speechtune.types import Skipped, Utterance

__all__ = [
    "AudioSample",
    "ModelNeeds",
    "Odd",
    "deleted_characters",
    "duration_histogram",
    "model_needs",
    "odd_speeds",
    "sample_audio",
    "shared",
    "signs_in",
]

SAMPLING_RATE = 16_000  # of nearly every model of speech recognition
EDGES_S = (0, 1, 2, 3, 4, 6, 8, 10, 15, 20, 30, math.inf)
MAX_DECODED, MAX_DECODED_S = 200, 1_800.0  # of one split: some seconds of work
MIN_FOR_ODD = 20  # utterances below which "usual" means nothing
ODD_DEVIATIONS, ODD_FACTOR = 5.0, 2.5  # robust standard deviations of the logarithm, and times the median


# ---- what a model asks


@dataclass(frozen=True)
class ModelNeeds:
    """What of a model decides about what is skipped; stands in for a `Recogniser` in `training_limits`."""

    encode: Callable[[str], Sequence[int]]
    vocabulary: dict[str, int] | None = None  # of a CTC model
    word_delimiter_token: str | None = None
    frames: Callable[[ArrayLike], NDArray[np.int64]] | None = None
    max_labels: int | None = None
    max_duration_s: float | None = None

    def frames_of(self) -> Callable[[ArrayLike], NDArray[np.int64]] | None:
        return self.frames


def model_needs(options: Options, model_config: Any | None, splits: Splits) -> ModelNeeds:
    """What training of such a model needs of an utterance; its weights are not loaded.

    Args:
        options: with the model's kind filled in where the model is known.
        model_config: of transformers; None stands for a CTC model of the usual 50 frames a second.
        splits: with normalised texts.

    Raises:
        TextError: the vocabulary would be empty.
        ModelError: the tokenizer can't be had.
    """
    config = options.config
    if options.kind == "seq2seq":
        from speechtune.models.loading import given_tokenizer, source_of

        tokenizer = given_tokenizer(config, source_of(config))
        is_whisper = model_config is not None and model_config.model_type == "whisper"
        return ModelNeeds(
            lambda text: tokenizer(text, verbose=False).input_ids,
            max_labels=getattr(getattr(model_config, "decoder", model_config), "max_target_positions", None),
            max_duration_s=30.0 if is_whisper else None,
        )
    special = {"unk_token": config.unk_token, "word_delimiter_token": config.word_delimiter_token}
    if config.tokenizer_name_or_path is not None:
        from speechtune.models.loading import given_tokenizer

        tokenizer = given_tokenizer(config, None)
        special = {name: getattr(tokenizer, name) for name in special}
        vocabulary = dict(tokenizer.get_vocab())
    else:
        vocabulary = build_vocabulary(
            splits.train_texts,
            phones=config.phones,
            where=f"{splits.name}, {splits.train_split}",
            raw_texts=splits.train.texts,
            pad_token=config.pad_token,
            **special,
        )
    labeller = Labeller(vocabulary, phones=config.phones, **special)
    return ModelNeeds(labeller, vocabulary, special["word_delimiter_token"], _frames_of(model_config))


def _frames_of(model_config: Any | None) -> Callable[[ArrayLike], NDArray[np.int64]] | None:
    if model_config is None:
        # wav2vec2 and its kin: the first frame takes 400 samples, each further one 320.
        return lambda durations_s: np.maximum(0, (_num_samples(durations_s) - 400) // 320 + 1)
    if not hasattr(model_config, "conv_kernel"):
        return None  # reads filter banks, as `CtcRecogniser.frames_of` says
    return lambda durations_s: num_frames(model_config, _num_samples(durations_s))


def _num_samples(durations_s: ArrayLike) -> NDArray[np.int64]:
    return (np.asarray(durations_s) * SAMPLING_RATE).astype(np.int64)


# ---- durations and texts


def duration_histogram(durations_s: ArrayLike) -> list[int]:
    """Recordings from each of EDGES_S to below the next, length len(EDGES_S) - 1; unknown durations are in none."""
    return [int(count) for count in np.histogram(np.asarray(durations_s), bins=np.asarray(EDGES_S))[0]]


def deleted_characters(raw_texts: Sequence[str], normalise: Callable[[str], str]) -> Counter[str]:
    """Characters that normalisation takes away wholly, and how often they stand in the transcripts."""
    counts: Counter[str] = Counter()
    for text in raw_texts:
        counts.update(text)
    return Counter({char: n for char, n in counts.items() if not char.isspace() and not normalise(char).strip()})


def signs_in(texts: Sequence[str]) -> Counter[str]:
    """Punctuation and symbols in normalised text, which are seldom heard."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    return Counter({char: n for char, n in counts.items() if unicodedata.category(char)[0] in "PS" and char != "'"})


def shared(train: Sequence[Any], evaluation: Sequence[Any]) -> tuple[int, int]:
    """(distinct values in both, evaluation utterances that have one); None and empty values don't count."""
    both = {value for value in train if value} & {value for value in evaluation if value}
    return len(both), sum(value in both for value in evaluation)


@dataclass(frozen=True, slots=True)
class Odd:
    """An utterance whose text is far too long or short for its duration: often a wrong transcript or a cut clip."""

    row: int
    chars_per_s: float


def odd_speeds(durations_s: NDArray[np.float32], texts: Sequence[str]) -> tuple[float, list[Odd]]:
    """The usual characters per second, and the utterances far from it, farthest first.

    Far is 5 robust standard deviations of the logarithm and a factor of 2.5. Fewer than 20 utterances have no usual.
    """
    lengths = np.array([len(text) for text in texts], np.float64)
    durations = np.asarray(durations_s, np.float64)
    known = np.flatnonzero((lengths > 0) & (durations > 0))
    if len(known) < MIN_FOR_ODD:
        return math.nan, []
    logs = np.log(lengths[known] / durations[known])
    usual = float(np.median(logs))
    spread = 1.4826 * float(np.median(np.abs(logs - usual)))
    far = np.abs(logs - usual)
    chosen = np.flatnonzero((far > ODD_DEVIATIONS * spread) & (far > math.log(ODD_FACTOR)))
    order = chosen[np.argsort(-far[chosen], kind="stable")]
    return math.exp(usual), [Odd(int(known[i]), math.exp(float(logs[i]))) for i in order]


# ---- audio


@dataclass
class AudioSample:
    """What was found in the decoded recordings of a split.

    Args:
        num_decoded: recordings tried.
        formats: (format, sampling rate in Hz, channels) -> recordings.
        unusable: training would leave them out when it meets them.
        doubtful: (reason, utterance): silent, clipped or too short; training uses them.
    """

    num_decoded: int = 0
    formats: Counter[tuple[str, int, int]] = field(default_factory=Counter)
    unusable: list[Skipped] = field(default_factory=list)
    doubtful: list[tuple[str, Utterance]] = field(default_factory=list)


def sample_audio(table: Any, *, on_clip: Callable[[int], None] = lambda done: None) -> AudioSample:
    """Decode up to 200 recordings, evenly spread over the split (a SplitTable), or half an hour of them."""
    found = AudioSample()
    for row in _spread(table):
        found.num_decoded += 1
        utterance: Utterance | None = None
        try:
            utterance = table[row]
            header = read_header(utterance.audio, name=utterance.file)
            found.formats[(header.format, header.sampling_rate, header.num_channels)] += 1
            samples = load_audio(utterance.audio, SAMPLING_RATE, name=utterance.file)
        except AudioError as error:
            found.unusable.append(_skipped(table, row, utterance, error))
            continue
        problem = signal_problem(samples, SAMPLING_RATE)
        if problem is not None:
            found.doubtful.append((problem, utterance))
        on_clip(found.num_decoded)
    return found


def _spread(table: Any) -> list[int]:
    """Rows at equal distances, as many as the limits allow."""
    if not len(table):
        return []
    mean_s = float(np.nanmean([0.1, *table.durations_s]))
    wanted = min(MAX_DECODED, len(table), max(1, int(MAX_DECODED_S / mean_s)))
    return sorted({int(row) for row in np.linspace(0, len(table) - 1, wanted)})


def _skipped(table: Any, row: int, utterance: Utterance | None, error: AudioError) -> Skipped:
    detail = " ".join(str(error).split())
    if utterance is None:  # its bytes could not be had
        return Skipped(table.split, table.ids[row], "", error.reason, detail, float(table.durations_s[row]))
    return Skipped(table.split, utterance.id, utterance.file, error.reason, detail, utterance.duration_s)
