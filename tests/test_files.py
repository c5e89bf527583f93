"""Files are written whole or not at all, and read with one message where they can't be."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from speechtune.errors import OutputError
from speechtune.files import explain_write_errors, read_json, read_jsonl, write_atomically


def test_file_names_that_are_not_utf8_survive_a_json_file(tmp_path: Path):
    write_atomically(tmp_path / "a.json", json.dumps({"file": "clip\udcff.wav"}, ensure_ascii=False))
    assert read_json(tmp_path / "a.json") == {"file": "clip\udcff.wav"}


def test_a_missing_file_is_empty_and_a_damaged_one_a_message(tmp_path: Path):
    assert read_json(tmp_path / "a.json") == {} and list(read_jsonl(tmp_path / "a.jsonl")) == []
    (tmp_path / "a.json").write_text('{"a": ')
    with pytest.raises(OutputError, match=r"a.json: can't be read: .*\nRemove it"):
        read_json(tmp_path / "a.json")


def test_a_line_that_a_kill_cut_short_is_skipped(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert list(read_jsonl(tmp_path / "a.jsonl")) == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize("refused", ["out", "out/.report.html.1.ab.tmp", ""])
def test_a_folder_that_cannot_be_written_is_named_not_the_temporary_file(tmp_path: Path, refused: str):
    folder = tmp_path / "out" if refused else tmp_path / "out" / "deeper" / "still"
    path = str(tmp_path / (refused or "out"))  # mkdir(parents=True) names the parent that it could not make
    with pytest.raises(OutputError, match=rf"^{tmp_path}/out: can't be written: Permission denied"):  # noqa: SIM117
        with explain_write_errors("the report", folder):
            raise OSError(errno.EACCES, "Permission denied", path)


def test_a_folder_that_cannot_be_made_is_one_message_but_a_file_that_vanished_is_a_fault_of_ours(tmp_path: Path):
    folder = tmp_path / "new" / "out"
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", str(tmp_path / "new"))
    with pytest.raises(OutputError, match="new: can't be written: No such file"), explain_write_errors("it", folder):
        raise missing
    inside = FileNotFoundError(errno.ENOENT, "No such file or directory", str(folder / "model.safetensors"))
    with pytest.raises(FileNotFoundError), explain_write_errors("it", folder):
        raise inside


def test_a_folder_with_a_similar_name_is_another_one(tmp_path: Path):
    refused = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "out-of-mine"))
    with pytest.raises(PermissionError), explain_write_errors("it", tmp_path / "out"):
        raise refused
