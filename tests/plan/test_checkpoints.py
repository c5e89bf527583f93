"""A checkpoint is whole or not there; the newest whole one is found; a full disk is one message."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from speechtune.errors import OutputError
from speechtune.plan.checkpoints import (
    begin_checkpoint,
    checkpoints,
    explain_disk_full,
    finish_checkpoint,
    is_whole,
    newest_whole,
    remove_half_written,
    write_atomically,
)


def make(folder: Path, step: int, content: bytes = b"weights") -> Path:
    half = begin_checkpoint(folder, step)
    (half / "model.safetensors").write_bytes(content)
    (half / "parts").mkdir()
    (half / "parts" / "0.bin").write_bytes(b"part")
    return finish_checkpoint(half, step)


def test_a_finished_checkpoint_is_whole_and_in_its_place(tmp_path: Path):
    place = make(tmp_path, 4)
    assert place == tmp_path / "checkpoint-4" and is_whole(place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-4"]


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path: Path):
    for step in (1000, 200, 30):
        make(tmp_path, step)
    (tmp_path / "checkpoint-x").mkdir()
    (tmp_path / "checkpoint-5").write_text("a file")
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-30", "checkpoint-200", "checkpoint-1000"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


DAMAGES = [cut, flip, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["model.safetensors", "parts/0.bin", "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over(damage, name: str, tmp_path: Path):
    whole = make(tmp_path, 4)
    damaged = make(tmp_path, 8)
    damage(damaged / name)
    assert newest_whole(tmp_path) == whole


def test_sizes_alone_are_enough_for_a_message(tmp_path: Path):
    place = make(tmp_path, 4)
    flip(place / "model.safetensors")
    assert newest_whole(tmp_path, read=False) == place and newest_whole(tmp_path) is None


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path: Path):
    make(tmp_path, 4, b"old")
    place = make(tmp_path, 4, b"new!")
    assert (place / "model.safetensors").read_bytes() == b"new!" and is_whole(place)


def test_what_a_kill_left_is_removed_and_nothing_else(tmp_path: Path):
    place = make(tmp_path, 4)
    begin_checkpoint(tmp_path, 8)
    (tmp_path / "tmp-model").mkdir()
    (tmp_path / ".settings.json.123.tmp").write_text("half")
    (tmp_path / "notes.txt").write_text("the user's")
    removed = remove_half_written(tmp_path)
    assert sorted(path.name for path in removed) == [".settings.json.123.tmp", "tmp-checkpoint-8", "tmp-model"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [place.name, "notes.txt"]


def test_a_write_that_fails_leaves_the_old_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_atomically(tmp_path / "a.json", "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "a.json", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "old")]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_message_that_names_the_last_whole_checkpoint(error: Exception, tmp_path: Path):
    whole = make(tmp_path, 4)
    half = begin_checkpoint(tmp_path, 8)
    found = "no space left while writing checkpoint 8"
    with pytest.raises(OutputError, match=found) as caught, explain_disk_full("checkpoint 8", tmp_path):
        raise error
    assert f"intact: {whole}." in str(caught.value) and caught.value.exit_code == 2
    assert not half.exists() and is_whole(whole)


def test_without_a_checkpoint_a_full_disk_says_so(tmp_path: Path):
    with pytest.raises(OutputError, match="There is no earlier checkpoint"), explain_disk_full("the model", tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path: Path):
    (tmp_path / "out").write_text("a file")
    found = r"can't be written: (File exists|Not a directory).*(.|\n)*--output_dir"
    with pytest.raises(OutputError, match=found), explain_disk_full("the results", tmp_path / "out"):
        (tmp_path / "out").mkdir()


def test_other_errors_pass(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), explain_disk_full("the results", tmp_path):
        raise ZeroDivisionError
    with pytest.raises(PermissionError), explain_disk_full("the results", tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/file")
