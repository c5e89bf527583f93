"""Encode and filter a split: utterances that can't be used are skipped, counted and listed.

Training skips recordings that are too long or too short, have no transcript, or have more labels than frames (the CTC
loss is infinite there). Evaluation skips nothing: difficult clips count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechtune.audio.samples import Samples, signal_problem
from speechtune.errors import AudioError, CorpusError
from speechtune.models.frames import min_ctc_frames
from speechtune.options.table import Settings
from speechtune.types import Skipped, Utterance

if TYPE_CHECKING:
    from speechtune.corpora.table import SplitTable

__all__ = [
    "REASON_WORDS", "Limits", "PreparedSplit", "check_decoded", "check_share_skipped", "evaluation_limits",
    "prepare_split", "reason_to_skip", "summary_line", "training_limits",
]  # fmt: skip

Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of what training uses.

    Args:
        min_duration_s, max_duration_s: recordings outside are skipped; at exactly a limit they stay.
        frames: durations in seconds, any shape -> encoder frames, of a model trained with CTC: fewer frames than the
            labels need are skipped. None where the model has no such limit.
        max_labels: longest label sequence that the model's decoder takes.
        needs_text: an empty transcript is skipped too.
    """

    min_duration_s: float = 0.0
    max_duration_s: float = float("inf")
    frames: Callable[[ArrayLike], NDArray[np.int64]] | None = None
    max_labels: int | None = None
    needs_text: bool = True

    @property
    def max_decoded_s(self) -> float:
        """Longest decoded audio that can be used, in seconds: decoding may stop there."""
        return self.max_duration_s + _DURATION_TOLERANCE_S


class ModelLimits(Protocol):
    """The part of a recogniser that decides what is skipped."""

    @property
    def max_labels(self) -> int | None: ...

    @property
    def max_duration_s(self) -> float | None: ...

    def frames_of(self) -> Callable[[ArrayLike], NDArray[np.int64]] | None: ...


def training_limits(settings: Settings, model: ModelLimits) -> Limits:
    """Return what training skips: by the user's limits and the model's."""
    return Limits(
        settings.min_duration_in_seconds,
        min(settings.max_duration_in_seconds, model.max_duration_s or float("inf")),
        frames=model.frames_of(),
        max_labels=model.max_labels,
    )


def evaluation_limits(settings: Settings) -> Limits | None:
    """Return what evaluation excludes: nothing, unless scores follow the original scripts, which drop long clips."""
    if settings.protocol != "readme":
        return None
    return Limits(settings.min_duration_in_seconds, settings.max_duration_in_seconds, needs_text=False)


@dataclass
class PreparedSplit:
    """Rows in use, with their normalised transcripts and labels.

    Args:
        table: the corpus' rows in use.
        texts: normalised transcripts, length N.
        label_ids: labels of all rows, concatenated, (sum of L,) int32; `label_ends` (N,) is where each ends.
        dropped: utterances that are skipped.
    """

    table: SplitTable
    texts: list[str]
    label_ids: NDArray[np.int32]
    label_ends: NDArray[np.int64]
    dropped: list[Skipped] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.texts)

    def labels(self, row: int) -> Labels:
        """Return the labels of a row, (L,) int64."""
        start = int(self.label_ends[row - 1]) if row else 0
        return self.label_ids[start : int(self.label_ends[row])].astype(np.int64)

    @property
    def hours(self) -> float:
        return float(np.nansum(self.table.durations_s)) / 3600


def prepare_split(
    table: SplitTable, texts: list[str], *, encode: Callable[[str], Sequence[int]], limits: Limits | None
) -> PreparedSplit:
    """Encode and filter one split.

    Args:
        table: rows of the corpus.
        texts: its transcripts, normalised.
        encode: normalised text -> label ids.
        limits: of training; None (evaluation) keeps everything that can be read.
    """
    labels = [np.asarray(encode(text), np.int32) for text in texts]
    dropped = list(table.skipped)
    if limits is not None:
        reasons = _reasons(table, texts, labels, limits)
        for row, (reason, detail) in reasons.items():
            dropped.append(_record(table, row, reason, detail))
        if reasons:
            keep = [row for row in range(len(texts)) if row not in reasons]
            table = table.select(np.asarray(keep, np.int64))
            texts, labels = [texts[row] for row in keep], [labels[row] for row in keep]
    ends = np.cumsum([len(ids) for ids in labels], dtype=np.int64)
    return PreparedSplit(table, texts, np.concatenate([np.empty(0, np.int32), *labels]), ends, dropped)


def _record(table: SplitTable, row: int, reason: str, detail: str) -> Skipped:
    utterance = table[row]
    return Skipped(table.split, utterance.id, utterance.file, reason, detail, utterance.duration_s)


def _reasons(
    table: SplitTable, texts: Sequence[str], labels: Sequence[NDArray[np.int32]], limits: Limits
) -> dict[int, tuple[str, str]]:
    durations_s = table.durations_s
    frames = [None] * len(texts) if limits.frames is None else limits.frames(np.nan_to_num(durations_s)).tolist()
    rows = zip(durations_s.tolist(), texts, labels, frames, strict=True)
    found = (reason_to_skip(duration_s, text, ids, limits, num_frames) for duration_s, text, ids, num_frames in rows)
    return {row: reason for row, reason in enumerate(found) if reason is not None}


