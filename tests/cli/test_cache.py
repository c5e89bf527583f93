"""What `speechtune cache` shows and removes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from speechtune.audio.cache import AudioCache
from speechtune.audio.cache_files import audio_cache_folder
from speechtune.cli import main as cli


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with a second of audio, an index of 1500 bytes, and a file that is not ours."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SPEECHTUNE_CACHE", str(folder))
    audio = AudioCache(audio_cache_folder(folder, 16_000), 16_000)
    audio.put("a clip", np.zeros(16_000, np.float32))
    (folder / "index" / "corpus").mkdir(parents=True)
    (folder / "index" / "corpus" / "rows").write_bytes(bytes(1500))
    (folder / "notes.txt").write_text("mine")
    return folder


def lines(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert cli.main(["cache", *words]) == 0
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_each_part_is_shown_with_its_size(cache: Path, capsys: pytest.CaptureFixture[str]):
    shown = lines(capsys)
    assert shown[0] == str(cache)
    assert shown[1].startswith("audio 32.") and shown[1].endswith("kB decoded audio")
    assert shown[2:] == [
        "audio/16000hz-v2: 1 clips, 0.0 h",
        "index 1.5 kB indexes of corpora",
        "unpacked 0 bytes unpacked archives",
    ]


def test_clearing_removes_what_is_ours_and_nothing_else(cache: Path, capsys: pytest.CaptureFixture[str]):
    shown = lines(capsys, "--clear")
    assert [line.split(" bytes")[0] for line in shown[1:]] == ["audio 0", "index 0", "unpacked 0"]
    assert (cache / "notes.txt").read_text() == "mine"


def test_all_clears_what_no_name_clears(cache: Path, capsys: pytest.CaptureFixture[str]):
    shown = lines(capsys, "--clear", "all")
    assert [line.split(" bytes")[0] for line in shown[1:]] == ["audio 0", "index 0", "unpacked 0"]


def test_one_part_can_be_cleared_alone(cache: Path, capsys: pytest.CaptureFixture[str]):
    shown = lines(capsys, "--clear", "index")
    assert "audio/16000hz-v2: 1 clips, 0.0 h" in shown
    assert "index 0 bytes indexes of corpora" in shown


def test_a_part_that_does_not_exist_is_named(cache: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["cache", "--clear", "everything"]) == 2
    assert "choose from" in capsys.readouterr().err
    assert (cache / "index" / "corpus" / "rows").exists()


def test_a_cache_that_is_not_there_yet_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("SPEECHTUNE_CACHE", str(tmp_path / "none"))
    assert lines(capsys)[1] == "audio 0 bytes decoded audio"
    assert not (tmp_path / "none").exists()
