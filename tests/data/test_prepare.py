"""What training skips, and the words for it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from speechtune.data.prepare import (
    Limits,
    check_share_skipped,
    prepare_split,
    reason_to_skip,
    summary_line,
)
from speechtune.errors import CorpusError
from speechtune.types import Skipped, Utterance

LIMITS = Limits(
    min_duration_s=1.0,
    max_duration_s=20.0,
    frames=lambda durations_s: (np.asarray(durations_s) * 50).astype(int),
    max_labels=100,
)


def reason(duration_s: float = 2.0, text: str = "bir", labels: tuple[int, ...] = (1, 2, 3), limits: Limits = LIMITS):
    found = reason_to_skip(duration_s, text, np.asarray(labels), limits)
    return found and found[0]


@pytest.mark.parametrize(
    ("duration_s", "expected"), [(1.0, None), (0.99, "too_short"), (20.0, None), (20.01, "too_long"), (math.nan, None)]
)
def test_durations_at_a_limit_stay(duration_s: float, expected: str | None):
    assert reason(duration_s) == expected


def test_an_empty_transcript_is_skipped_unless_it_is_scored():
    assert reason(text="", labels=()) == "empty_transcript"
    assert reason(text="?", labels=()) == "empty_transcript"
    assert reason(text="", labels=(), limits=Limits(needs_text=False)) is None


def test_labels_may_fill_the_frames_and_no_more():
    assert reason(1.0, labels=tuple(range(50))) is None
    assert reason(1.0, labels=tuple(range(51))) == "fewer_frames_than_labels"
    assert reason(1.0, labels=(7,) * 25) is None  # 25 labels and 24 blanks between them
    assert reason(1.0, labels=(7,) * 26) == "fewer_frames_than_labels"
    assert reason(math.nan, labels=(7,) * 26) is None  # looked at again when it is decoded


def test_a_decoder_takes_so_many_labels_and_no_more():
    assert reason(20.0, labels=tuple(range(100))) is None
    assert reason(20.0, labels=tuple(range(101))) == "too_many_labels"


class Table:
    """Rows of a corpus."""

    split = "train"

    def __init__(self, durations_s: list[float], skipped: list[Skipped]) -> None:
        self.durations_s, self.skipped = np.asarray(durations_s, np.float32), skipped

    def __getitem__(self, row: int) -> Utterance:
        return Utterance(f"id{row}", "", "", "", float(self.durations_s[row]), f"{row}.wav")

    def select(self, rows: np.ndarray) -> Table:
        return Table(self.durations_s[rows].tolist(), self.skipped)


def test_a_prepared_split_has_the_labels_of_what_is_used_and_names_the_rest():
    torn = Skipped("train", "torn", "torn.wav", "truncated")
    table = Table([2.0, 30.0, 3.0, 2.0], [torn])
    split = prepare_split(table, ["ab", "c", "", "d"], encode=lambda text: [ord(c) - 96 for c in text], limits=LIMITS)
    assert len(split) == 2 and split.texts == ["ab", "d"]
    assert [split.labels(row).tolist() for row in range(2)] == [[1, 2], [4]]
    assert [(row.id, row.reason) for row in split.dropped] == [
        ("torn", "truncated"),
        ("id1", "too_long"),
        ("id2", "empty_transcript"),
    ]


def test_evaluation_keeps_every_row_that_can_be_read():
    split = prepare_split(Table([30.0, 0.1], []), ["", "x" * 500], encode=lambda text: [1] * len(text), limits=None)
    assert len(split) == 2 and split.labels(0).tolist() == [] and len(split.labels(1)) == 500


def test_the_summary_counts_reasons_and_hours():
    rows = [Skipped("train", str(i), f"{i}.wav", "too_long", duration_s=36.0) for i in range(3)]
    rows.append(Skipped("train", "x", "x.wav", "missing_file"))
    assert summary_line("train", rows, total=1000, path="out/skipped.jsonl") == (
        "train: skipped 4 of 1000 utterances (0.4%, 0.03 h): 3 too long, 1 missing -> out/skipped.jsonl"
    )


def check(rows: list[Skipped], total: int, **how: object) -> None:
    settings = {"max_share": 0.05, "strict": False, "path": str(Path("skipped.jsonl")), **how}
    check_share_skipped("train", rows, total=total, **settings)  # type: ignore[arg-type]


def broken(number: int, reason: str = "truncated") -> list[Skipped]:
    return [Skipped("train", str(i), f"{i}.wav", reason, "is cut short") for i in range(number)]


def test_a_share_at_the_limit_passes():
    check([], 0)
    check(broken(5), 100)
    with pytest.raises(CorpusError, match=r"6 of 100 can't be used, over --max_skipped 0\.05.*0\.wav: is cut short"):
        check(broken(6), 100)


def test_limits_on_durations_are_no_fault_of_the_corpus():
    check(broken(90, "too_long"), 100)
    check(broken(90, "too_short"), 100)


def test_nothing_left_is_an_error_whatever_is_allowed():
    with pytest.raises(CorpusError, match="Nothing is left to use"):
        check(broken(3, "too_long"), 3, max_share=1.0)


def test_strict_allows_none():
    with pytest.raises(CorpusError, match="--strict allows none"):
        check(broken(1), 1000, strict=True, max_share=1.0)
