"""Reads a corpus as training would, trains nothing, and says what would happen: `speechtune doctor --dataset_name X`.

First the facts, in tables; then what is worth a look; at the end whether training would begin. Everything that decides
about an utterance is the code that training itself runs (run_data.py, data/prepare.py), so the two can't disagree.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from speechtune.data.prepare import (
    REASON_WORDS,
    PreparedSplit,
    check_share_skipped,
    prepare_split,
    summary_line,
)
from speechtune.doctor.checks import (
    SAMPLING_RATE,
    AudioSample,
    ModelNeeds,
    Odd,
    deleted_characters,
    model_needs,
    odd_speeds,
    sample_audio,
    shared,
    signs_in,
)
from speechtune.doctor.tables import Tables
from speechtune.errors import SpeechtuneError, TextError
from speechtune.options.table import Options
from speechtune.terminal.bar import progress_bar
from speechtune.terminal.formatting import percent, shorten, visible
from speechtune.text.languages import find_language
from speechtune.text.vocab import missing_characters, name_character
from speechtune.training.data import Splits, open_splits, text_normaliser, training_limits
from speechtune.training.output_folder import write_skipped
from speechtune.types import Skipped

__all__ = ["run"]

log = logging.getLogger("speechtune")

MAX_NAMED = 8  # characters or clips in one line
RARE = 5  # times: below, a character is hardly learnt


def run(options: Options) -> int:
    """Print what training on the corpus would meet; write skipped.jsonl where `--output_dir` is given.

    Returns:
        Exit code: 0, or 2 where training would stop.

    Raises:
        CorpusError: the corpus, a split or a column is not there.
        ModelError: `--model_name_or_path` is given and can't be had.
    """
    for note in options.notes:
        log.info(note)
    options, model_config = _with_model(options)
    splits = open_splits(options, train=True, evaluate=True)
    normalise, _ = text_normaliser(options, splits.language, seq2seq=options.kind == "seq2seq")
    splits.normalise(normalise)
    found = _Findings()
    roles = _prepare(options, model_config, splits, found)
    with progress_bar("decoding a sample", unit="clips") as update:
        for role in roles:
            role.sample = sample_audio(role.used, on_clip=lambda done: update(done, 0))
    _check_steps(options, splits, roles, normalise, found)
    _show(options, splits, roles, found)
    if options.output_dir is not None:
        skipped = [row for role in roles for row in [*role.dropped, *role.sample.unusable]]
        write_skipped(options.output_dir, skipped)
        print(f"{len(skipped)} utterances in {options.output_dir / 'skipped.jsonl'}")
    return 2 if found.stops else 0


@dataclass
class _Findings:
    """What is worth a look, and what would stop training."""

    remarks: list[str] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)


@dataclass
class _Role:
    """A split in its role: "train" or "evaluation"."""

    name: str
    table: Any  # SplitTable, whole
    texts: list[str]  # normalised, of the whole table
    used: Any = None  # SplitTable of the utterances that would be used
    dropped: list[Skipped] = field(default_factory=list)
    sample: AudioSample = field(default_factory=AudioSample)


def _with_model(options: Options) -> tuple[Options, Any]:
    if not options.config.model_name_or_path:
        return options, None
    from speechtune.models.loading import family_of, model_config_of

    model_config = model_config_of(options.config)
    return options.for_family(family_of(model_config)), model_config


def _prepare(options: Options, model_config: Any, splits: Splits, found: _Findings) -> list[_Role]:
    """Both splits, with what training would leave out."""
    config = options.config
    roles = [
        _Role("train", splits.train, splits.train_texts),
        _Role("evaluation", splits.evaluation, splits.evaluation_texts),
    ]
    for role in roles:
        role.used, role.dropped = role.table, list(role.table.skipped)
    try:
        needs = model_needs(options, model_config, splits)
    except TextError as error:
        found.stops.append(str(error))
        return roles
    limits = training_limits(options, needs)  # type: ignore[arg-type]
    of_evaluation = replace(limits, frames=None, max_labels=None, needs_text=False)
    for role, chosen in zip(roles, (limits, of_evaluation if config.protocol == "readme" else None), strict=True):
        split = prepare_split(role.table, role.texts, encode=needs.encode, limits=chosen)
        role.used, role.dropped = split.table, split.dropped
        _check_share(options, role, split, found)
    _judge_alphabet(needs, roles, found, phones=config.phones)
    return roles


def _check_share(options: Options, role: _Role, split: PreparedSplit, found: _Findings) -> None:
    total = len(split) + len(split.dropped)
    path = "skipped.jsonl" if options.output_dir is None else str(options.output_dir / "skipped.jsonl")
    if split.dropped:
        found.remarks.append(summary_line(role.name, split.dropped, total=total, path=path).rpartition(" -> ")[0])
    try:
        check_share_skipped(
            role.name,
            split.dropped,
            total=total,
            max_share=options.config.max_skipped,
            strict=options.config.strict,
            path=path,
        )
    except SpeechtuneError as error:
        found.stops.append(str(error).partition("\n")[2] or str(error))  # the first line is a remark already


# ---- what is worth a look


def _check_steps(options: Options, splits: Splits, roles: Sequence[_Role], normalise: Any, found: _Findings) -> None:
    train, evaluation = roles
    _judge_text(options, splits, normalise, found)
    _judge_overlap(train, evaluation, found)
    for role in roles:
        _judge_audio(role, found)
        unknown = int(np.isnan(role.table.durations_s).sum())
        if unknown:
            found.remarks.append(f"{role.name}: {unknown:,} utterances of unknown duration")


def _judge_alphabet(needs: ModelNeeds, roles: Sequence[_Role], found: _Findings, *, phones: bool) -> None:
    if needs.vocabulary is None:
        return
    for role in roles:
        missing = missing_characters(
            needs.vocabulary, role.texts, word_delimiter_token=needs.word_delimiter_token, phones=phones
        )
        if missing:
            what = f"{len(missing)} characters that the vocabulary lacks, always wrong"
            found.remarks.append(f"{role.name} text: {what}: {_named(missing)}")
    counts = Counter(token for text in roles[0].texts for token in (text.split() if phones else text))
    rare = Counter({token: n for token, n in counts.items() if n < RARE and token != " "})
    if rare:
        what = f"{len(rare)} characters in it fewer than {RARE} times"
        found.remarks.append(f"train text: {what}: {_named(rare, last=True)}")


def _judge_text(options: Options, splits: Splits, normalise: Any, found: _Findings) -> None:
    plain = getattr(normalise, "normaliser", normalise)  # below a phonemizer
    if not hasattr(plain, "ignored"):
        return
    deleted = deleted_characters(splits.train.texts, plain)
    letters = Counter({char: n for char, n in deleted.items() if char.isalnum() or char == "'"})
    if letters:
        found.remarks.append(f"normalisation takes away letters, digits or apostrophes: {_named(letters)}")
    signs = signs_in([plain(text) for text in splits.train.texts])
    if signs and not options.config.phones:
        found.remarks.append(f"signs to be learnt as letters, unless in --chars_to_ignore: {_named(signs)}")


def _judge_overlap(train: _Role, evaluation: _Role, found: _Findings) -> None:
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


def _judge_audio(role: _Role, found: _Findings) -> None:
    sample = role.sample
    problems = Counter(row.reason for row in sample.unusable) + Counter(reason for reason, _ in sample.doubtful)
    if problems:
        first = sample.unusable[0].file if sample.unusable else sample.doubtful[0][1].file
        reasons = ", ".join(f"{n} {REASON_WORDS.get(reason, reason)}" for reason, n in problems.most_common())
        found.remarks.append(
            f"{role.name}: of {sample.num_decoded} recordings decoded {reasons}; first: {visible(first)}"
        )
    low = sum(n for (_, rate, _), n in sample.formats.items() if rate < SAMPLING_RATE)
    if low:
        found.remarks.append(
            f"{role.name}: {low} of {sample.num_decoded} recordings are below {SAMPLING_RATE // 1000} kHz: "
            "the model misses the upper part of their band"
        )


def _named(counts: Counter[str], *, last: bool = False) -> str:
    """The most (or least) frequent characters by name, with counts."""
    ordered = counts.most_common()[::-1] if last else counts.most_common()
    shown = ", ".join(f"{visible(name_character(char))} x{n:,}" for char, n in ordered[:MAX_NAMED])
    return shown + (f" and {len(counts) - MAX_NAMED} more" if len(counts) > MAX_NAMED else "")


# ---- the screen


def _show(options: Options, splits: Splits, roles: Sequence[_Role], found: _Findings) -> None:
    tables = Tables()
    language = find_language(splits.language or "")
    tables.line(splits.name + (f", {language.name}" if language else ""))
    tables.splits([(role.name, role.table, role.texts, role.dropped, role.used) for role in roles])
    tables.durations({role.name: role.table.durations_s for role in roles})
    tables.formats({role.name: role.sample for role in roles})
    tables.skipped([row for role in roles for row in [*role.dropped, *role.sample.unusable]])
    _show_odd(tables, roles)
    tables.remarks(found.remarks)
    if found.stops:
        for stop in found.stops:
            tables.line(f"Training would stop: {stop}", style="bold red")
        return
    train, evaluation = roles
    hours = float(np.nansum(train.used.durations_s)) / 3600
    tables.line(
        f"Training would begin: {len(train.used):,} utterances, {hours:,.2f} h; scored on {len(evaluation.used):,}.",
        style="bold green",
    )


def _show_odd(tables: Tables, roles: Sequence[_Role]) -> None:
    for role in roles:
        usual, odd = odd_speeds(role.table.durations_s, role.texts)
        if not odd or math.isnan(usual):
            continue
        rows = [_odd_row(role, entry) for entry in odd[:MAX_NAMED]]
        tables.odd(f"{role.name}: {len(odd):,} far from the usual {usual:.0f} characters a second", rows)


def _odd_row(role: _Role, odd: Odd) -> tuple[str, str, str, str]:
    utterance = role.table[odd.row]
    text = shorten(role.texts[odd.row], 50)
    return utterance.file, f"{utterance.duration_s:.1f}", f"{odd.chars_per_s:.1f}", text