def reason_to_skip(
    duration_s: float, text: str, labels: NDArray[np.integer[Any]], limits: Limits, num_frames: int | None = None
) -> tuple[str, str] | None:
    """Return (reason, detail) why training can't use an utterance, or None. An unknown duration (nan) passes.

    Args:
        num_frames: of the duration, if known already.
    """
    if duration_s > limits.max_duration_s:
        return "too_long", f"{duration_s:.1f} s, over {limits.max_duration_s:g} s"
    if duration_s < limits.min_duration_s:
        return "too_short", f"{duration_s:.2f} s, under {limits.min_duration_s:g} s"
    if limits.needs_text and (not text or len(labels) == 0):
        return "empty_transcript", "nothing is left of the transcript after normalisation"
    if limits.max_labels is not None and len(labels) > limits.max_labels:
        return "too_many_labels", f"{len(labels)} labels, the decoder takes {limits.max_labels}"
    if limits.frames is not None and duration_s == duration_s:
        frames = int(limits.frames(duration_s)) if num_frames is None else num_frames
        if frames < 2 * len(labels) and frames < (need := min_ctc_frames(labels.tolist())):  # 2 L are always enough
            return "fewer_frames_than_labels", f"{frames} frames, {len(labels)} labels need {need}"
    return None


def check_decoded(
    utterance: Utterance,
    text: str,
    labels: NDArray[np.integer[Any]],
    samples: Samples,
    sampling_rate: int,
    limits: Limits,
) -> None:
    """Check the decoded audio of an utterance, whatever its header says.

    Raises:
        AudioError: training can't use it.
    """
    where, duration_s = utterance.file, len(samples) / sampling_rate
    problem = signal_problem(samples, sampling_rate)
    if problem is not None:
        raise AudioError(
            f"{where}: {_SIGNAL_WORDS[problem]}.", reason="no_frames" if problem == "too_short" else problem
        )
    if abs(duration_s - utterance.duration_s) < _DURATION_TOLERANCE_S:
        return
    found = reason_to_skip(duration_s, text, labels, limits)
    if found is not None:
        raise AudioError(f"{where}: {found[1]}.", reason=found[0])


_DURATION_TOLERANCE_S = 1e-3  # between header and decoded audio
_SIGNAL_WORDS = {
    "non_finite": "has samples that are NaN or infinite",
    "too_short": "is shorter than a frame (25 ms)",
    "silent": "is silent: no sample differs from the mean by more than -80 dB of full scale",
    "clipped": "is clipped: more than 1 % of its samples are at full scale",
}

REASON_WORDS = {
    "removed": "removed by --corrections",
    "too_long": "too long",
    "too_short": "too short",
    "empty_transcript": "with an empty transcript",
    "fewer_frames_than_labels": "with fewer frames than labels",
    "too_many_labels": "with more labels than the decoder takes",
    "missing_file": "missing",
    "outside_audio": "outside the corpus",
    "wrong_duration": "longer than the table says",
    "bad_row": "with a damaged table row",
    "undecodable": "undecodable",
    "no_frames": "without audio",
    "non_finite": "with non-finite samples",
    "truncated": "truncated",
    "silent": "silent",
    "clipped": "clipped",
    "out_of_range": "with samples far over full scale",
    "bad_rate": "with an impossible sampling rate",
    "empty": "empty files",
    "not_a_file": "not regular files",
    "unreadable": "unreadable",
}


def summary_line(name: str, skipped: Sequence[Skipped], *, total: int, path: str) -> str:
    """Return `train: skipped 14 of 4361 utterances (0.3%, 0.06 h): 11 too long, 3 ... -> out/skipped.jsonl`.

    Args:
        path: of the list; empty where none is written.
    """
    counts = Counter(row.reason for row in skipped)
    reasons = ", ".join(f"{n} {REASON_WORDS.get(reason, reason)}" for reason, n in counts.most_common())
    hours = sum(row.duration_s for row in skipped if row.duration_s == row.duration_s) / 3600
    share = len(skipped) / max(total, 1)
    line = f"{name}: skipped {len(skipped)} of {total} utterances ({share:.1%}, {hours:.2f} h): {reasons}"
    return f"{line} -> {path}" if path else line


def check_share_skipped(
    name: str, skipped: Iterable[Skipped], *, total: int, max_share: float, strict: bool, path: str
) -> None:
    """Stop where more was skipped than the user allows.

    Raises:
        CorpusError: the share is over `max_share`, or anything was skipped and `strict` is set, or nothing is left.
    """
    rows = list(skipped)
    if not rows:
        return
    line = summary_line(name, rows, total=total, path=path)
    first = rows[0]
    if len(rows) >= total:
        raise CorpusError(f"{line}\nNothing is left to use. The first: {first.named}")
    if strict:
        raise CorpusError(f"{line}\nThe first: {first.named}\n--strict allows none.")
    # Limits on durations and removals are the user's choice; only broken utterances count.
    broken = [row for row in rows if row.reason not in ("too_long", "too_short", "removed")]
    if len(broken) > max_share * total:
        first = broken[0]
        raise CorpusError(
            f"{line}\n{len(broken)} of {total} can't be used, over --max_skipped {max_share:g}. "
            f"The first: {first.named}\n"
            "Fix the corpus, or allow more with --max_skipped."
        )
