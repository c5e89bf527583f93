"""Audio inside larger files: read by position; a dataset must not name other files of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from speechtune.audio.packed import Packed, packed_bytes, packed_size
from speechtune.errors import AudioError


def arrow_file(path: Path, values: list[Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = pa.array(values, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    table = pa.table({"audio": audio})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as sink:
        sink.write_table(table)
    return str(path)


def test_bytes_of_a_row_and_their_size(tmp_path):
    source = arrow_file(tmp_path / "a.arrow", [{"bytes": b"12345", "path": "/etc/passwd"}, None])
    where = Packed("arrow", source, 0, column="audio")
    assert (packed_bytes(where), packed_size(where)) == (b"12345", 5)
    assert packed_size(Packed("arrow", source, 1, column="audio")) == -1
    with pytest.raises(AudioError, match="no audio there"):
        packed_bytes(Packed("arrow", source, 1, column="audio"))


@pytest.mark.parametrize("named", ["diary.wav", "../diary.wav", "/etc/passwd", "/proc/self/environ", "~/diary.wav"])
def test_dataset_names_only_files_that_were_downloaded_with_it(named, tmp_path):
    (tmp_path / "diary.wav").write_bytes(b"private")
    named = str(tmp_path / named) if named == "diary.wav" else named
    source = arrow_file(tmp_path / "unpacked" / "1" / "a.arrow", [{"bytes": None, "path": named}])
    with pytest.raises(AudioError, match="which is not part of the dataset") as error:
        packed_bytes(Packed("arrow", source, 0, column="audio"))
    assert error.value.reason == "outside_audio"


def test_file_that_datasets_downloaded(tmp_path):
    file = tmp_path / "cache" / "downloads" / "extracted" / "a.wav"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"audio")
    folder = tmp_path / "cache" / "owner___name" / "default" / "0.0.0" / "hash"
    source = arrow_file(folder / "train.arrow", [{"bytes": None, "path": str(file)}])
    assert packed_bytes(Packed("arrow", source, 0, column="audio")) == b"audio"
