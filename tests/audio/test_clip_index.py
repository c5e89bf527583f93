"""The index finds every clip it was told of, in whatever order they came, as a dict of lists would."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechtune.audio.cache_files import RECORD
from speechtune.audio.clip_index import ClipIndex, key_words, rows_of

LARGEST = 2**64 - 1


def records(*clips: tuple[int, int, int]) -> np.ndarray:
    """(first half of the key, second half, offset) each."""
    made = np.zeros(len(clips), RECORD)
    for record, (high, low, offset) in zip(made, clips, strict=True):
        record["key_high"], record["key_low"], record["offset"], record["num_samples"] = high, low, offset, 10
    return made


def offsets(index: ClipIndex, high: int, low: int) -> list[tuple[int, int]]:
    return sorted((int(found.row["segment"]), int(found.row["offset"])) for found in index.find((high, low)))


HALVES = st.sampled_from([0, 1, 2, 2**63, LARGEST - 1, LARGEST])
PARTS = st.lists(
    st.tuples(st.integers(0, 3), st.lists(st.tuples(HALVES, HALVES, st.integers(0, 99)), max_size=6)), max_size=8
)


@settings(max_examples=100, deadline=None)
@given(parts=PARTS, gone=st.sets(st.integers(0, 3)), merge_at=st.integers(1, 20))
def test_it_finds_what_a_dict_would(parts, gone, merge_at):
    index, expected = ClipIndex(), {}
    for segment, clips in parts:
        index.add(records(*clips), segment)
        for high, low, offset in clips:
            expected.setdefault((high, low), []).append((segment, offset))
    index.drop_segments(sorted(gone))
    kept = {key: sorted(at for at in places if at[0] not in gone) for key, places in expected.items()}
    for high in (0, 1, 2, 2**63, LARGEST - 1, LARGEST):
        for low in (0, 2**63, LARGEST):
            assert offsets(index, high, low) == kept.get((high, low), [])
    assert len(index) == sum(map(len, kept.values()))
    distinct = sum(1 for places in kept.values() if places)
    assert index.totals() == (distinct, 10 * distinct)


def test_nothing_is_found_in_nothing():
    index = ClipIndex()
    index.add(records(), 0)
    index.drop_segments([0])
    assert (len(index), index.totals(), index.find((1, 2))) == (0, (0, 0), [])


def test_clips_are_found_across_the_merging_of_new_ones():
    index = ClipIndex()
    for number in range(6):  # more than 4096 at once are merged into the large array
        index.add(records(*((number * 5000 + n, 7, n) for n in range(5000 if number % 2 else 10))), number)
    assert len(index) == 3 * 5000 + 3 * 10
    for number in range(6):
        assert offsets(index, number * 5000 + 9, 7) == [(number, 9)]
    assert index.find((4_999, 7)) == [] and index.find((5_000, 8)) == []


def test_a_mark_stays_with_the_clip():
    index = ClipIndex()
    index.add(records((1, 1, 5), (2, 2, 6)), 0)
    (found,) = index.find((1, 1))
    found.rows["is_checked"][found.position] = 1
    index.add(records(*((n, 0, 0) for n in range(10, 5010))), 1)
    assert [int(index.find((high, high))[0].row["is_checked"]) for high in (1, 2)] == [1, 0]


def test_a_row_keeps_of_a_record_what_reading_needs():
    made = records((1, 2, 2**40))
    made["checksum"] = 2**32 - 1
    (row,) = rows_of(made, 9)
    fields = {name: int(row[name]) for name in row.dtype.names}
    assert fields == {
        "key_low": 2,
        "offset": 2**40,
        "num_samples": 10,
        "checksum": 2**32 - 1,
        "segment": 9,
        "is_checked": 0,
    }


@pytest.mark.parametrize("key", ["", "a", "A", "a\0", "ü", "u\u0308", "\ud800", "x" * 10_000])
def test_any_text_is_a_key_of_its_own(key: str):
    high, low = key_words(key)
    assert 0 <= high <= LARGEST and 0 <= low <= LARGEST and key_words(key) == (high, low)
    assert key_words(key + " ") != (high, low)
