"""Records of a Parquet shard, by stream and by random access; the rest of a shard's tests: test_shards.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from standins.shards import audio_bytes, rows_of, write_parquet

from speechtune.audio.packed import Packed, packed_bytes
from speechtune.corpora.layout import BadRow, Row
from speechtune.corpora.parquet_shard import arrow_copy, open_parquet, packed_rows, parquet_rows
from speechtune.errors import CorpusError


def rows(path: Path, **how: Any) -> list[Row | BadRow]:
    return [row for _, row in parquet_rows(path, **how)]


def test_rows_before_the_start_are_skipped_and_numbers_stay(tmp_path: Path):
    path = write_parquet(tmp_path / "a.parquet", rows_of(0, 10), row_group_size=3)
    for start in range(11):
        found = list(parquet_rows(path, start=start, wanted=lambda number: number != 5))
        assert [number for number, _ in found] == [number for number in range(start, 10) if number != 5]
        assert all(row.columns["sentence"] == f"text 0 {number}" for number, row in found if isinstance(row, Row))


@pytest.mark.parametrize("kind", ["struct", "binary"])
def test_audio_is_bytes_in_a_struct_or_alone(kind: str, tmp_path: Path):
    value: Any = {"bytes": b"abc", "path": "a.wav"} if kind == "struct" else b"abc"
    pq.write_table(pa.table({"audio": [value], "text": ["bir"]}), tmp_path / "a.parquet")
    (row,) = rows(tmp_path / "a.parquet", key="k")
    assert isinstance(row, Row) and row.audio == b"abc" and row.columns == {"text": "bir"}
    assert (row.id, row.file, row.key) == ("a/0", f"{tmp_path / 'a.parquet'}:row 0", "k0")


@pytest.mark.parametrize("value", ["clips/a.wav", {"bytes": None, "path": "clips/a.wav"}])
def test_audio_may_be_a_path_beside_the_shard(value: Any, tmp_path: Path):
    pq.write_table(pa.table({"audio": [value]}), tmp_path / "a.parquet")
    (row,) = rows(tmp_path / "a.parquet")
    assert isinstance(row, Row) and row.audio == str(tmp_path / "clips" / "a.wav")


def test_a_row_without_audio_is_a_bad_row_and_the_next_is_not(tmp_path: Path):
    audio = pa.array(
        [None, {"bytes": b"", "path": None}, {"bytes": b"x", "path": None}],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    pq.write_table(pa.table({"audio": audio, "text": ["a", "b", "c"]}), tmp_path / "a.parquet")
    empty, blank, good = rows(tmp_path / "a.parquet")
    assert isinstance(empty, BadRow) and isinstance(blank, BadRow) and "no audio in column 'audio'" in blank.detail
    assert isinstance(good, Row) and good.columns == {"text": "c"}


def test_ids_and_facts_are_of_their_columns_and_none_of_our_own_names(tmp_path: Path):
    table = pa.table({"audio": [b"x"], "id": ["utt1"], "client_id": [3], "duration": [1.25], "#key": ["evil"]})
    pq.write_table(table, tmp_path / "a.parquet")
    (row,) = rows(tmp_path / "a.parquet")
    assert isinstance(row, Row)
    assert (row.id, row.speaker, row.duration_s) == ("utt1", "3", 1.25)
    assert row.columns == {"id": "utt1", "client_id": "3", "duration": "1.25"}


def test_a_column_that_is_not_there_lists_those_that_are(tmp_path: Path):
    path = write_parquet(tmp_path / "a.parquet", rows_of(0, 2))
    with pytest.raises(CorpusError, match=r"no column 'speech'.\nColumns: audio, sentence, speaker_id.\n"):
        rows(path, audio_column="speech")


def test_random_access_gives_the_same_rows_and_bytes(tmp_path: Path):
    path = write_parquet(tmp_path / "a.parquet", rows_of(0, 40), row_group_size=7)
    copy = arrow_copy(path, tmp_path / "cache")
    read, packed = rows(path, key="k"), list(packed_rows(path, copy, audio_column="audio", key="k"))
    assert len(read) == len(packed) == 40
    for one, other in zip(read, packed, strict=True):
        assert isinstance(one, Row) and isinstance(other, Row) and isinstance(other.audio, Packed)
        assert (one.id, one.columns, one.key) == (other.id, other.columns, other.key)
        assert packed_bytes(other.audio) == one.audio
    assert read[3].audio == audio_bytes(rows_of(0, 40)[3][0])  # type: ignore[union-attr]


def test_the_copy_is_made_once_and_anew_where_the_shard_changed(tmp_path: Path):
    path = write_parquet(tmp_path / "a.parquet", rows_of(0, 2))
    first = arrow_copy(path, tmp_path / "cache")
    stamp = first.stat().st_mtime_ns
    assert arrow_copy(path, tmp_path / "cache") == first and first.stat().st_mtime_ns == stamp
    write_parquet(path, rows_of(1, 3))
    assert arrow_copy(path, tmp_path / "cache") != first


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"no parquet at all"])
def test_a_torn_shard_is_named_and_leaves_no_copy(content: bytes, tmp_path: Path):
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=r"a\.parquet: the shard is torn at its beginning: "):
        open_parquet(path)
    with pytest.raises(CorpusError, match=r"a\.parquet: the shard is torn"):
        arrow_copy(path, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.arrow*"))
