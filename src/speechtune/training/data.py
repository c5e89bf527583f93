"""The data of a run: rows of the corpus, normalised transcripts, what is skipped, and the datasets of batches."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speechtune.audio.cache import AudioCache
from speechtune.audio.cache_files import audio_cache_folder
from speechtune.audio.reader import AudioReader
from speechtune.corpora.cache import cache_folder
from speechtune.corpora.stream import UtteranceStream
from speechtune.corpora.table import SplitTable
from speechtune.data.prepare import (
    Limits,
    PreparedSplit,
    check_share_skipped,
    evaluation_limits,
    prepare_split,
    summary_line,
    training_limits,
)
from speechtune.models.recogniser import Recogniser
from speechtune.options.table import Settings
from speechtune.plan.corpus import find_corpus, read_split
from speechtune.plan.plan import RunPlan
from speechtune.plan.text import text_normaliser
from speechtune.text.normalise import TextFunction

if TYPE_CHECKING:  # a corpus alone, as `speechtune doctor` reads it, needs no torch
    import numpy as np
    from numpy.typing import NDArray
    from transformers import TrainingArguments

    from speechtune.data.dataset import SpeechDataset
    from speechtune.data.streaming import StreamDataset
    from speechtune.reporting.audio import ReadPcm, Recorded

    AnyDataset = SpeechDataset | StreamDataset

__all__ = [
    "CorpusData",
    "Datasets",
    "audio_reader",
    "build_datasets",
    "corpus_audio",
    "encoder_store",
    "read_corpus",
]

log = logging.getLogger("speechtune")

Rows = SplitTable | UtteranceStream


@dataclass(frozen=True)
class CorpusData:
    """Rows of the splits that a run uses, before filtering.

    Args:
        train, evaluation: None where the run does not use the split.
        normalise: applied to transcripts.
        normalise_hypothesis: applied to hypotheses before they are scored.
        train_texts, evaluation_texts: normalised transcripts, one a row; empty for a stream.
    """

    train: Rows | None
    evaluation: Rows | None
    normalise: TextFunction
    normalise_hypothesis: Callable[[str], str]
    train_texts: list[str]
    evaluation_texts: list[str]

    def training_words(self) -> Counter[str]:
        """Return how often each word is in the training text; empty where nothing is trained, or from a stream."""
        return Counter(word for text in self.train_texts for word in text.split())


@dataclass(frozen=True)
class Datasets:
    """Batches of the splits that a run uses."""

    train: AnyDataset | None
    evaluation: AnyDataset | None


def read_corpus(plan: RunPlan) -> CorpusData:
    """Open the rows that the plan names; their index is in the cache since the plan was resolved."""
    settings = plan.settings
    corpus = find_corpus(settings)
    normalise, normalise_hypothesis = text_normaliser(settings, plan.language, plan.family)
    limits = (settings.max_train_samples, settings.max_eval_samples)
    train, evaluation = (
        None if split is None else read_split(corpus, settings, split.name, max_samples=limit)
        for split, limit in zip((plan.train, plan.evaluation), limits, strict=True)
    )
    texts = [
        [normalise(text).strip() for text in rows.texts] if isinstance(rows, SplitTable) else []
        for rows in (train, evaluation)
    ]
    return CorpusData(train, evaluation, normalise, normalise_hypothesis, *texts)


def build_datasets(plan: RunPlan, data: CorpusData, recogniser: Recogniser, args: TrainingArguments) -> Datasets:
    """Encode and filter the rows, say what is skipped, and make the datasets of batches.

    Raises:
        CorpusError: more is skipped than --max_skipped allows, or nothing is left.
    """
    from speechtune.data.dataset import BatchMaker, SpeechDataset
    from speechtune.data.streaming import StreamDataset

    settings = plan.settings
    training = training_limits(settings, recogniser)
    train_split = _prepare(plan, "train", data.train, data.train_texts, recogniser, training)
    eval_split = _prepare(
        plan, "evaluation", data.evaluation, data.evaluation_texts, recogniser, evaluation_limits(settings)
    )
    reader = audio_reader(settings, recogniser.sampling_rate)

    def dataset(rows: Rows | None, split: PreparedSplit | None, *, train: bool) -> AnyDataset | None:
        if rows is None:
            return None
        make_batch = BatchMaker(
            reader,
            recogniser.training_input if train else recogniser.model_input,
            min_length=recogniser.min_input_length,
            split=rows.split,
            limits=training if train else None,
        )
        if not isinstance(rows, UtteranceStream):
            assert split is not None
            return SpeechDataset(split, make_batch)
        return StreamDataset(
            rows,
            make_batch,
            normalise=data.normalise,
            encode=recogniser.encode,
            batch_size=args.per_device_train_batch_size if train else args.per_device_eval_batch_size,
            rank=args.process_index,
            world_size=args.world_size,
            limits=training if train else None,
            buffer_size=settings.shuffle_buffer_size,
            seed=args.seed,
            max_samples=settings.max_train_samples if train else settings.max_eval_samples,
        )

    return Datasets(dataset(data.train, train_split, train=True), dataset(data.evaluation, eval_split, train=False))


def _prepare(
    plan: RunPlan, role: str, rows: Rows | None, texts: list[str], recogniser: Recogniser, limits: Limits | None
) -> PreparedSplit | None:
    """Encode and filter one split; None for a stream, which is filtered as it comes."""
    if not isinstance(rows, SplitTable):
        return None
    split = prepare_split(rows, texts, encode=recogniser.encode, limits=limits)
    total = len(split) + len(split.dropped)
    path = str(plan.folder / "skipped.jsonl")
    if split.dropped:
        log.warning(summary_line(role, split.dropped, total=total, path=path))
    check_share_skipped(
        role,
        split.dropped,
        total=total,
        max_share=plan.settings.max_skipped,
        strict=plan.settings.strict,
        path=path,
    )
    return split


def audio_reader(settings: Settings, sampling_rate: int) -> AudioReader:
    """Return a reader at the model's rate that keeps decoded audio in the cache, unless the user turned that off."""
    if settings.audio_cache_max_gb == 0:
        return AudioReader(sampling_rate)
    folder = audio_cache_folder(cache_folder(settings.cache_dir), sampling_rate)
    return AudioReader(sampling_rate, cache=AudioCache(folder, sampling_rate, max_bytes=_max_bytes(settings)))


def corpus_audio(settings: Settings, rows: Sequence[Rows | None]) -> ReadPcm:
    """Return a reader of utterances for a report: rows of tables by id and file, else the files that they name."""
    from speechtune.reporting.audio import SAMPLING_RATE, read_file

    tables = [table for table in rows if isinstance(table, SplitTable)] if settings.report_audio_mb else []
    reader = audio_reader(settings, SAMPLING_RATE)
    places = {
        key: (table, place) for table in tables for place, key in enumerate(zip(table.ids, table.files, strict=True))
    }

    def read(row: Recorded, max_duration_s: float) -> NDArray[np.int16] | None:
        found = places.get((row.id, row.file))
        if found is None:
            return read_file(row, max_duration_s)
        table, place = found
        return reader.pcm(table[place], max_duration_s=max_duration_s)

    return read


def encoder_store(settings: Settings) -> AudioCache:
    """Return the store of a frozen encoder's output (--encoder_cache), beside the decoded audio and cleared with it."""
    folder = cache_folder(settings.cache_dir) / "audio" / "encoder-v1"
    return AudioCache(folder, 0, max_bytes=_max_bytes(settings))


def _max_bytes(settings: Settings) -> int | None:
    return None if settings.audio_cache_max_gb is None else int(settings.audio_cache_max_gb * 1e9)
