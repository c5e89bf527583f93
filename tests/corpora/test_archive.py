from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from speechtune.corpora import archive as archives
from speechtune.corpora.archive import unpack
from speechtune.errors import ArchiveError, CorpusError

FILE = tarfile.REGTYPE


def write_tar(path: Path, members: list[tuple[str, bytes, bytes]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, data, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, len(data)
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname = "/etc/passwd"
            tar.addfile(info, io.BytesIO(data))
    return path


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def left_in(cache: Path) -> list[str]:
    return [path.name for path in cache.rglob("*") if path.is_file() and path.name not in ("lock", "from.txt")]


CONTENT = {"a/b ü.txt": b"merhaba", "a/c/d.bin": os.urandom(70_000), "e": b""}


@pytest.mark.parametrize(
    ("ending", "mode"), [("tar", "w"), ("tar.gz", "w:gz"), ("tar.bz2", "w:bz2"), ("tar.xz", "w:xz")]
)
def test_tar_of_each_compression(tmp_path, ending, mode):
    path = write_tar(tmp_path / f"x.{ending}", [(name, data, FILE) for name, data in CONTENT.items()], mode)
    assert files_of(unpack(path, tmp_path / "cache")) == CONTENT


def test_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in CONTENT.items():
            packed.writestr(name, data)
    assert files_of(unpack(tmp_path / "x.zip", tmp_path / "cache")) == CONTENT


def test_second_time_is_the_same_folder_without_reading_the_archive(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "x.tar.gz", [("a", b"1", FILE)])
    first = unpack(path, tmp_path / "cache")
    monkeypatch.setattr(archives, "_unpack_into", lambda *_: pytest.fail("unpacked again"))
    assert unpack(path, tmp_path / "cache") == first


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("../out.txt", FILE, "would leave the folder"),
        ("a/../../out.txt", FILE, "would leave the folder"),
        ("/tmp/out.txt", FILE, "would leave the folder"),
        ("..\\out.txt", FILE, "would leave the folder"),
        ("C:\\out.txt", FILE, "would leave the folder"),
        ("link", tarfile.SYMTYPE, "is a link"),
        ("hard", tarfile.LNKTYPE, "is a link"),
        ("device", tarfile.CHRTYPE, "no file"),
        ("pipe", tarfile.FIFOTYPE, "no file"),
    ],
)
def test_unsafe_member_is_refused_and_nothing_stays(tmp_path, name, kind, words):
    path = write_tar(tmp_path / "x.tar.gz", [("first", b"1", FILE), (name, b"" if kind != FILE else b"2", kind)])
    with pytest.raises(ArchiveError, match=words):
        unpack(path, tmp_path / "cache")
    assert left_in(tmp_path / "cache") == []
    assert not (tmp_path / "out.txt").exists()


def test_unsafe_zip_members_are_refused(tmp_path):
    for number, (name, attributes) in enumerate([("../out", 0), ("link", 0o120777 << 16)]):
        with zipfile.ZipFile(tmp_path / f"{number}.zip", "w") as packed:
            info = zipfile.ZipInfo(name)
            info.external_attr = attributes
            packed.writestr(info, "/etc/passwd")
        with pytest.raises(ArchiveError, match="unsafe"):
            unpack(tmp_path / f"{number}.zip", tmp_path / "cache")


def test_zip_member_without_a_name_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr(zipfile.ZipInfo("a.txt"), "1")
        packed.writestr(zipfile.ZipInfo(""), "2")
    with pytest.raises(ArchiveError, match="a member has no name"):
        unpack(tmp_path / "x.zip", tmp_path / "cache")


def test_bomb_is_stopped_before_it_fills_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "RATIO_COUNTS_FROM", 1 << 20)
    tar = write_tar(tmp_path / "x.tar.gz", [("zeros", bytes(8 << 20), FILE)])
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("zeros", bytes(8 << 20))
    for path in (tar, tmp_path / "x.zip"):
        with pytest.raises(ArchiveError, match="it is a bomb"):
            unpack(path, tmp_path / "cache")
    assert left_in(tmp_path / "cache") == []


def test_no_room_on_the_disk_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "KEEP_FREE_BYTES", 1 << 60)
    with pytest.raises(ArchiveError, match=r"no room to unpack it[\s\S]*--cache_dir"):
        unpack(write_tar(tmp_path / "x.tar", [("a", b"1", FILE)], "w"), tmp_path / "cache")


def test_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    with pytest.raises(ArchiveError, match="more than 2 members"):
        unpack(write_tar(tmp_path / "x.tar", [(str(n), b"", FILE) for n in range(3)], "w"), tmp_path / "cache")


