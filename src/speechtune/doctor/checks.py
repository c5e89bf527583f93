"""Measurements of a corpus that matter to training, without judgement or output.

Transcripts and durations are read in full; audio is decoded for a sample, since all of it would take as long as
reading it in an epoch.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechtune.audio.decode import read_header
from speechtune.audio.reader import AudioReader
from speechtune.audio.samples import signal_problem
from speechtune.corpora.table import SplitTable
from speechtune.data.prepare import Limits, PreparedSplit, check_decoded
from speechtune.doctor.old_data import Splits
from speechtune.errors import AudioError
from speechtune.models.frames import num_frames
from speechtune.options.table import Options
from speechtune.text.vocab import Labeller, build_vocabulary, count_tokens
from speechtune.types import Skipped, Utterance

__all__ = [
    "AudioSample",
    "ModelNeeds",
    "Role",
    "deleted_characters",
    "duration_histogram",
    "find_outliers",
    "model_needs",
    "sample_audio",
    "shared",
    "signs_in",
]

SAMPLING_RATE = 16_000  # Hz, of nearly every speech recogniser
EDGES_S = (0, 1, 2, 3, 4, 6, 8, 10, 15, 20, 30, math.inf)
MAX_DECODED, MAX_DECODED_S = 200, 1_800.0  # sample of a split: some seconds of work
WAV2VEC2 = {"model_type": "wav2vec2", "conv_kernel": (10, 3, 3, 3, 3, 2, 2), "conv_stride": (5, 2, 2, 2, 2, 2, 2)}
MIN_FOR_OUTLIERS = 20  # utterances
OUTLIER_DEVIATIONS, OUTLIER_FACTOR = 5.0, 2.5  # robust standard deviations of the logarithm; times the median

FramesOf = Callable[[ArrayLike], NDArray[np.int64]]  # durations in seconds -> encoder frames


@dataclass(frozen=True)
class ModelNeeds:
    """The limits of a model on its utterances, in the form `training_limits` takes from a Recogniser."""

    encode: Callable[[str], Sequence[int]]
    vocabulary: dict[str, int] | None = None  # of a CTC model
    word_delimiter_token: str | None = None
    frames: FramesOf | None = None
    max_labels: int | None = None
    max_duration_s: float | None = None

    def frames_of(self) -> FramesOf | None:
        return self.frames


def model_needs(options: Options, model_config: Any, splits: Splits) -> ModelNeeds:
    """Return the limits of a model without loading its weights.

    Args:
        options: with the model's family filled in, if it is known.
        model_config: None for a CTC model with the usual 50 frames a second.
        splits: with normalised texts.

    Raises:
        TextError: the vocabulary would be empty.
        ModelError: the tokenizer can't be loaded.
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
            pad_token=config.pad_token,
            where=f"{splits.name}, {splits.train_split}",
            raw_texts=splits.train.texts,
            **special,
        )
    labeller = Labeller(vocabulary, phones=config.phones, **special)
    return ModelNeeds(labeller, vocabulary, special["word_delimiter_token"], _frames_of(model_config))


def _frames_of(model_config: Any) -> FramesOf | None:
    config = model_config or SimpleNamespace(**WAV2VEC2)
    if not hasattr(config, "conv_kernel"):
        return None  # takes filter banks, see `CtcRecogniser.frames_of`
    return lambda durations_s: num_frames(config, (np.asarray(durations_s) * SAMPLING_RATE).astype(np.int64))


# ---- durations and texts


def duration_histogram(durations_s: ArrayLike) -> list[int]:
    """Count the durations from each of EDGES_S to below the next, length len(EDGES_S) - 1, without unknown ones."""
    return [int(count) for count in np.histogram(np.asarray(durations_s), bins=np.asarray(EDGES_S))[0]]


def deleted_characters(raw_texts: Sequence[str], normalise: Callable[[str], str]) -> Counter[str]:
    """Count the characters of transcripts that normalisation deletes."""
    counts = count_tokens(raw_texts)
    return Counter({char: n for char, n in counts.items() if not char.isspace() and not normalise(char).strip()})


def signs_in(texts: Sequence[str]) -> Counter[str]:
    """Count punctuation and symbols, which are seldom spoken, in normalised text."""
    counts = count_tokens(texts)
    return Counter({char: n for char, n in counts.items() if unicodedata.category(char)[0] in "PS" and char != "'"})


def shared(train: Sequence[Hashable], evaluation: Sequence[Hashable]) -> tuple[int, int]:
    """Count the distinct values in both splits and the evaluation utterances with one; empty values don't count."""
    both = {value for value in train if value} & {value for value in evaluation if value}
    return len(both), sum(value in both for value in evaluation)


