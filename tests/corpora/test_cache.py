from __future__ import annotations

from pathlib import Path

import pytest

from speechtune.corpora.cache import cache_folder
from speechtune.files import replacing


def test_the_variable_wins_over_the_option_and_the_option_over_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SPEECHTUNE_CACHE", str(tmp_path / "own"))
    assert cache_folder(tmp_path / "option") == tmp_path / "own"
    monkeypatch.delenv("SPEECHTUNE_CACHE")
    assert cache_folder(tmp_path / "option") == tmp_path / "option" / "speechtune"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "speechtune"


def test_file_takes_its_name_only_when_it_is_whole(tmp_path: Path):
    target = tmp_path / "a"
    target.write_text("old")
    with pytest.raises(RuntimeError), replacing(target, "w") as file:
        file.write("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert target.read_text() == "old"
    with replacing(target, "w") as file:
        file.write("new")
    assert target.read_text() == "new"
