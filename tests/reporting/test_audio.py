"""Audio of the report: each recording once, up to the size that was asked for, links beyond it."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import soundfile
from evaluations import hypothesis

from speechtune.audio.decode import load_audio
from speechtune.reporting.audio import SAMPLING_RATE, Clips, encode_mp3, outline


def tone(seconds: float, level: float = 0.5) -> np.ndarray:
    t = np.arange(round(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    return (32767 * level * np.sin(2 * np.pi * 440 * t)).astype(np.int16)


@pytest.fixture
def rows(tmp_path):
    """Three utterances of one second each."""
    for n in range(3):
        soundfile.write(tmp_path / f"{n}.wav", tone(1.0), SAMPLING_RATE)
    return [hypothesis(str(n), "a", "a", file=str(tmp_path / f"{n}.wav"), duration_s=1.0) for n in range(3)]


def test_mp3_keeps_length_and_sound():
    pcm = tone(1.5)
    heard = load_audio(encode_mp3(pcm), SAMPLING_RATE, name="clip")
    assert len(heard) == pytest.approx(len(pcm), abs=SAMPLING_RATE // 20)
    spectrum = np.abs(np.fft.rfft(heard[:SAMPLING_RATE]))
    assert abs(int(spectrum.argmax()) - 440) <= 2


def test_the_outline_is_the_peak_of_each_stretch():
    pcm = np.concatenate([tone(1.0, 0.5), np.zeros(SAMPLING_RATE, np.int16)])
    assert outline(pcm) == "z" * 60 + "0" * 60
    assert set(outline(tone(1.0, 0.005))) == {"3"}  # a quiet one is not drawn as if it were loud
    assert outline(np.zeros(0, np.int16)) == "" and len(outline(tone(0.001))) == 16


def test_what_does_not_fit_is_linked_and_each_recording_is_held_once(rows):
    clips = Clips(16_000)  # two seconds and their padding
    for row in [*rows, rows[0]]:
        clips.add(row)
    assert [sorted(facts) for facts in clips.facts] == [["a", "p", "s"], ["a", "p", "s"], ["f", "s"]]
    assert (len(clips.audio), clips.num_linked, clips.num_missing) == (2, 1, 0)
    assert [clips.place(row) for row in rows] == [0, 1, 2]
    assert sum(map(len, clips.audio)) <= 16_000
    assert base64.b64decode(clips.audio[0])[:3] in (b"ID3", b"\xff\xf3\x48") and clips.facts[0]["s"] == 1.0
    assert clips.facts[2]["f"].startswith("file:///") and clips.facts[2]["f"].endswith("2.wav")


def test_a_size_of_0_means_neither_audio_nor_links(rows):
    clips = Clips(0)
    clips.add(rows[0])
    assert (clips.facts, clips.place(rows[0]), clips.num_missing) == ([], None, 0)


def test_a_recording_that_is_gone_is_counted_and_a_damaged_one_is_linked(rows, tmp_path):
    (tmp_path / "1.wav").write_bytes(b"no audio")
    (tmp_path / "2.wav").unlink()
    clips = Clips(1e6)
    for row in [*rows, hypothesis("x", "a", "a", file="shards.tar:x.wav"), hypothesis("y", "a", "a", file="\0" * 9)]:
        clips.add(row)
    assert [sorted(facts) for facts in clips.facts] == [["a", "p", "s"], ["f", "s"]] and clips.num_missing == 3


def test_a_recording_of_unknown_length_is_not_decoded_beyond_the_room(tmp_path):
    soundfile.write(tmp_path / "long.wav", tone(20.0), SAMPLING_RATE)
    clips = Clips(20_000)
    clips.add(hypothesis("long", "a", "a", file=str(tmp_path / "long.wav")))
    assert clips.audio == [] and "f" in clips.facts[0]
