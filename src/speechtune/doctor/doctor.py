"""`speechtune doctor`: read a corpus as training would, train nothing, and report what would happen.

Prints tables of facts, then remarks, then whether training would begin. The verdict comes from the functions that
training itself calls (data/prepare.py), so the two can't disagree. Audio is decoded for a sample; where that is not the
whole split, the share that can't be used is estimated from it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from speechtune.corpora.table import SplitTable
from speechtune.data.prepare import (
    REASON_WORDS,
    Limits,
    check_share_skipped,
    prepare_split,
)
from speechtune.doctor.checks import (
    SAMPLING_RATE,
    ModelNeeds,
    Role,
    deleted_characters,
    model_needs,
    sample_audio,
    shared,
    signs_in,
)
from speechtune.doctor.old_data import Splits, open_splits, text_normaliser, training_limits
from speechtune.doctor.tables import show
from speechtune.errors import CorpusError, TextError
from speechtune.files import explain_write_errors
from speechtune.options.table import Options
from speechtune.plan.output_folder import write_skipped
from speechtune.terminal.formatting import percent, visible
from speechtune.terminal.progress import progress_bar
from speechtune.text.languages import find_language
from speechtune.text.vocab import count_tokens, list_characters, missing_characters

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = ["run"]

log = logging.getLogger("speechtune")

MAX_LISTED = 8  # characters or clips in one line
RARE = 5  # occurrences below which a character is hardly learnt


@dataclass
class Findings:
    """Remarks, and what would stop training."""

    remarks: list[str] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)


def run(options: Options) -> int:
    """Print what training on the corpus would meet; write skipped.jsonl if `--output_dir` is given.

    Returns:
        Exit code: 0, or 2 if training would stop.

    Raises:
        CorpusError: the corpus, a split or a column is missing.
        ModelError: `--model_name_or_path` can't be loaded.
        OutputError: `--output_dir` can't be written.
    """
    for note in options.notes:
        log.info(note)
    options, model_config = _with_model(options)
    splits = open_splits(options, train=True, evaluate=True)
    normalise, _ = text_normaliser(options, splits.language, seq2seq=options.kind == "seq2seq")
    splits.normalise(normalise)
    found = Findings()
    roles = _prepare(options, model_config, splits, found)
    with progress_bar("decoding a sample", unit="clips") as update:
        for role in roles:
            role.sample = sample_audio(role.split, role.limits, on_clip=lambda done: update(done, 0))
    for role in roles:
        _check_share(options, role, found)
        _check_audio(role, found)
    _check_text(options, splits, normalise, found)
    _check_overlap(*roles, found)
    language = find_language(splits.language or "")
    show(splits.name + (f", {language.name}" if language else ""), roles, found.remarks, found.stops)
    if options.output_dir is not None:
        skipped = [row for role in roles for row in role.skipped]
        with explain_write_errors("skipped.jsonl", options.output_dir):
            write_skipped(options.output_dir, skipped)
        print(f"{len(skipped)} utterances in {options.output_dir / 'skipped.jsonl'}")
    return 2 if found.stops else 0


def _with_model(options: Options) -> tuple[Options, PretrainedConfig | None]:
    if not options.config.model_name_or_path:
        return options, None
    from speechtune.models.loading import family_of, model_config_of

    model_config = model_config_of(options.config)
    return options.for_family(family_of(model_config)), model_config


def _prepare(
    options: Options, model_config: PretrainedConfig | None, splits: Splits, found: Findings
) -> tuple[Role, Role]:
    """Filter both splits as training would."""
    try:
        needs = model_needs(options, model_config, splits)
    except TextError as error:
        found.stops.append(str(error))
        needs = ModelNeeds(encode=lambda text: [])
    training = training_limits(options, needs)  # type: ignore[arg-type]
    # Evaluation excludes nothing, unless scores follow the original scripts.
    is_readme = options.config.protocol == "readme"
    evaluation = replace(training, frames=None, max_labels=None, needs_text=False) if is_readme else None

    def role(name: str, table: SplitTable, texts: list[str], limits: Limits | None, checked: Limits | None) -> Role:
        split = prepare_split(table, texts, encode=needs.encode, limits=None if found.stops else limits)
        return Role(name, table, texts, split, None if found.stops else checked)

    train = role("train", splits.train, splits.train_texts, training, training)
    test = role("evaluation", splits.evaluation, splits.evaluation_texts, evaluation, None)
    _check_alphabet(needs, train, test, found, phones=options.config.phones)
    return train, test


def _check_share(options: Options, role: Role, found: Findings) -> None:
    """Apply training's own check of what is skipped, estimated for the whole split from the decoded sample."""
    unusable, num_decoded = role.sample.unusable, role.sample.num_decoded
    estimate = round(len(unusable) * len(role.split) / max(num_decoded, 1))
    skipped = [*role.split.dropped, *(unusable[i % len(unusable)] for i in range(estimate))]
    try:
        check_share_skipped(
            role.name,
            skipped,
            total=len(role.split) + len(role.split.dropped),
            max_share=options.config.max_skipped,
            strict=options.config.strict,
            path=str((options.output_dir or Path()) / "skipped.jsonl"),
        )
    except CorpusError as error:
        is_estimate = estimate > len(unusable)
        found.stops.append((f"estimated from {num_decoded} decoded recordings, " if is_estimate else "") + str(error))


