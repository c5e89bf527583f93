"""Records of the arena: what was appended is read back; a torn tail ends the file, a damaged record is passed over."""

from __future__ import annotations

import math
import os
import zlib
from pathlib import Path

import numpy as np
import pytest

from speechtune.audio.cache_files import (
    RECORD,
    SegmentWriter,
    audio_cache_folder,
    audio_cache_folders,
    audio_cache_usage,
    clear_audio_cache,
    read_records,
    segment_sizes,
)

SIZE = RECORD.itemsize


def segment(folder: Path, lengths: tuple[int, ...] = (3, 5, 0, 2)) -> Path:
    """A segment of clips of these lengths; returns its .idx file."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = SegmentWriter(folder)
    for number, length in enumerate(lengths):
        writer.append((number, 2**64 - 1), np.full(length, number, np.int16))
    writer.close()
    return folder / f"{writer.name}.idx"


def keys(records: np.ndarray) -> list[int]:
    return records["key_high"].tolist()


def test_what_is_appended_is_read_back_with_the_place_of_its_samples(tmp_path: Path):
    index = segment(tmp_path)
    records, end = read_records(index, 0)
    assert end == 4 * SIZE == 160
    assert keys(records) == [0, 1, 2, 3] and set(records["key_low"].tolist()) == {2**64 - 1}
    assert records["num_samples"].tolist() == [3, 5, 0, 2] and records["offset"].tolist() == [0, 6, 16, 16]
    pcm = index.with_suffix(".pcm").read_bytes()
    assert np.frombuffer(pcm, "<i2").tolist() == [0] * 3 + [1] * 5 + [3] * 2
    assert int(records["checksum"][1]) == zlib.crc32(pcm[6:16])


def test_the_record_that_append_gives_is_the_one_in_the_file(tmp_path: Path):
    writer = SegmentWriter(tmp_path)
    given = writer.append((1, 2), np.arange(4, dtype=np.int16))
    assert given.tobytes() == (tmp_path / f"{writer.name}.idx").read_bytes()
    writer.close()


def test_samples_that_lie_apart_in_memory_are_written_in_order(tmp_path: Path):
    writer = SegmentWriter(tmp_path)
    writer.append((1, 2), np.arange(10, dtype=np.int16)[::-2])
    assert np.frombuffer((tmp_path / f"{writer.name}.pcm").read_bytes(), "<i2").tolist() == [9, 7, 5, 3, 1]
    writer.close()


def test_reading_goes_on_where_it_ended(tmp_path: Path):
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


@pytest.mark.parametrize("byte", range(SIZE))
def test_a_record_with_any_byte_changed_is_passed_over(byte: int, tmp_path: Path):
    index = segment(tmp_path)
    data = bytearray(index.read_bytes())
    data[SIZE + byte] ^= 0x10
    index.write_bytes(data)
    records, end = read_records(index, 0)
    assert keys(records) == [0, 2, 3] and end == 4 * SIZE


def test_a_damaged_last_record_is_looked_at_again(tmp_path: Path):
    index = segment(tmp_path)
    index.write_bytes(index.read_bytes()[: 3 * SIZE] + bytes(SIZE))
    records, end = read_records(index, 0)
    assert keys(records) == [0, 1, 2] and end == 3 * SIZE


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
    (tmp_path / "arena" / "notes.txt").write_text("")
    assert [folder.name for folder in audio_cache_folders(tmp_path)] == ["16000hz-v1", "8000hz-v1"]


def test_usage_counts_a_clip_once_and_bytes_as_they_are(tmp_path: Path):
    folder = audio_cache_folder(tmp_path, 8_000)
    segment(folder, (8_000, 4_000))
    segment(folder, (8_000, 4_000))
    usage = audio_cache_usage(folder)
    assert (usage.num_clips, usage.duration_s, usage.num_segments) == (2, 1.5, 2)
    assert usage.num_bytes == 2 * (24_000 + 2 * SIZE)


def test_the_duration_of_a_folder_of_another_version_is_unknown(tmp_path: Path):
    segment(tmp_path / "8000hz-v2", (100,))
    assert math.isnan(audio_cache_usage(tmp_path / "8000hz-v2").duration_s)
    (tmp_path / "other").mkdir()
    assert audio_cache_usage(tmp_path / "other").duration_s == 0 == audio_cache_usage(tmp_path / "none").num_bytes


def test_clearing_takes_segments_and_leaves_what_is_not_ours(tmp_path: Path):
    folder = audio_cache_folder(tmp_path, 8_000)
    index = segment(folder, (10,))
    for name in ("notes.txt", "1-0.pcm", f"{index.stem}.pcm.bak"):
        (folder / name).write_text("mine")
    assert segment_sizes(folder) == {index.stem: {"pcm": 20, "idx": SIZE}}
    assert clear_audio_cache(folder) == 20 + SIZE
    assert sorted(path.name for path in folder.iterdir()) == sorted(["notes.txt", "1-0.pcm", f"{index.stem}.pcm.bak"])


def test_clearing_all_takes_the_folder_too(tmp_path: Path):
    folder = audio_cache_folder(tmp_path, 8_000)
    segment(folder, ())
    assert clear_audio_cache(folder) == 0 and not folder.exists() and clear_audio_cache(folder) == 0
