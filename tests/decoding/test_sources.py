"""What a user names becomes recordings, each once, with names of transcripts that differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechtune.decoding.sources import find_sources
from speechtune.errors import OptionError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.MP3", "a.wav", "notes.txt", ".hidden.wav", "2024/x.mp4", "2024/may/y.opus", ".cache/z.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def outputs(*given: str) -> list[str]:
    return [source.output for source in find_sources(given)]


def test_folders_are_searched_below_and_transcripts_keep_their_places(folder: Path):
    assert outputs(str(folder)) == ["a", "b", "2024/x", "2024/may/y"]


def test_files_of_any_ending_and_those_that_are_missing_are_taken_as_named(folder: Path):
    assert outputs(str(folder / "notes.txt"), str(folder / "none.wav")) == ["notes", "none"]


def test_patterns_are_ours_to_expand_where_the_shell_did_not(folder: Path):
    assert outputs(f"{folder}/*.wav", f"{folder}/**/*.mp4") == ["a", "x"]
    (folder / "odd[1].wav").touch()
    assert outputs(str(folder / "odd[1].wav")) == ["odd[1]"]


def test_a_recording_named_twice_is_taken_once(folder: Path):
    assert outputs(str(folder / "a.wav"), str(folder), str(folder / "a.wav"))[0] == "a"
    assert len(outputs(str(folder), str(folder / "a.wav"))) == 4


def test_transcripts_never_share_a_name(folder: Path):
    (folder / "a.flac").touch()
    (folder / "2024/a.wav").touch()
    assert outputs(f"{folder}/a.*") == ["a.flac", "a.wav"]
    same = outputs(str(folder / "a.wav"), str(folder / "2024/a.wav"))
    assert len(set(same)) == 2 and all(name.endswith("a.wav") for name in same)
    assert not any(name.startswith(("/", "..")) for name in same)


def test_standard_input_is_a_recording():
    assert [(s.path, s.output) for s in find_sources(["-"])] == [("-", "stdin")]


def test_urls_and_what_holds_no_recording_are_one_message(folder: Path):
    for word, said in {
        "https://example.org/a.mp3": "https://example.org/a.mp3: recordings are read from files only.",
        f"{folder}/*.ogg": "no file matches this pattern",
    }.items():
        with pytest.raises(OptionError) as raised:
            find_sources([word])
        assert said in str(raised.value)
    (folder / "empty").mkdir()
    with pytest.raises(OptionError, match="no recordings in this folder or below"):
        find_sources([str(folder / "empty")])
