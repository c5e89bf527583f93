"""The corpus of a run: finding it, choosing its splits, reading them, and speech shared between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from speechtune.corpora import open_corpus
from speechtune.corpora.corrections import apply_corrections, matched_rows, read_corrections
from speechtune.corpora.stream import UtteranceStream
from speechtune.corpora.table import SplitTable
from speechtune.errors import OptionError
from speechtune.options.table import Family, Settings
from speechtune.plan.plan import SplitPlan

if TYPE_CHECKING:
    from speechtune.corpora.corpus import Corpus

__all__ = ["choose_train_split", "corrections_note", "find_corpus", "read_split", "shared_speech", "split_plan"]


def find_corpus(settings: Settings) -> Corpus:
    """Find the corpus by name or path; only names are read.

    Raises:
        CorpusError: it is not there.
    """
    return open_corpus(
        settings.dataset_name,
        settings.dataset_config_name,
        corpora_dir=settings.corpora_dir,
        cache_dir=settings.cache_dir,
        token=settings.token,
        trust_remote_code=settings.trust_remote_code,
        overwrite_cache=settings.overwrite_cache,
        allow_outside_audio=settings.allow_outside_audio,
    )


def choose_train_split(corpus: Corpus, given: str | None, family: Family) -> tuple[str, str]:
    """Return the splits to train on and a note for the user (empty where there is nothing to say).

    As in the original scripts the default is `train+validation` with CTC and `train` for sequence-to-sequence models,
    whose validation split is for evaluation. A default split that the corpus lacks is left out of the sum; a split that
    the user names must exist.
    """
    if given is not None:
        return given, ""
    default = "train+validation" if family == "ctc" else "train"
    chosen = corpus.present(default)
    if chosen == default:
        return default, ""
    absent = " or ".join(part for part in default.split("+") if part not in chosen.split("+"))
    return chosen, f'{corpus.label}: no {absent} split; training on "{chosen}"'


def read_split(
    corpus: Corpus, settings: Settings, expression: str, *, max_samples: int | None
) -> SplitTable | UtteranceStream:
    """Read splits as a table, corrected by --corrections, or as a stream where `settings.streaming`.

    Raises:
        CorpusError: no such split or column, or nothing in it can be read; or --corrections can't be read.
    """
    text_column, audio_column = settings.text_column_name, settings.audio_column_name
    if settings.streaming:
        if settings.corrections:
            raise OptionError("--corrections with --streaming: a stream is not corrected. Leave one of them out.")
        return corpus.stream(expression, text_column=text_column, audio_column=audio_column)
    table = corpus.read(
        expression,
        text_column=text_column,
        audio_column=audio_column,
        max_workers=settings.preprocessing_num_workers,
    )
    table = table if max_samples is None else table.select(np.arange(min(max_samples, len(table))))
    return apply_corrections(table, read_corrections(settings.corrections)) if settings.corrections else table


def corrections_note(settings: Settings, tables: Sequence[SplitTable]) -> str:
    """Return what --corrections changed in the splits that are read, and which of its rows name none of their rows."""
    assert settings.corrections is not None
    corrections = read_corrections(settings.corrections)
    parts = [
        f"{table.split}: {table.num_corrected:,} transcripts changed, {len(table.removed):,} utterances removed"
        for table in tables
    ]
    removed = [row for table in tables for row in table.removed]
    matched = {one for table in tables for one, _ in matched_rows(table, corrections)}
    unmatched = [one for one in corrections if one not in matched]
    unknown = [one for one in unmatched if not any(one.names(row.id, row.file) for row in removed)]
    if unknown:
        names = ", ".join(one.id or one.file for one in unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        parts.append(f"{len(unknown):,} of its {len(corrections):,} rows are in none of these splits: {names}")
    return f"--corrections {settings.corrections}: {'; '.join(parts)}"


def split_plan(expression: str, rows: SplitTable | UtteranceStream) -> SplitPlan:
    """Return the size of a split."""
    if isinstance(rows, UtteranceStream):
        return SplitPlan(expression)
    hours = float(np.nansum(rows.durations_s.astype(np.float64))) / 3600
    return SplitPlan(expression, len(rows), hours, len(rows.skipped))


def shared_speech(train: SplitTable, evaluation: SplitTable, *, force: bool) -> str:
    """Return a warning where evaluation data was seen in training; empty where none was.

    Counted are recordings that are in both, and other recordings of a transcript by a speaker who says it in training.

    Raises:
        OptionError: every recording of the evaluation is in the training data, and not `force`.
    """
    keys = evaluation.column("#key")
    known = set(keys)
    trained = known.intersection(train.column("#key"))
    num_recordings = sum(key in trained for key in keys)
    if num_recordings == len(keys) and len(keys) and not force:
        raise OptionError(
            f"--eval_split_name {evaluation.split}: all {len(keys)} of its recordings are also in the training data "
            f"({train.split}), so its score would say nothing about new speech.\n"
            "Give another --eval_split_name or --train_split_name, or --force to do it all the same."
        )
    pairs = list(zip(evaluation.speakers, evaluation.texts, strict=True))
    said = set(pairs).intersection(zip(train.speakers, train.texts, strict=True))
    num_pairs = sum(
        key not in trained and pair[0] is not None and pair in said for key, pair in zip(keys, pairs, strict=True)
    )
    parts = []
    if num_recordings:
        parts.append(f"{num_recordings} recordings ({num_recordings / len(keys):.0%}) are also in the training data")
    if num_pairs:
        parts.append(
            f"{num_pairs} utterances ({num_pairs / len(keys):.0%}) repeat a transcript that the same speaker says there"
        )
    return f"evaluation split {evaluation.split}: {', and '.join(parts)}: scores may be too good" if parts else ""
