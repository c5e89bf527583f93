"""`speechtune doctor`: read a corpus as training would, train nothing, and report what would happen.

Prints tables of facts, then remarks, then whether training would begin. The verdict comes from the functions that
training itself calls (data/prepare.py), so the two can't disagree. Audio is decoded for a sample; where that is not the
whole split, the share that can't be used is estimated from it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from speechtune.data.prepare import REASON_WORDS
from speechtune.doctor.checks import decode_sample, deleted_characters, share_problem, shared, signs_in
from speechtune.doctor.duplicates import Copies, find_copies
from speechtune.doctor.label_errors import LABEL_ERRORS_FILE, Judged, judge, write_label_errors
from speechtune.doctor.page import write_page
from speechtune.doctor.roles import SAMPLING_RATE, Corpus, Role, read_roles
from speechtune.doctor.suggestions import suggested_command
from speechtune.doctor.tables import Shown, show
from speechtune.errors import OptionError
from speechtune.files import explain_write_errors
from speechtune.options.table import Options
from speechtune.plan.corpus import shared_speech
from speechtune.plan.output_folder import write_skipped
from speechtune.terminal.formatting import percent, visible
from speechtune.terminal.progress import progress_bar
from speechtune.text.vocab import count_tokens, list_characters, missing_characters

__all__ = ["run"]

MAX_LISTED = 8  # characters in one line
RARE = 5  # occurrences below which a character is hardly learnt


def run(options: Options) -> int:
    """Print what training on the corpus would meet; with `--output_dir` write skipped.jsonl and doctor.html too.

    `--with_model` also writes label_errors.csv, to be corrected and given to `--corrections`.

    Returns:
        Exit code: 0, or 2 if training would stop.

    Raises:
        CorpusError: the corpus, a split or a column is missing.
        ModelError: `--model_name_or_path` can't be loaded.
        OutputError: `--output_dir` can't be written.
    """
    model = options.config.with_model
    if model and options.output_dir is None:
        raise OptionError(f"--with_model {model}: give --output_dir too; the list to correct is written there.")
    corpus, folder = read_roles(options), options.output_dir
    with progress_bar("decoding a sample", unit="clips") as update:
        for role in corpus.roles:
            decode_sample(role, on_clip=lambda done: update(done, 0))
    stops = _reasons_to_stop(corpus, str(folder / "skipped.jsonl") if folder else "")
    remarks = [*_alphabet(corpus), *_deleted_and_signs(corpus), *_overlap(corpus)]
    remarks += [remark for role in corpus.roles for remark in _audio(role)]
    remarks += _copies(find_copies(corpus.roles))
    judged = _judged(corpus, model, on_cpu=bool(options.training.get("use_cpu"))) if model else []
    corrections = folder / LABEL_ERRORS_FILE if folder is not None and judged else None
    command = "" if corpus.problem else suggested_command(corpus, options, corrections=corrections)
    shown = show(corpus.title, corpus.roles, remarks, stops, judged=judged, command=command)
    if folder is not None:
        _write(folder, corpus, shown, remarks, judged, command)
    return 2 if stops else 0


def _judged(corpus: Corpus, model: str, *, on_cpu: bool) -> list[Judged]:
    with progress_bar(f"comparing transcripts with {model}", unit="clips") as update:
        return judge(corpus, model, on_cpu=on_cpu, on_clip=update)


def _write(folder: Path, corpus: Corpus, shown: Shown, remarks: list[str], judged: list[Judged], command: str) -> None:
    """Write skipped.jsonl, label_errors.csv and doctor.html, and say where they are."""
    skipped = [row for role in corpus.roles for row in role.skipped]
    with explain_write_errors("skipped.jsonl", folder):
        write_skipped(folder, skipped)
    print(visible(f"{len(skipped)} utterances in {folder / 'skipped.jsonl'}"))
    if judged:
        print(visible(f"transcripts to correct, the likeliest errors first: {write_label_errors(folder, judged)}"))
    page = write_page(folder, corpus, shown, remarks, judged, command=command)
    print(visible(f"the same with recordings: {page}"))


def _reasons_to_stop(corpus: Corpus, path: str) -> list[str]:
    """Apply training's own checks: the vocabulary, shared recordings, and the share of skipped utterances."""
    stops = [corpus.problem] if corpus.problem else []
    try:
        shared_speech(corpus.train.table, corpus.evaluation.table, force=corpus.settings.force)
    except OptionError as error:
        stops.append(str(error))
    problems = (share_problem(role, corpus.settings, path=path) for role in corpus.roles)
    return stops + [problem for problem in problems if problem]


