"""Opening audio: any file name works, what is no file is never opened, and a file's key follows its content."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import audio_files
import pytest

from speechtune.audio.decode import load_audio, read_header
from speechtune.audio.opening import bytes_key, file_key
from speechtune.errors import AudioError

RATE = 16000
VOICE = audio_files.voice(2.0, RATE)


def reason_of(path: Path | str) -> str:
    """Why `path` is refused, by everything that opens audio."""
    reasons = set()
    for use in (lambda name: load_audio(name, RATE), read_header, file_key):
        with pytest.raises(AudioError) as caught:
            use(str(path))
        assert "\n" not in str(caught.value)
        reasons.add(caught.value.reason)
    (reason,) = reasons
    return reason


@pytest.mark.parametrize(
    "name", ["with space.wav", "new\nline.wav", "ğüşiöç हिन्दी 音.mp3", "-", "concat:a|b.m4a", "%s.flac", "a'\".ogg"]
)
def test_any_file_name_works(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    kind = name.rpartition(".")[2] if "." in name else "wav"
    Path(name).write_bytes(audio_files.encode(VOICE, RATE, kind))
    assert read_header(name).duration_s == pytest.approx(2.0, abs=0.13)
    assert len(load_audio(name, RATE)) >= len(VOICE)


def test_name_that_is_not_utf8_works(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.wav")
    Path(path).write_bytes(audio_files.encode(VOICE, RATE, "wav"))
    assert len(load_audio(path, RATE)) == len(VOICE)
    Path(path).write_bytes(b"")
    with pytest.raises(AudioError, match=r"\\udcff\\udcfe\.wav': is empty"):
        load_audio(path, RATE)


def test_message_shows_a_name_with_a_newline_on_one_line(tmp_path):
    path = tmp_path / "two\nlines.wav"
    path.write_bytes(b"")
    assert reason_of(str(path)) == "empty"


# --- what is no file --------------------------------------------------------------------------------------------------


def test_missing_file_and_impossible_name_are_refused(tmp_path):
    assert reason_of(tmp_path / "nothing.wav") == "missing_file"
    assert reason_of(tmp_path / "nothing.wav" / "a.wav") == "missing_file"
    assert reason_of("nul\0byte.wav") == "unreadable"


@pytest.fixture
def never_opened(monkeypatch):
    def refuse(path, *args, **more):
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr("builtins.open", refuse)


@pytest.mark.usefixtures("never_opened")
@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/dev/tty", "/proc/self/mem", "/proc/version", "/dev"])
def test_devices_and_kernel_files_are_never_opened(path):
    assert reason_of(path) == "not_a_file"


@pytest.mark.usefixtures("never_opened")
def test_a_link_to_a_kernel_file_is_never_opened(tmp_path):
    (tmp_path / "a.wav").symlink_to("/proc/self/environ")
    (tmp_path / "b.wav").symlink_to("/sys/kernel/notes")
    assert reason_of(tmp_path / "a.wav") == "not_a_file"
    if Path("/sys/kernel/notes").exists():
        assert reason_of(tmp_path / "b.wav") == "not_a_file"


@pytest.mark.usefixtures("never_opened")
def test_folders_pipes_and_sockets_are_never_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.wav")
    assert reason_of(tmp_path) == "not_a_file"
    assert reason_of("pipe.wav") == "not_a_file"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.wav")
        assert reason_of("socket.wav") == "not_a_file"


@pytest.mark.usefixtures("never_opened")
def test_an_empty_file_is_never_opened(tmp_path):
    (tmp_path / "a.wav").touch()
    assert reason_of(tmp_path / "a.wav") == "empty"


def test_a_file_by_its_descriptor_is_a_file(tmp_path):
    path = audio_files.write(tmp_path / "a.wav", VOICE, RATE)
    with path.open("rb") as file:
        assert len(load_audio(f"/proc/self/fd/{file.fileno()}", RATE)) == len(VOICE)


# --- keys -------------------------------------------------------------------------------------------------------------


def test_file_key_follows_path_size_and_time(tmp_path):
    path = audio_files.write(tmp_path / "a.wav", VOICE, RATE)
    key = file_key(str(path))
    assert len(bytes.fromhex(key)) == 16
    assert file_key(str(path)) == key
    os.utime(path, ns=(1, 1))
    assert file_key(str(path)) != key
    other = audio_files.write(tmp_path / "b.wav", VOICE, RATE)
    os.utime(other, ns=(1, 1))
    assert file_key(str(other)) != file_key(str(path))
    with pytest.raises(AudioError, match="no such file"):
        file_key(str(tmp_path / "nothing"))


def test_bytes_key_follows_content():
    assert bytes_key(b"a") == bytes_key(b"a") != bytes_key(b"b")
    assert len(bytes.fromhex(bytes_key(b"a"))) == 16
