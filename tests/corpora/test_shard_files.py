"""Records of shards: tar, Parquet, by stream and by random access; checks of whole shards: layouts/test_shards.py."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from standins.shards import audio_bytes, rows_of, write_parquet

from speechtune.audio.packed import Packed, packed_bytes
from speechtune.corpora import shard_files
from speechtune.corpora.layout import BadRow, Row
from speechtune.corpora.shard_files import arrow_copy, arrow_rows, open_parquet, parquet_rows, tar_rows
from speechtune.errors import CorpusError

SOUND = audio_bytes("a")


def write(path: Path, *members: tuple[str, bytes | str], mode: Any = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def rows(path: Path, **how: Any) -> list[Row | BadRow]:
    return list(tar_rows(path, **how))


def test_a_record_is_named_by_all_before_the_first_dot_of_its_file(tmp_path: Path):
    members = [("a.b/ç.seg1.wav", SOUND), ("a.b/ç.txt", "bir\n"), ("./x.FLAC", SOUND), ("./x.Txt", " iki ")]
    first, second = rows(write(tmp_path / "train-0.tar", *members))
    assert isinstance(first, Row) and isinstance(second, Row)
    assert (first.id, first.columns, first.file) == (
        "train-0/a.b/ç",
        {"text": "bir"},
        f"{tmp_path / 'train-0.tar'}:a.b/ç.seg1.wav",
    )
    assert (second.id.rpartition("/")[2], second.columns) == ("x", {"text": " iki "})


def test_json_gives_columns_but_none_of_our_own(tmp_path: Path):
    values = {"transcript": "üç", "speaker": 7, "duration": 1.5, "#id": "evil", "list": [1], "none": None}
    (row,) = rows(write(tmp_path / "a.tar", ("k.flac", SOUND), ("k.json", json.dumps(values))))
    assert isinstance(row, Row)
    assert row.columns == {
        "transcript": "üç",
        "speaker": "7",
        "duration": "1.5",
        "list": None,
        "none": None,
        "text": "üç",
    }
    assert (row.speaker, row.duration_s) == ("7", 1.5)


def test_other_texts_are_columns_of_their_own_names(tmp_path: Path):
    members = [("k.flac", SOUND), ("k.txt", "a"), ("k.speaker.txt", "s1"), ("k.png", b"\x89")]
    (row,) = rows(write(tmp_path / "a.tar", *members))
    assert isinstance(row, Row) and row.columns == {"text": "a", "speaker": "s1"} and row.speaker == "s1"


@pytest.mark.parametrize(("column", "ending"), [("audio", "flac"), ("near", "near.flac"), ("far.flac", "far.flac")])
def test_of_several_recordings_the_column_says_which(column: str, ending: str, tmp_path: Path):
    members = [("k.flac", b"1"), ("k.near.flac", b"2"), ("k.far.flac", b"3"), ("k.txt", "a")]
    (row,) = rows(write(tmp_path / "a.tar", *members), audio_column=column)
    assert isinstance(row, Row) and row.file.endswith(f":k.{ending}")
    assert isinstance(row.audio, Packed)
    assert packed_bytes(row.audio) == {"flac": b"1", "near.flac": b"2", "far.flac": b"3"}[ending]


def test_a_member_that_comes_twice_counts_once(tmp_path: Path):
    (row,) = rows(write(tmp_path / "a.tar", ("k.flac", SOUND), ("k.txt", "first"), ("k.txt", "second")))
    assert isinstance(row, Row) and row.columns == {"text": "first"}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_part_has_every_nth_record(mode: str, tmp_path: Path):
    members = [
        (f"k{n}.{ending}", SOUND if ending == "flac" else f"{n}") for n in range(6) for ending in ("flac", "txt")
    ]
    path = write(tmp_path / "a.tar", *members, mode=mode)
    parts = [
        [row.columns["text"] for row in rows(path, part=part, num_parts=4) if isinstance(row, Row)] for part in range(4)
    ]
    assert parts == [["0", "4"], ["1", "5"], ["2"], ["3"]]


def test_audio_stays_in_a_plain_tar_and_is_read_from_a_compressed_one(tmp_path: Path):
    members = [("k.txt", "bir"), ("k.flac", SOUND)]
    (packed,) = rows(write(tmp_path / "a.tar", *members), key="shard")
    (read,) = rows(write(tmp_path / "a.tar.gz", *members, mode="w:gz"), key="shard")
    assert isinstance(packed, Row) and isinstance(read, Row) and isinstance(packed.audio, Packed)
    assert packed_bytes(packed.audio) == read.audio == SOUND
    assert packed.key == read.key == packed.audio.key and packed.key.startswith("shard")
    assert packed.columns == read.columns


def test_links_and_folders_are_no_members(tmp_path: Path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for kind, name in ((tarfile.DIRTYPE, "k"), (tarfile.SYMTYPE, "k.flac")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        info = tarfile.TarInfo("k.txt")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"a"))
    (row,) = rows(path)
    assert isinstance(row, BadRow) and "no audio among txt" in row.detail


def test_an_empty_tar_has_no_rows(tmp_path: Path):
    assert rows(write(tmp_path / "a.tar")) == []


def test_a_member_of_absurd_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shard_files, "MAX_MEMBER_BYTES", 100)
    path = write(tmp_path / "a.tar.gz", ("k.txt", "a"), ("k.flac", b"x" * 101), mode="w:gz")
    with pytest.raises(CorpusError, match=r"'k\.flac' claims 101 bytes"):
        rows(path)


@pytest.mark.parametrize("content", ["[1]", "{", "3", '"text"', "\ud800".encode("utf-16-le", "surrogatepass")])
def test_a_record_whose_text_can_not_be_read_is_a_bad_row_and_the_next_is_not(content: str | bytes, tmp_path: Path):
    members = [("a.flac", SOUND), ("a.json", content), ("b.flac", SOUND), ("b.txt", "iki")]
    bad, good = rows(write(tmp_path / "a.tar", *members))
    assert isinstance(bad, BadRow) and bad.detail.startswith("no text: ") and bad.id == "a"
    assert isinstance(good, Row) and good.columns == {"text": "iki"}


def table_rows(path: Path, **how: Any) -> list[Row | BadRow]:
    return list(parquet_rows(path, **how))


@pytest.mark.parametrize("num_parts", [1, 3, 7, 50])
def test_parts_of_a_parquet_shard_have_every_nth_row(num_parts: int, tmp_path: Path):
    path = write_parquet(tmp_path / "a.parquet", rows_of(0, 40), row_group_size=7)
    for part in range(num_parts):
        found = table_rows(path, part=part, num_parts=num_parts)
        assert [row.file for row in found] == [f"{path}:row {number}" for number in range(part, 40, num_parts)]


@pytest.mark.parametrize("kind", ["struct", "binary"])
def test_audio_is_bytes_in_a_struct_or_alone(kind: str, tmp_path: Path):
    value: Any = {"bytes": b"abc", "path": "a.wav"} if kind == "struct" else b"abc"
    pq.write_table(pa.table({"audio": [value], "text": ["bir"]}), tmp_path / "a.parquet")
    (row,) = table_rows(tmp_path / "a.parquet", key="k")
    assert isinstance(row, Row) and row.audio == b"abc" and row.columns == {"text": "bir"}
    assert (row.id, row.file, row.key) == ("a/0", f"{tmp_path / 'a.parquet'}:row 0", "k0")


@pytest.mark.parametrize("value", ["clips/a.wav", {"bytes": None, "path": "clips/a.wav"}])
def test_audio_may_be_a_path_beside_the_shard(value: Any, tmp_path: Path):
    pq.write_table(pa.table({"audio": [value]}), tmp_path / "a.parquet")
    (row,) = table_rows(tmp_path / "a.parquet")
    assert isinstance(row, Row) and row.audio == str(tmp_path / "clips" / "a.wav")


def test_a_row_without_audio_is_a_bad_row_and_the_next_is_not(tmp_path: Path):
    audio = pa.array(
        [None, {"bytes": b"", "path": None}, {"bytes": b"x", "path": None}],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    pq.write_table(pa.table({"audio": audio, "text": ["a", "b", "c"]}), tmp_path / "a.parquet")
    empty, blank, good = table_rows(tmp_path / "a.parquet")
    assert isinstance(empty, BadRow) and isinstance(blank, BadRow) and "no audio in column 'audio'" in blank.detail
    assert isinstance(good, Row) and good.columns == {"text": "c"}


def test_ids_and_facts_are_of_their_columns_and_none_of_our_own_names(tmp_path: Path):
    table = pa.table({"audio": [b"x"], "id": ["utt1"], "client_id": [3], "duration": [1.25], "#key": ["evil"]})
    pq.write_table(table, tmp_path / "a.parquet")
    (row,) = table_rows(tmp_path / "a.parquet")
    assert isinstance(row, Row)
    assert (row.id, row.speaker, row.duration_s) == ("utt1", "3", 1.25)
    assert row.columns == {"id": "utt1", "client_id": "3", "duration": "1.25"}


def test_a_column_that_is_not_there_lists_those_that_are(tmp_path: Path):
    path = write_parquet(tmp_path / "a.parquet", rows_of(0, 2))
    with pytest.raises(CorpusError, match=r"no column 'speech'.\nColumns: audio, sentence, speaker_id.\n"):
        table_rows(path, audio_column="speech")


def test_arrow_copy_gives_the_same_rows_and_bytes(tmp_path: Path):
    path = write_parquet(tmp_path / "a.parquet", rows_of(0, 40), row_group_size=7)
    copy = arrow_copy(path, tmp_path / "cache")
    read, packed = table_rows(path, key="k"), list(arrow_rows(path, copy, audio_column="audio", key="k"))
    assert len(read) == len(packed) == 40
    for one, other in zip(read, packed, strict=True):
        assert isinstance(one, Row) and isinstance(other, Row) and isinstance(other.audio, Packed)
        assert (one.id, one.columns, one.key) == (other.id, other.columns, other.key)
        assert packed_bytes(other.audio) == one.audio
    assert read[3].audio == audio_bytes(rows_of(0, 40)[3][0])  # type: ignore[union-attr]


def test_the_copy_is_made_once_and_again_where_the_shard_changed(tmp_path: Path):
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


@pytest.mark.parametrize("name", ["/etc/passwd", "../diary.wav", "a/../../diary.wav"])
def test_a_parquet_row_names_no_file_outside_the_folder_of_the_shard(name: str, tmp_path: Path):
    path = tmp_path / "shards" / "train-0.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"audio": ["a.wav", name], "text": ["bir", "iki"]}), path)
    good, bad = parquet_rows(path)
    assert isinstance(good, Row) and good.audio == str(tmp_path / "shards" / "a.wav")
    assert isinstance(bad, BadRow) and (bad.file, bad.reason) == (f"{path}:row 1", "outside_audio")
