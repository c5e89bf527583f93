"""Measurements of a corpus that matter to training, without judgement or output.

Transcripts and durations are read in full; audio is decoded for a sample, since all of it would take as long as
reading it in an epoch.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechtune.audio.decode import read_header
from speechtune.audio.reader import AudioReader
from speechtune.audio.samples import signal_problem
from speechtune.data.prepare import check_decoded, check_share_skipped
from speechtune.doctor.roles import SAMPLING_RATE, Role
from speechtune.errors import AudioError, CorpusError
from speechtune.options.table import Settings
from speechtune.text.vocab import count_tokens
from speechtune.types import Skipped, Utterance

__all__ = [
    "decode_sample",
    "deleted_characters",
    "duration_histogram",
    "find_outliers",
    "share_problem",
    "shared",
    "signs_in",
]

EDGES_S = (0, 1, 2, 3, 4, 6, 8, 10, 15, 20, 30, math.inf)
MAX_DECODED, MAX_DECODED_S = 200, 1_800.0  # sample of a split: some seconds of work
MIN_FOR_OUTLIERS = 20  # utterances
OUTLIER_DEVIATIONS, OUTLIER_FACTOR = 5.0, 2.5  # robust standard deviations of the logarithm; times the median

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


def decode_sample(role: Role, *, on_clip: Callable[[int], None] = lambda done: None) -> None:
    """Decode and check up to 200 recordings, evenly spread over the split, or half an hour of them.

    Args:
        role: the results are added to it.
        on_clip: called with the number of recordings done.
    """
    split, table, reader = role.split, role.split.table, AudioReader(SAMPLING_RATE)
    for row in _spread(table.durations_s):
        utterance: Utterance | None = None
        try:
            utterance = table[row]
            header = read_header(utterance.audio, name=utterance.file)
            role.formats[(header.format, header.sampling_rate, header.num_channels)] += 1
            samples = reader.pcm(utterance)
            if role.limits is not None:
                check_decoded(utterance, split.texts[row], split.labels(row), samples, SAMPLING_RATE, role.limits)
            elif problem := signal_problem(samples, SAMPLING_RATE):
                role.doubtful.append((problem, utterance))
        except AudioError as error:
            file = utterance.file if utterance else ""  # the bytes of a packed recording may be unreadable
            detail = " ".join(str(error).split())
            duration_s = float(table.durations_s[row])
            role.unusable.append(Skipped(table.split, table.ids[row], file, error.reason, detail, duration_s))
        role.num_decoded += 1
        on_clip(role.num_decoded)


def share_problem(role: Role, settings: Settings, *, path: str) -> str:
    """Return why training would stop for what is skipped, estimated from the decoded sample; empty if it would not.

    Args:
        path: of the list of what is skipped, for the message; empty where none is written.
    """
    unusable, num_decoded = role.unusable, role.num_decoded
    estimate = round(len(unusable) * len(role.split) / max(num_decoded, 1))  # of the whole split
    skipped = [*role.split.dropped, *(unusable[i % len(unusable)] for i in range(estimate))]
    try:
        check_share_skipped(
            role.name,
            skipped,
            total=len(role.split) + len(role.split.dropped),
            max_share=settings.max_skipped,
            strict=settings.strict,
            path=path,
        )
    except CorpusError as error:
        return (f"estimated from {num_decoded} decoded recordings, " if estimate > len(unusable) else "") + str(error)
    return ""


def _spread(durations_s: NDArray[np.float32]) -> list[int]:
    """Return rows at equal distances, as many as the limits allow."""
    if not len(durations_s):
        return []
    mean_s = float(np.nanmean([0.1, *durations_s]))
    wanted = min(MAX_DECODED, len(durations_s), max(1, int(MAX_DECODED_S / mean_s)))
    return sorted({int(row) for row in np.linspace(0, len(durations_s) - 1, wanted)})
