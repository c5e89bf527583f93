"""The data of a run: the corpus' splits, what is done to their transcripts, what is skipped, what makes batches."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from speechtune.corpora import open_corpus
from speechtune.corpora.stream import UtteranceStream
from speechtune.data.prepare import Limits
from speechtune.models.frames import min_ctc_frames
from speechtune.models.recogniser import Recogniser
from speechtune.options.table import Options
from speechtune.text.languages import language_of
from speechtune.text.normalise import Normaliser, make_normaliser

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
        wanted = str(getattr(config, option) or "train+validation")
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
