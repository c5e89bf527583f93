"""The two splits of a training as it would read and filter them, without loading a model's weights, or torch."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechtune.corpora.table import SplitTable
from speechtune.data.prepare import Limits, PreparedSplit, evaluation_limits, prepare_split, training_limits
from speechtune.errors import TextError
from speechtune.models.frames import num_frames
from speechtune.options.table import Family, Options, Settings
from speechtune.plan.plan import RunPlan
from speechtune.plan.resolve import resolve
from speechtune.text.languages import find_language
from speechtune.text.normalise import TextFunction
from speechtune.text.vocab import Labeller, build_vocabulary
from speechtune.training.data import read_corpus
from speechtune.types import Skipped, Utterance

__all__ = ["SAMPLING_RATE", "Corpus", "ModelNeeds", "Role", "model_needs", "read_roles"]

log = logging.getLogger("speechtune")

SAMPLING_RATE = 16_000  # Hz, of nearly every speech recogniser
WAV2VEC2 = {"model_type": "wav2vec2", "conv_kernel": (10, 3, 3, 3, 3, 2, 2), "conv_stride": (5, 2, 2, 2, 2, 2, 2)}

FramesOf = Callable[[ArrayLike], NDArray[np.int64]]  # durations in seconds -> encoder frames


@dataclass
class Role:
    """A split as training or as evaluation data.

    Args:
        table, texts: all of its rows, and their normalised transcripts.
        split: rows in use, before audio is decoded.
        limits: of decoded audio in training; None for evaluation, which uses everything that can be decoded.
        num_decoded: recordings in the decoded sample; the next three are about them.
        formats: (format, sampling rate in Hz, channels) -> recordings.
        unusable: skipped by training or evaluation.
        doubtful: (reason, utterance): silent, clipped or too short, but used by evaluation.
    """

    name: str
    table: SplitTable
    texts: list[str]
    split: PreparedSplit
    limits: Limits | None = None
    num_decoded: int = 0
    formats: Counter[tuple[str, int, int]] = field(default_factory=Counter)
    unusable: list[Skipped] = field(default_factory=list)
    doubtful: list[tuple[str, Utterance]] = field(default_factory=list)

    @property
    def skipped(self) -> list[Skipped]:
        """Utterances known to be skipped."""
        return [*self.split.dropped, *self.unusable]

    @property
    def num_used(self) -> int:
        return len(self.split) - len(self.unusable)

    @property
    def hours(self) -> float:
        return self.split.hours - float(np.nansum([row.duration_s for row in self.unusable])) / 3600


@dataclass(frozen=True)
class ModelNeeds:
    """The limits of a model on its utterances; a `ModelLimits`."""

    encode: Callable[[str], Sequence[int]] = lambda text: []
    vocabulary: dict[str, int] | None = None  # of a CTC model
    word_delimiter_token: str | None = None
    frames: FramesOf | None = None
    max_labels: int | None = None
    max_duration_s: float | None = None

    def frames_of(self) -> FramesOf | None:
        return self.frames


@dataclass(frozen=True)
class Corpus:
    """Both splits and what training does with them.

    Args:
        title: corpus and language.
        language: short code of the transcripts' language, or None.
        problem: why there can be no vocabulary; nothing is filtered then.
    """

    title: str
    language: str | None
    settings: Settings
    normalise: TextFunction
    needs: ModelNeeds
    train: Role
    evaluation: Role
    problem: str = ""

    @property
    def roles(self) -> tuple[Role, Role]:
        return self.train, self.evaluation


def read_roles(options: Options) -> Corpus:
    """Read both splits and filter them as training would.

    Raises:
        CorpusError, ModelError: the corpus, a split, a column or the model is missing.
    """
    plan = resolve(options)
    for note in plan.notes:
        log.info(note)
    data, settings = read_corpus(plan), plan.settings
    train, test = data.train, data.evaluation
    assert isinstance(train, SplitTable) and isinstance(test, SplitTable)  # the doctor does not stream
    texts, test_texts = data.train_texts, data.evaluation_texts
    needs, problem, limits, test_limits = ModelNeeds(), "", None, None
    try:
        where = f"{plan.corpus}, {settings.train_split_name}"
        needs = model_needs(settings, _model_config(plan), plan.family, texts, where=where, raw_texts=train.texts)
        limits, test_limits = training_limits(settings, needs), evaluation_limits(settings)
    except TextError as error:
        problem = str(error)
    known = find_language(plan.language or "")
    return Corpus(
        plan.corpus + (f", {known.name}" if known else ""),
        plan.language,
        settings,
        data.normalise,
        needs,
        Role("train", train, texts, prepare_split(train, texts, encode=needs.encode, limits=limits), limits),
        Role("evaluation", test, test_texts, prepare_split(test, test_texts, encode=needs.encode, limits=test_limits)),
        problem,
    )


def _model_config(plan: RunPlan) -> Any:
    """Return the config of the model; None stands for a CTC model of the usual kind."""
    if not plan.model_type:
        return None
    from speechtune.models.loading import model_config_of

    return model_config_of(plan.settings)


def model_needs(
    settings: Settings, model_config: Any, family: Family, texts: list[str], *, where: str, raw_texts: list[str]
) -> ModelNeeds:
    """Return the limits of a model without loading its weights.

    Args:
        model_config: None for a CTC model with the usual 50 frames a second.
        texts: normalised training text.

    Raises:
        TextError: the vocabulary would be empty.
        ModelError: the tokenizer can't be loaded.
    """
    if family == "seq2seq":
        from speechtune.models.loading import given_tokenizer, source_of

        tokenizer = given_tokenizer(settings, source_of(settings))
        return ModelNeeds(
            lambda text: tokenizer(text, verbose=False).input_ids,
            max_labels=getattr(getattr(model_config, "decoder", model_config), "max_target_positions", None),
            max_duration_s=30.0 if model_config.model_type == "whisper" else None,
        )
    if family == "transducer":
        from speechtune.models.ctc.pieces import PieceLabeller
        from speechtune.models.loading import given_tokenizer, source_of

        return ModelNeeds(PieceLabeller(given_tokenizer(settings, source_of(settings))))
    if (pieces := _own_pieces(settings, model_config)) is not None:
        return ModelNeeds(pieces, frames=_frames_of(model_config))
    special = {"unk_token": settings.unk_token, "word_delimiter_token": settings.word_delimiter_token}
    if settings.tokenizer_name_or_path is not None:
        from speechtune.models.loading import given_tokenizer

        tokenizer = given_tokenizer(settings, None)
        special = {name: getattr(tokenizer, name) for name in special}
        vocabulary = dict(tokenizer.get_vocab())
    else:
        vocabulary = build_vocabulary(
            texts, phones=settings.phones, pad_token=settings.pad_token, where=where, raw_texts=raw_texts, **special
        )
    labeller = Labeller(vocabulary, phones=settings.phones, **special)
    return ModelNeeds(labeller, vocabulary, special["word_delimiter_token"], _frames_of(model_config))


def _own_pieces(settings: Settings, model_config: Any) -> Callable[[str], Sequence[int]] | None:
    """Return the labels of a model that keeps its own pieces of words."""
    if model_config is None:
        return None
    from speechtune.models.ctc.pieces import PieceLabeller, writes_letters
    from speechtune.models.ctc.tokenizer import makes_vocabulary
    from speechtune.models.loading import given_tokenizer, source_of

    if makes_vocabulary(settings, model_config):
        return None
    tokenizer = given_tokenizer(settings, source_of(settings))
    return None if writes_letters(tokenizer) else PieceLabeller(tokenizer)


def _frames_of(model_config: Any) -> FramesOf | None:
    config = model_config or SimpleNamespace(**WAV2VEC2)
    if not hasattr(config, "conv_kernel"):
        return None  # takes filter banks, see `CtcRecogniser.frames_of`
    return lambda durations_s: num_frames(config, (np.asarray(durations_s) * SAMPLING_RATE).astype(np.int64))