def find_outliers(durations_s: NDArray[np.float32], texts: Sequence[str]) -> tuple[float, list[tuple[int, float]]]:
    """Return the median characters per second, and (row, characters per second) far from it, farthest first.

    Their text is far too long or short for the duration: often a wrong transcript or a cut clip. Far is 5 robust
    standard deviations of the logarithm and a factor of 2.5. Fewer than 20 utterances: nan and [].
    """
    lengths = np.array([len(text) for text in texts], np.float64)
    durations = np.asarray(durations_s, np.float64)
    known = np.flatnonzero((lengths > 0) & (durations > 0))
    if len(known) < MIN_FOR_OUTLIERS:
        return math.nan, []
    logs = np.log(lengths[known] / durations[known])
    median = float(np.median(logs))
    distances = np.abs(logs - median)
    spread = 1.4826 * float(np.median(distances))
    chosen = np.flatnonzero((distances > OUTLIER_DEVIATIONS * spread) & (distances > math.log(OUTLIER_FACTOR)))
    order = chosen[np.argsort(-distances[chosen], kind="stable")]
    return math.exp(median), [(int(known[i]), math.exp(float(logs[i]))) for i in order]


# ---- audio


@dataclass
class AudioSample:
    """Results of decoding some recordings of a split.

    Args:
        formats: (format, sampling rate in Hz, channels) -> recordings.
        unusable: skipped by training or evaluation.
        doubtful: (reason, utterance): silent, clipped or too short, but used by evaluation.
    """

    num_decoded: int = 0
    formats: Counter[tuple[str, int, int]] = field(default_factory=Counter)
    unusable: list[Skipped] = field(default_factory=list)
    doubtful: list[tuple[str, Utterance]] = field(default_factory=list)


@dataclass
class Role:
    """A split as training or as evaluation data.

    Args:
        table, texts: all of its rows, and their normalised transcripts.
        split: rows in use, before audio is decoded.
        limits: of decoded audio in training; None for evaluation, which uses everything that can be decoded.
    """

    name: str
    table: SplitTable
    texts: list[str]
    split: PreparedSplit
    limits: Limits | None
    sample: AudioSample = field(default_factory=AudioSample)

    @property
    def skipped(self) -> list[Skipped]:
        """Utterances known to be skipped."""
        return [*self.split.dropped, *self.sample.unusable]

    @property
    def num_used(self) -> int:
        return len(self.split) - len(self.sample.unusable)

    @property
    def hours(self) -> float:
        return self.split.hours - float(np.nansum([row.duration_s for row in self.sample.unusable])) / 3600


def sample_audio(
    split: PreparedSplit, limits: Limits | None, *, on_clip: Callable[[int], None] = lambda done: None
) -> AudioSample:
    """Decode and check up to 200 recordings, evenly spread over the split, or half an hour of them.

    Args:
        limits: of training; None for evaluation, which uses everything that can be decoded.
        on_clip: called with the number of recordings done.
    """
    sample, table, reader = AudioSample(), split.table, AudioReader(SAMPLING_RATE)
    for row in _spread(table.durations_s):
        utterance: Utterance | None = None
        try:
            utterance = table[row]
            header = read_header(utterance.audio, name=utterance.file)
            sample.formats[(header.format, header.sampling_rate, header.num_channels)] += 1
            samples = reader.pcm(utterance, max_duration_s=limits.max_decoded_s if limits is not None else math.inf)
            if limits is not None:
                check_decoded(utterance, split.texts[row], split.labels(row), samples, SAMPLING_RATE, limits)
            elif problem := signal_problem(samples, SAMPLING_RATE):
                sample.doubtful.append((problem, utterance))
        except AudioError as error:
            file = utterance.file if utterance else ""  # the bytes of a packed recording may be unreadable
            detail = " ".join(str(error).split())
            duration_s = float(table.durations_s[row])
            sample.unusable.append(Skipped(table.split, table.ids[row], file, error.reason, detail, duration_s))
        sample.num_decoded += 1
        on_clip(sample.num_decoded)
    return sample


def _spread(durations_s: NDArray[np.float32]) -> list[int]:
    """Return rows at equal distances, as many as the limits allow."""
    if not len(durations_s):
        return []
    mean_s = float(np.nanmean([0.1, *durations_s]))
    wanted = min(MAX_DECODED, len(durations_s), max(1, int(MAX_DECODED_S / mean_s)))
    return sorted({int(row) for row in np.linspace(0, len(durations_s) - 1, wanted)})
