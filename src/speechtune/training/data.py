"""The data of a run: the corpus' splits, what is done to their transcripts, what is skipped, what makes batches."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from speechtune.audio.cache import AudioCache
from speechtune.audio.cache_files import audio_cache_folder
from speechtune.audio.reader import AudioReader
from speechtune.corpora import open_corpus
from speechtune.corpora.cache import cache_folder
from speechtune.corpora.stream import UtteranceStream
from speechtune.data.prepare import Limits, PreparedSplit, check_share_skipped, prepare_split, summary_line
from speechtune.models.frames import min_ctc_frames
from speechtune.models.recogniser import Recogniser
from speechtune.options.table import Options
from speechtune.text.languages import language_of
from speechtune.text.normalise import Normaliser, make_normaliser

__all__ = [
    "Splits",
    "dataset_of",
    "encoder_store_for",
    "open_splits",
    "prepare_splits",
    "reader_for",
    "text_normaliser",
    "training_limits",
]

log = logging.getLogger("speechtune")


@dataclass
class Splits:
    """The corpus' rows, not yet prepared: tables, or streams of the hub and of shards. Either split may be None.

    Args:
        name: of corpus and config, for messages and score files.
        language: short code, or None.
        train_split: what `train` was read from, as in `train+validation`.
    """

    name: str
    language: str | None
    train: Any
    evaluation: Any
    train_split: str = ""
    train_texts: list[str] = field(default_factory=list)
    evaluation_texts: list[str] = field(default_factory=list)

    def normalise(self, normalise: Callable[[str], str]) -> None:
        """Fill in the normalised transcripts; those of a stream come with it."""
        self.train_texts, self.evaluation_texts = (
            []
            if table is None or isinstance(table, UtteranceStream)
            else [normalise(text).strip() for text in table.texts]
            for table in (self.train, self.evaluation)
        )


def open_splits(options: Options, *, train: bool, evaluate: bool) -> Splits:
    """Find the corpus and index the splits that are asked for."""
    config = options.config
    corpus = open_corpus(
        config.dataset_name,
        config.dataset_config_name,
        corpora_dir=config.corpora_dir,
        cache_dir=config.cache_dir,
        token=config.token,
        trust_remote_code=config.trust_remote_code,
        overwrite_cache=config.overwrite_cache,
        allow_outside_audio=config.allow_outside_audio,
    )

    # What lies in files is read where it lies; only the hub and shards have to be taken as they come.
    streaming = config.streaming and corpus.layout.stream is not None
    if config.streaming and not streaming:
        log.info(f"--streaming: {corpus.label} lies on this disk and is read from there; nothing is decoded ahead")

    def chosen(option: str) -> str:
        """The splits of an option; of its default, those that the corpus has."""
        wanted = str(getattr(config, option))
        found = wanted if option in options.given else corpus.present(wanted)
        if found != wanted:
            absent = [part for part in wanted.split("+") if part not in found.split("+")]
            log.info(f"{corpus.label} has no split {' or '.join(absent)}: {found} it is")
        return found

    def read(expression: str, max_samples: int | None) -> Any:
        text_column = config.text_column_name if "text_column_name" in options.given else None
        if streaming:
            return corpus.stream(expression, text_column=text_column, audio_column=config.audio_column_name)
        table = corpus.read(
            expression,
            text_column=text_column,
            audio_column=config.audio_column_name,
            max_workers=config.preprocessing_num_workers,
        )
        return table if max_samples is None else table.select(np.arange(min(max_samples, len(table))))

    name = corpus.name + (f"/{corpus.config_name}" if corpus.config_name else "")
    language = language_of(corpus.language or config.dataset_config_name, config.target_language or config.language)
    train_split = chosen("train_split_name") if train else ""
    return Splits(
        name,
        language,
        read(train_split, config.max_train_samples) if train else None,
        read(config.eval_split_name, config.max_eval_samples) if evaluate else None,
        train_split,
    )


@dataclass(frozen=True)
class Phonemised:
    """Transcripts normalised, then written as phonemes."""

    normaliser: Any
    phonemizer: Any

    def __call__(self, text: str) -> str:
        return str(self.phonemizer(self.normaliser(text)))

    def describe(self) -> str:
        return f"{self.normaliser.describe()}; then {self.phonemizer.describe()}"

    def hash(self) -> str:
        return hashlib.sha256(self.describe().encode()).hexdigest()[:12]


def text_normaliser(
    options: Options, language: str | None, *, seq2seq: bool = False
) -> tuple[Any, Callable[[str], str]]:
    """What is done to transcripts, and what is done to hypotheses before they are scored against them."""
    config = options.config
    if config.corpus_phones:
        from speechtune.text.phonemes import TimitPhones

        return TimitPhones(), str
    normaliser = make_normaliser(
        config.protocol,
        config.chars_to_ignore,
        language=language,
        lower_case=config.do_lower_case,
        trailing_space=not seq2seq,
    )
    if isinstance(normaliser, Normaliser) and (letters := normaliser.letters_ignored()):
        log.warning(
            f"--chars_to_ignore deletes letters: {' '.join(letters)} (a shell may have put them for an unquoted ?)"
        )
    if config.phoneme_language is None:
        return normaliser, normaliser
    from speechtune.text.phonemes import make_phonemizer

    phonemizer = make_phonemizer(config.phoneme_language, word_delimiter_token=config.word_delimiter_token)
    return Phonemised(normaliser, phonemizer), str  # hypotheses are phonemes already


def training_limits(options: Options, recogniser: Recogniser) -> Limits:
    """What training leaves out: the user's limits and the model's."""
    config = options.config
    frames = recogniser.frames_of()
    return Limits(
        config.min_duration_in_seconds,
        min(config.max_duration_in_seconds, recogniser.max_duration_s or float("inf")),
        frames=frames,
        min_frames=min_ctc_frames if frames else None,
        max_labels=recogniser.max_labels,
    )


def prepare_splits(
    splits: Splits, options: Options, recogniser: Recogniser, *, skipped_path: Path
) -> tuple[PreparedSplit | None, PreparedSplit | None]:
    """Encode and filter both splits; say what is skipped, and stop where it is too much."""
    config = options.config
    durations = Limits(config.min_duration_in_seconds, config.max_duration_in_seconds)
    training = training_limits(options, recogniser)
    # The original scripts drop long clips from the score as well; the default scores every clip.
    evaluation = replace(durations, needs_text=False) if config.protocol == "readme" else None

    def prepare(role: str, table: Any, texts: list[str], limits: Limits | None) -> PreparedSplit | None:
        if table is None or isinstance(table, UtteranceStream):
            return None
        split = prepare_split(table, texts, encode=recogniser.encode, limits=limits)
        total = len(split) + len(split.dropped)
        if split.dropped:
            log.warning(summary_line(role, split.dropped, total=total, path=str(skipped_path)))
        check_share_skipped(
            role,
            split.dropped,
            total=total,
            max_share=config.max_skipped,
            strict=config.strict,
            path=str(skipped_path),
        )
        return split

    return (
        prepare("train", splits.train, splits.train_texts, training),
        prepare("evaluation", splits.evaluation, splits.evaluation_texts, evaluation),
    )


def reader_for(options: Options, sampling_rate: int) -> AudioReader:
    """Audio at the model's rate, kept decoded in the cache unless the user turned that off."""
    config = options.config
    if config.audio_cache_max_gb == 0:
        return AudioReader(sampling_rate)
    folder = audio_cache_folder(cache_folder(config.cache_dir), sampling_rate)
    max_bytes = None if config.audio_cache_max_gb is None else int(config.audio_cache_max_gb * 1e9)
    return AudioReader(sampling_rate, cache=AudioCache(folder, sampling_rate, max_bytes=max_bytes))


