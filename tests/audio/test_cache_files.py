"""Records of the decoded-audio cache: what was appended is read back; a cut or damaged record is skipped."""

from __future__ import annotations

import math
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechtune.audio.cache_files import (
    RECORD,
    ClipIndex,
    SegmentWriter,
    audio_cache_folder,
    audio_cache_folders,
    audio_cache_usage,
    clear_audio_cache,
    hash_key,
    read_records,
    segment_sizes,
)

SIZE = RECORD.itemsize


def segment(folder: Path, lengths: tuple[int, ...] = (3, 5, 1, 2)) -> Path:
    """A segment of clips of these lengths; returns its .idx file."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = SegmentWriter(folder)
    for number, length in enumerate(lengths):
        writer.append((number, 2**64 - 1), np.full(length, number, np.int16))
    return folder / f"{writer.name}.idx"


def keys(records: np.ndarray) -> list[int]:
    return records["key_high"].tolist()


def test_what_is_appended_is_read_back_with_the_place_of_its_samples(tmp_path: Path):
    index = segment(tmp_path)
    records, end = read_records(index, 0)
    assert end == 4 * SIZE == 128
    assert keys(records) == [0, 1, 2, 3] and set(records["key_low"].tolist()) == {2**64 - 1}
    assert records["num_samples"].tolist() == [3, 5, 1, 2] and records["offset"].tolist() == [0, 6, 16, 18]
    pcm = index.with_suffix(".pcm").read_bytes()
    assert np.frombuffer(pcm, "<i2").tolist() == [0] * 3 + [1] * 5 + [2] + [3] * 2
    assert int(records["checksum"][1]) == zlib.crc32(pcm[6:16])


def test_the_record_that_append_gives_is_the_one_in_the_file(tmp_path: Path):
    writer = SegmentWriter(tmp_path)
    given = writer.append((1, 2), np.arange(4, dtype=np.int16))
    assert given.tobytes() == (tmp_path / f"{writer.name}.idx").read_bytes()


def test_samples_that_lie_apart_in_memory_are_written_in_order(tmp_path: Path):
    writer = SegmentWriter(tmp_path)
    writer.append((1, 2), np.arange(10, dtype=np.int16)[::-2])
    assert np.frombuffer((tmp_path / f"{writer.name}.pcm").read_bytes(), "<i2").tolist() == [9, 7, 5, 3, 1]


def test_reading_continues_where_it_ended(tmp_path: Path):
    index = segment(tmp_path)
    first, end = read_records(index, 2 * SIZE)
    assert keys(first) == [2, 3]
    nothing, same = read_records(index, end)
    assert len(nothing) == 0 and same == end
    assert len(read_records(index, 100 * SIZE)[0]) == 0


@pytest.mark.parametrize("num_bytes", [0, 1, SIZE - 1, SIZE, SIZE + 1, 2 * SIZE, 4 * SIZE - 1])
def test_a_cut_record_ends_the_file_and_is_looked_at_again(num_bytes: int, tmp_path: Path):
    index = segment(tmp_path)
    whole = index.read_bytes()
    index.write_bytes(whole[:num_bytes])
    records, end = read_records(index, 0)
    assert len(records) == num_bytes // SIZE and end == num_bytes // SIZE * SIZE
    index.write_bytes(whole)
    assert keys(read_records(index, end)[0]) == list(range(num_bytes // SIZE, 4))


@pytest.mark.parametrize("tail", [bytes(SIZE), b"\xff" * SIZE, bytes(16) + b"\xff" * 7 + bytes(9)])
def test_records_of_samples_that_are_not_there_are_skipped(tail: bytes, tmp_path: Path):
    index = segment(tmp_path)
    index.write_bytes(index.read_bytes() + tail)  # as a power cut may leave it
    records, end = read_records(index, 0)
    assert keys(records) == [0, 1, 2, 3] and end == 5 * SIZE


def test_no_file_has_no_records(tmp_path: Path):
    records, end = read_records(tmp_path / "none.idx", 7)
    assert len(records) == 0 and records.dtype == RECORD and end == 7


def test_after_an_error_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    writer = SegmentWriter(tmp_path)
    writer.append((1, 1), np.ones(4, np.int16))
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]) and 0)
    with pytest.raises(OSError, match="nothing could be written"):
        writer.append((2, 2), np.ones(4, np.int16))
    monkeypatch.undo()
    sizes = segment_sizes(tmp_path)[writer.name]
    assert sizes == {"pcm": 8, "idx": SIZE}


def test_a_write_in_pieces_is_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    index = segment(tmp_path, (50, 3))
    monkeypatch.undo()
    assert keys(read_records(index, 0)[0]) == [0, 1] and index.with_suffix(".pcm").stat().st_size == 106


def test_two_writers_of_one_process_have_files_of_their_own(tmp_path: Path):
    assert segment(tmp_path) != segment(tmp_path) and len(segment_sizes(tmp_path)) == 2


# ---- folders


def test_folders_are_by_rate_and_only_folders_count(tmp_path: Path):
    assert audio_cache_folders(tmp_path) == []
    for rate in (8_000, 16_000):
        segment(audio_cache_folder(tmp_path, rate))
    (tmp_path / "audio" / "notes.txt").write_text("")
    assert [folder.name for folder in audio_cache_folders(tmp_path)] == ["16000hz-v2", "8000hz-v2"]


def test_usage_counts_a_clip_once(tmp_path: Path):
    folder = audio_cache_folder(tmp_path, 8_000)
    segment(folder, (8_000, 4_000))
    segment(folder, (8_000, 4_000))
    assert audio_cache_usage(folder) == (2, 1.5)


def test_the_duration_of_a_folder_of_another_version_is_unknown(tmp_path: Path):
    segment(tmp_path / "8000hz-v1", (100,))
    assert math.isnan(audio_cache_usage(tmp_path / "8000hz-v1")[1])
    assert audio_cache_usage(audio_cache_folder(tmp_path, 8_000)) == (0, 0.0)


def test_clearing_takes_segments_and_leaves_what_is_not_ours(tmp_path: Path):
    folder = audio_cache_folder(tmp_path, 8_000)
    index = segment(folder, (10,))
    for name in ("notes.txt", "1-0.pcm", f"{index.stem}.pcm.bak"):
        (folder / name).write_text("mine")
    assert segment_sizes(folder) == {index.stem: {"pcm": 20, "idx": SIZE}}
    clear_audio_cache(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(["notes.txt", "1-0.pcm", f"{index.stem}.pcm.bak"])


def test_clearing_all_takes_the_folder_too(tmp_path: Path):
    folder = audio_cache_folder(tmp_path, 8_000)
    segment(folder, ())
    clear_audio_cache(folder)
    assert not folder.exists()
    clear_audio_cache(folder)


def test_the_cache_of_the_former_name_is_listed_and_cleared(tmp_path: Path):
    old = tmp_path / "arena" / "16000hz-v2"
    segment(old, (10,))
    segment(audio_cache_folder(tmp_path, 8_000), (10,))
    assert audio_cache_folders(tmp_path) == [audio_cache_folder(tmp_path, 8_000), old]
    clear_audio_cache(old)
    assert not (tmp_path / "arena").exists()


# ---- the index in memory: it finds every clip that was added, as a dict of lists would


LARGEST = 2**64 - 1


def records(*clips: tuple[int, int, int]) -> np.ndarray:
    """(first half of the key, second half, offset) each."""
    made = np.zeros(len(clips), RECORD)
    for record, (high, low, offset) in zip(made, clips, strict=True):
        record["key_high"], record["key_low"], record["offset"], record["num_samples"] = high, low, offset, 10
    return made


def offsets(index: ClipIndex, high: int, low: int) -> list[tuple[int, int]]:
    return sorted((int(row["segment"]), int(row["offset"])) for row in index.find((high, low)))


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


def test_nothing_is_found_in_nothing():
    index = ClipIndex()
    index.add(records(), 0)
    index.drop_segments([0])
    assert (len(index), index.find((1, 2))) == (0, [])


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
    found["is_checked"] = 1
    index.add(records(*((n, 0, 0) for n in range(10, 5010))), 1)
    assert [int(index.find((high, high))[0]["is_checked"]) for high in (1, 2)] == [1, 0]


def test_rows_hold_what_reading_needs():
    made = records((1, 2, 2**40))
    made["checksum"] = 2**32 - 1
    index = ClipIndex()
    index.add(made, 9)
    (row,) = index.find((1, 2))
    fields = [int(row[name]) for name in ("offset", "num_samples", "checksum", "segment", "is_checked")]
    assert fields == [2**40, 10, 2**32 - 1, 9, 0]


@pytest.mark.parametrize("key", ["", "a", "A", "a\0", "ü", "u\u0308", "\ud800", "x" * 10_000])
def test_any_text_is_a_key_of_its_own(key: str):
    high, low = hash_key(key)
    assert 0 <= high <= LARGEST and 0 <= low <= LARGEST and hash_key(key) == (high, low)
    assert hash_key(key + " ") != (high, low)


def test_index_finds_each_of_many_clips_and_keeps_40_bytes_a_clip():
    index = ClipIndex()
    numbers = np.random.default_rng(0).permutation(20_000)
    for segment, part in enumerate(np.array_split(numbers, 50)):
        records = np.zeros(len(part), RECORD)
        words = [hash_key(str(number)) for number in part]
        records["key_high"], records["key_low"] = np.array(words, np.uint64).T
        records["offset"] = part
        index.add(records, segment)
    assert len(index) == 20_000
    for number in range(0, 20_000, 97):
        (found,) = index.find(hash_key(str(number)))
        assert found["offset"] == number
    assert index.find(hash_key("absent")) == []
    assert index._large.nbytes + index._small.nbytes == 20_000 * 40


def test_keys_with_the_same_first_half_are_told_apart():
    index = ClipIndex()
    records = np.zeros(3, RECORD)
    records["key_high"], records["key_low"], records["offset"] = 7, [1, 2, 2], [10, 20, 30]
    index.add(records, 0)
    assert [row["offset"] for row in index.find((7, 1))] == [10]
    assert sorted(int(row["offset"]) for row in index.find((7, 2))) == [20, 30]
    assert len(index) == 3