# ---- remarks


def _check_alphabet(needs: ModelNeeds, train: Role, evaluation: Role, found: Findings, *, phones: bool) -> None:
    if needs.vocabulary is None:
        return
    for role in (train, evaluation):
        missing = missing_characters(
            needs.vocabulary, role.texts, word_delimiter_token=needs.word_delimiter_token, phones=phones
        )
        if missing:
            what = f"{len(missing)} characters are not in the vocabulary, so always wrong"
            found.remarks.append(f"{role.name} text: {what}: {list_characters(missing, MAX_LISTED)}")
    counts = count_tokens(train.texts, phones=phones)
    rare = Counter({token: n for token, n in counts.items() if n < RARE and token != " "})
    if rare:
        what = f"{len(rare)} characters occur fewer than {RARE} times"
        found.remarks.append(f"train text: {what}: {list_characters(rare, MAX_LISTED, rarest_first=True)}")


def _check_text(options: Options, splits: Splits, normalise: Callable[[str], str], found: Findings) -> None:
    plain = getattr(normalise, "normaliser", normalise)  # what a phonemizer's text is normalised with
    if not hasattr(plain, "ignored"):
        return
    deleted = deleted_characters(splits.train.texts, plain)
    letters = Counter({char: n for char, n in deleted.items() if char.isalnum() or char == "'"})
    if letters:
        listed = list_characters(letters, MAX_LISTED)
        found.remarks.append(f"normalisation deletes letters, digits or apostrophes: {listed}")
    signs = signs_in([plain(text) for text in splits.train.texts])
    if signs and not options.config.phones:
        listed = list_characters(signs, MAX_LISTED)
        found.remarks.append(f"signs that are learnt as letters unless in --chars_to_ignore: {listed}")


def _check_overlap(train: Role, evaluation: Role, found: Findings) -> None:
    total = len(evaluation.texts)
    for what, values in (
        ("recordings", [role.table.column("#key") for role in (train, evaluation)]),
        ("sentences", [train.texts, evaluation.texts]),
        ("speakers", [role.table.speakers for role in (train, evaluation)]),
    ):
        distinct, affected = shared(*values)
        if distinct:
            found.remarks.append(
                f"{what} in both splits: {distinct:,}, in {affected:,} of {total:,} evaluation utterances "
                f"({percent(affected / total)}); the scores say less about new {what}"
            )


def _check_audio(role: Role, found: Findings) -> None:
    unknown = int(np.isnan(role.table.durations_s).sum())
    if unknown:
        found.remarks.append(f"{role.name}: {unknown:,} utterances of unknown duration")
    sample = role.sample
    if sample.doubtful:
        problems = Counter(reason for reason, _ in sample.doubtful)
        reasons = ", ".join(f"{n} {REASON_WORDS.get(reason, reason)}" for reason, n in problems.most_common())
        first = visible(sample.doubtful[0][1].file)
        found.remarks.append(f"{role.name}: of {sample.num_decoded} decoded recordings {reasons}; first: {first}")
    low = sum(n for (_, rate, _), n in sample.formats.items() if rate < SAMPLING_RATE)
    if low:
        found.remarks.append(
            f"{role.name}: {low} of {sample.num_decoded} recordings are below {SAMPLING_RATE // 1000} kHz: "
            "the model misses the upper part of their band"
        )