def encoder_store_for(options: Options) -> AudioCache:
    """Where a frozen encoder's output is kept (--encoder_cache): beside the decoded audio, and cleared with it."""
    config = options.config
    max_bytes = None if config.audio_cache_max_gb is None else int(config.audio_cache_max_gb * 1e9)
    return AudioCache(cache_folder(config.cache_dir) / "audio" / "encoder-v1", 0, max_bytes=max_bytes)


def dataset_of(
    rows: Any,
    split: PreparedSplit | None,
    reader: AudioReader,
    *,
    options: Options,
    args: Any,
    recogniser: Recogniser,
    normalise: Callable[[str], str],
    train: bool,
) -> Any:
    """What makes the batches of a split: a SpeechDataset, a StreamDataset, or None where there is no split."""
    from speechtune.data.dataset import BatchMaker, SpeechDataset
    from speechtune.data.streaming import StreamDataset

    if rows is None:
        return None
    config = options.config
    limits = training_limits(options, recogniser) if train else None
    make_batch = BatchMaker(
        reader,
        recogniser.training_input if train else recogniser.model_input,
        min_length=recogniser.min_input_length,
        split=rows.split,
        limits=limits,
    )
    if split is not None:
        return SpeechDataset(split, make_batch)
    return StreamDataset(
        rows,
        make_batch,
        normalise=normalise,
        encode=recogniser.encode,
        batch_size=args.per_device_train_batch_size if train else args.per_device_eval_batch_size,
        rank=args.process_index,
        world_size=args.world_size,
        limits=limits,
        buffer_size=config.shuffle_buffer_size,
        seed=args.seed,
        max_samples=config.max_train_samples if train else config.max_eval_samples,
    )
