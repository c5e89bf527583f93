"""An utterance's samples are the same from the file and from the cache, in every epoch of every run."""

from __future__ import annotations

import pickle
from pathlib import Path

import audio_files
import numpy as np
import pytest

from speechtune.audio.cache import AudioCache
from speechtune.audio.reader import AudioReader
from speechtune.errors import AudioError
from speechtune.types import Utterance

RATE = 16_000


def said(path: Path | bytes, *, key: str = "key", name: str = "") -> Utterance:
    audio = path if isinstance(path, bytes) else str(path)
    return Utterance("id", audio, key, "", 0.5, name or (str(path) if not isinstance(path, bytes) else "a.tar:b"))


def audio_cache_in(folder: Path, rate: int = RATE) -> AudioCache:
    return AudioCache(folder, rate, min_free_bytes=0, refresh_s=0.0)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return audio_files.write(tmp_path / "a.wav", audio_files.voice(0.5, 22_050), 22_050, subtype="FLOAT")


def test_samples_are_at_the_models_rate_and_rounded_to_16_bits(clip: Path):
    samples = AudioReader(RATE).samples(said(clip))
    assert samples.shape == (8000,) and samples.dtype == np.float32
    assert np.array_equal(samples * 32768, np.rint(samples * 32768))


def test_without_with_a_new_and_with_a_filled_audio_cache_samples_are_the_same(clip: Path, tmp_path: Path):
    without = AudioReader(RATE).samples(said(clip))
    reader = AudioReader(RATE, cache=audio_cache_in(tmp_path / "audio"))
    filling, filled = reader.samples(said(clip)), reader.samples(said(clip))
    assert np.array_equal(without, filling) and np.array_equal(without, filled)


def test_what_was_decoded_once_is_not_read_again(clip: Path, tmp_path: Path):
    samples = AudioReader(RATE, cache=audio_cache_in(tmp_path / "audio")).samples(said(clip))
    clip.unlink()
    again = AudioReader(RATE, cache=audio_cache_in(tmp_path / "audio"))
    assert np.array_equal(again.samples(said(clip)), samples)
    with pytest.raises(AudioError, match="no such file"):
        again.samples(said(clip, key="another"))


def test_a_recording_that_changed_has_another_key_and_is_read_again(clip: Path, tmp_path: Path):
    reader = AudioReader(RATE, cache=audio_cache_in(tmp_path / "audio"))
    before = reader.samples(said(clip, key="before"))
    audio_files.write(clip, audio_files.voice(0.5, 22_050, seed=1), 22_050)
    assert np.array_equal(reader.samples(said(clip, key="before")), before)
    assert not np.array_equal(reader.samples(said(clip, key="after")), before)


def test_readers_of_two_rates_do_not_take_each_others_samples(clip: Path, tmp_path: Path):
    high = AudioReader(RATE, cache=audio_cache_in(tmp_path / "audio"))
    low = AudioReader(8_000, cache=audio_cache_in(tmp_path / "audio", 8_000))
    assert [len(reader.samples(said(clip))) for reader in (high, low, high)] == [8000, 4000, 8000]


def test_a_recording_that_can_not_be_used_is_named_as_the_utterance_says_and_not_kept(tmp_path: Path):
    reader = AudioReader(RATE, cache=audio_cache_in(tmp_path / "audio"))
    for _ in range(2):
        with pytest.raises(AudioError, match=r"^shard.tar:x: ") as caught:
            reader.samples(said(b"no audio at all", name="shard.tar:x"))
        assert caught.value.reason == "undecodable"


def test_what_is_returned_is_the_callers_to_change(clip: Path, tmp_path: Path):
    reader = AudioReader(RATE, cache=audio_cache_in(tmp_path / "audio"))
    first = reader.samples(said(clip))
    second = reader.samples(said(clip))
    expected = second.copy()
    first *= 0
    second += 1
    assert np.array_equal(reader.samples(said(clip)), expected)


def test_a_reader_travels_to_a_worker(clip: Path, tmp_path: Path):
    reader = AudioReader(RATE, cache=audio_cache_in(tmp_path / "audio"))
    samples = reader.samples(said(clip))
    clip.unlink()
    assert np.array_equal(pickle.loads(pickle.dumps(reader)).samples(said(clip)), samples)


def test_bytes_of_a_shard_are_a_recording(tmp_path: Path):
    data = audio_files.encode(audio_files.voice(0.5, RATE), RATE, "flac")
    whole = AudioReader(RATE).samples(said(data))
    assert np.array_equal(whole, AudioReader(RATE, cache=audio_cache_in(tmp_path)).samples(said(data)))
