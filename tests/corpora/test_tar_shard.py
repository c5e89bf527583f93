"""Records of a tar: what its members are called decides what they are; the rest of a shard's tests: test_shards.py."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from standins.shards import audio_bytes

from speechtune.audio.packed import Packed
from speechtune.corpora import tar_shard
from speechtune.corpora.layout import BadRow, Row
from speechtune.corpora.tar_shard import packed_tar_rows, tar_rows
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
    return [row for _, row in tar_rows(path, **how)]


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
    assert row.audio == {"flac": b"1", "near.flac": b"2", "far.flac": b"3"}[ending]


def test_a_member_that_comes_twice_counts_once(tmp_path: Path):
    (row,) = rows(write(tmp_path / "a.tar", ("k.flac", SOUND), ("k.txt", "first"), ("k.txt", "second")))
    assert isinstance(row, Row) and row.columns == {"text": "first"}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_skipped_records_keep_their_numbers(mode: str, tmp_path: Path):
    members = [
        (f"k{n}.{ending}", SOUND if ending == "flac" else f"{n}") for n in range(6) for ending in ("flac", "txt")
    ]
    path = write(tmp_path / "a.tar", *members, mode=mode)
    found = list(tar_rows(path, start=2, wanted=lambda number: number % 2 == 0))
    assert [(number, row.columns["text"]) for number, row in found if isinstance(row, Row)] == [(2, "2"), (4, "4")]


def test_random_access_gives_the_place_of_the_same_bytes(tmp_path: Path):
    path = write(tmp_path / "a.tar", ("k.txt", "bir"), ("k.flac", SOUND))
    (packed,) = packed_tar_rows(path, audio_column="audio", key="shard")
    (read,) = rows(path, key="shard")
    assert isinstance(packed, Row) and isinstance(read, Row) and isinstance(packed.audio, Packed)
    where = packed.audio
    assert path.read_bytes()[where.position : where.position + where.num_bytes] == read.audio == SOUND
    assert packed.key == read.key == where.key and packed.key.startswith("shard") and packed.columns == read.columns


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
    monkeypatch.setattr(tar_shard, "MAX_MEMBER_BYTES", 100)
    path = write(tmp_path / "a.tar", ("k.txt", "a"), ("k.flac", b"x" * 101))
    with pytest.raises(CorpusError, match=r"'k\.flac' claims 101 bytes"):
        rows(path)


@pytest.mark.parametrize("content", ["[1]", "{", "3", '"text"', "\ud800".encode("utf-16-le", "surrogatepass")])
def test_a_record_whose_text_can_not_be_read_is_a_bad_row_and_the_next_is_not(content: str | bytes, tmp_path: Path):
    members = [("a.flac", SOUND), ("a.json", content), ("b.flac", SOUND), ("b.txt", "iki")]
    bad, good = rows(write(tmp_path / "a.tar", *members))
    assert isinstance(bad, BadRow) and bad.detail.startswith("no text: ") and bad.id == "a"
    assert isinstance(good, Row) and good.columns == {"text": "iki"}