def test_header_that_never_ends_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_HEADER_BYTES", 1 << 20)
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a")
        info.pax_headers = {"comment": "x" * (4 << 20)}
        tar.addfile(info)
    with pytest.raises(ArchiveError, match="header of a member is larger"):
        unpack(tmp_path / "x.tar.gz", tmp_path / "cache")


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "zip"])
def test_torn_at_any_place_is_noticed(tmp_path, ending):
    whole = tmp_path / f"x.{ending}"
    if ending == "zip":
        with zipfile.ZipFile(whole, "w") as packed:
            for name, data in CONTENT.items():
                packed.writestr(name, data)
    else:
        write_tar(whole, [(name, data, FILE) for name, data in CONTENT.items()], "w:gz" if ending == "tar.gz" else "w")
    data = whole.read_bytes()
    end = len(data.rstrip(b"\x00")) if ending == "tar" else len(data) - 1
    for number, size in enumerate((0, 1, 300, 512, 1024, 1536, end // 2, end - 600, end)):
        torn = tmp_path / f"{number}.{ending}"
        torn.write_bytes(data[:size])
        with pytest.raises(ArchiveError, match="truncated or damaged"):
            unpack(torn, tmp_path / "cache")
    assert left_in(tmp_path / "cache") == []


def test_damaged_header_in_the_middle_is_not_taken_for_the_end(tmp_path):
    path = write_tar(tmp_path / "x.tar", [("a", b"1", FILE), ("b", b"2", FILE)], "w")
    data = bytearray(path.read_bytes())
    data[1024 + 150] ^= 0xFF  # the second header's checksum
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="header is damaged"):
        unpack(path, tmp_path / "cache")


def test_wrong_checksum_of_the_compressed_data_is_noticed(tmp_path):
    path = write_tar(tmp_path / "x.tar.gz", [("a", os.urandom(5000), FILE)])
    data = bytearray(path.read_bytes())
    data[-8] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="CRC"):
        unpack(path, tmp_path / "cache")


def test_content_decides_not_the_name(tmp_path):
    path = write_tar(tmp_path / "x.tar", [("a", b"1", FILE)], "w")
    (tmp_path / "unzipped by the browser.tar.gz").write_bytes(path.read_bytes())
    (tmp_path / "twice.tar").write_bytes(gzip.compress(path.read_bytes()))
    assert files_of(unpack(tmp_path / "unzipped by the browser.tar.gz", tmp_path / "cache")) == {"a": b"1"}
    assert files_of(unpack(tmp_path / "twice.tar", tmp_path / "cache")) == {"a": b"1"}


@pytest.mark.parametrize("name", ["d/" * 2000 + "a", f"{'long' * 50}/" * 30 + "a", "n" * 300, "ü" * 200])
@pytest.mark.parametrize("ending", ["tar", "zip"])
def test_name_that_no_file_system_takes_is_one_message(tmp_path, name, ending):
    path = tmp_path / f"x.{ending}"
    if ending == "zip":
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr(name, b"1")
    else:
        write_tar(path, [(name, b"1", FILE)], "w")
    with pytest.raises(ArchiveError, match=r"the member .{60,70}\.\.\. can't be unpacked: its name is too long"):
        unpack(path, tmp_path / "cache")
    assert left_in(tmp_path / "cache") == []


def test_backslashes_of_windows_archives_are_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr("my recordings\\a.wav", b"1")
    assert files_of(unpack(tmp_path / "x.zip", tmp_path / "cache")) == {"my recordings/a.wav": b"1"}


def test_name_that_is_a_file_and_a_folder(tmp_path):
    with pytest.raises(ArchiveError, match="both a file and a folder"):
        unpack(write_tar(tmp_path / "x.tar", [("b", b"1", FILE), ("b/c", b"2", FILE)], "w"), tmp_path / "cache")


def test_unwritable_cache_is_not_called_a_torn_archive(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(CorpusError, match="the cache can't be written") as error:
        unpack(write_tar(tmp_path / "x.tar", [("a", b"1", FILE)], "w"), tmp_path / "cache")
    assert not isinstance(error.value, ArchiveError)


def test_processes_at_once_unpack_once(tmp_path):
    path = write_tar(tmp_path / "x.tar.gz", [(f"f{n}", os.urandom(2000), FILE) for n in range(300)])
    code = (
        "import sys; from pathlib import Path; from speechtune.corpora.archive import unpack\n"
        "print(len(list(unpack(Path(sys.argv[1]), Path(sys.argv[2])).iterdir())))"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "cache")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0] for process in processes] == ["300\n", "300\n"]
    assert not list((tmp_path / "cache").rglob("tmp-*"))