# ---- remarks


def _alphabet(corpus: Corpus) -> list[str]:
    needs, phones = corpus.needs, corpus.settings.phones
    if needs.vocabulary is None:
        return []
    remarks = []
    for role in corpus.roles:
        missing = missing_characters(
            needs.vocabulary, role.texts, word_delimiter_token=needs.word_delimiter_token, phones=phones
        )
        if missing:
            number = "1 character is" if len(missing) == 1 else f"{len(missing)} characters are"
            what = f"{number} not in the vocabulary, so always wrong"
            remarks.append(f"{role.name} text: {what}: {list_characters(missing, MAX_LISTED)}")
    counts = count_tokens(corpus.train.texts, phones=phones)
    rare = Counter({token: n for token, n in counts.items() if n < RARE and token != " "})
    if rare:
        what = f"{len(rare)} characters occur fewer than {RARE} times"
        remarks.append(f"train text: {what}: {list_characters(rare, MAX_LISTED, rarest_first=True)}")
    return remarks


def _deleted_and_signs(corpus: Corpus) -> list[str]:
    plain = getattr(corpus.normalise, "normaliser", corpus.normalise)  # what a phonemizer's text is normalised with
    if not hasattr(plain, "ignored"):
        return []
    remarks = []
    deleted = deleted_characters(corpus.train.table.texts, plain)
    letters = Counter({char: n for char, n in deleted.items() if char.isalnum() or char == "'"})
    if letters:
        listed = list_characters(letters, MAX_LISTED)
        remarks.append(f"normalisation deletes letters, digits or apostrophes: {listed}")
    signs = signs_in([plain(text) for text in corpus.train.table.texts])
    if signs and not corpus.settings.phones:
        listed = list_characters(signs, MAX_LISTED)
        remarks.append(f"signs that are learnt as letters unless in --chars_to_ignore: {listed}")
    return remarks


def _overlap(corpus: Corpus) -> list[str]:
    train, evaluation = corpus.roles
    total = len(evaluation.texts)
    remarks = []
    for what, values in (
        ("recordings", [role.table.column("#key") for role in corpus.roles]),
        ("sentences", [train.texts, evaluation.texts]),
        ("speakers", [role.table.speakers for role in corpus.roles]),
    ):
        distinct, affected = shared(*values)
        if distinct:
            remarks.append(
                f"{what} in both splits: {distinct:,}, in {affected:,} of {total:,} evaluation utterances "
                f"({percent(affected / total)}); the scores say less about new {what}"
            )
    return remarks


def _copies(groups: list[Copies]) -> list[str]:
    """Say how many recordings are copies of others, first of all those with another transcript."""
    if not groups:
        return []
    num = sum(len(group.members) for group in groups)
    differ = [group for group in groups if group.texts_differ]
    across = sum(len({name for name, _, _ in group.members}) > 1 for group in groups)
    facts = [
        f"{len(differ):,} of them with different transcripts" if differ else "",
        f"{across:,} in both splits" if across else "",
    ]
    listed = "".join(f"; {fact}" for fact in facts if fact)
    first = " = ".join(f"{file} ({text or 'no text'})" for _, file, text in groups[0].members[:3])
    return [f"recordings with the same bytes: {len(groups):,}, in {num:,} utterances{listed}; first: {visible(first)}"]


def _audio(role: Role) -> list[str]:
    remarks = []
    unknown = int(np.isnan(role.table.durations_s).sum())
    if unknown:
        remarks.append(f"{role.name}: {unknown:,} utterances of unknown duration")
    if role.doubtful:
        problems = Counter(reason for reason, _ in role.doubtful)
        reasons = ", ".join(f"{n} {REASON_WORDS.get(reason, reason)}" for reason, n in problems.most_common())
        first = visible(role.doubtful[0][1].file)
        remarks.append(f"{role.name}: of {role.num_decoded} decoded recordings {reasons}; first: {first}")
    low = sum(n for (_, rate, _), n in role.formats.items() if rate < SAMPLING_RATE)
    if low:
        remarks.append(
            f"{role.name}: {low} of {role.num_decoded} recordings are below {SAMPLING_RATE // 1000} kHz: "
            "the model misses the upper part of their band"
        )
    return remarks
