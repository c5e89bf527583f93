"""Audio: every format gives the right samples and the right length, and whatever is broken says so and why."""

from __future__ import annotations

import contextlib
import io
import os
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import audio_files
import numpy as np
import pytest
import soundfile
import soxr

from speechtune.audio.decode import load_audio, read_header
from speechtune.audio.samples import signal_problem
from speechtune.errors import AudioError

ASSETS = Path(__file__).parents[3] / "shared" / "assets"
RATE = 16000
VOICE = audio_files.voice(2.0, RATE)
LOSSLESS = ("wav", "flac", "sph")
EXTRA_S = {"m4a": 0.18, "aac": 0.18, "webm": 0.02}  # AAC starts with a frame or two of silence


def reason_of(audio: str | bytes) -> str:
    """Why `audio` is refused; read_header must refuse it for the same reason, or not at all."""
    with pytest.raises(AudioError) as caught:
        load_audio(audio, RATE)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
    try:
        read_header(audio)
    except AudioError as error:
        assert error.reason == caught.value.reason
    return caught.value.reason


# --- formats --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_give_every_sample(kind):
    expected = np.clip(np.rint(VOICE * 32768), -32768, 32767).astype(np.float32) / 32768
    loaded = load_audio(audio_files.encode(VOICE, RATE, kind), RATE)
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, expected)


@pytest.mark.parametrize("kind", audio_files.FORMATS)
@pytest.mark.parametrize("rate", [8000, 48000])
def test_every_format_and_rate_gives_the_signal_at_the_wanted_rate(kind, rate):
    data = audio_files.encode(audio_files.voice(1.5, rate), rate, kind)
    samples = load_audio(data, RATE)
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert 1.5 - 1e-4 <= len(samples) / RATE <= 1.5 + EXTRA_S.get(kind, 0.0)
    start = {8000: 2048, 48000: 341}[rate] if kind in ("m4a", "aac") else 0  # one AAC frame, at 16 kHz
    num_compared = RATE
    expected = load_audio(audio_files.encode(audio_files.voice(1.5, rate), rate, "wav", subtype="FLOAT"), RATE)
    correlation = np.corrcoef(samples[start : start + num_compared], expected[:num_compared])[0, 1]
    assert correlation > 0.99


@pytest.mark.parametrize("kind", audio_files.FORMATS)
@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_header_tells_the_length_without_decoding(kind, rate):
    header = read_header(audio_files.encode(audio_files.voice(1.5, rate), rate, kind))
    assert header.duration_s == pytest.approx(1.5, abs=1e-4 + EXTRA_S.get(kind, 0.0))
    assert header.sampling_rate == (48000 if kind == "webm" else rate)
    assert header.num_channels == 1


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM"])
def test_wav_of_every_depth(subtype):
    data = audio_files.encode(VOICE, RATE, "wav", subtype=subtype)
    coarse = {"PCM_U8": 0.008, "ULAW": 0.02, "ALAW": 0.02, "IMA_ADPCM": 0.1}
    np.testing.assert_allclose(load_audio(data, RATE)[: len(VOICE)], VOICE, atol=coarse.get(subtype, 1e-6))
    assert read_header(data).duration_s == pytest.approx(2.0, abs=0.04)  # ADPCM fills its last block


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "opus", "m4a", "webm", "sph"])
def test_stereo_is_averaged(kind):
    stereo = np.stack([VOICE, -0.5 * VOICE], axis=1)
    data = audio_files.encode(stereo, RATE, kind)
    loaded = load_audio(data, RATE)
    assert read_header(data).num_channels == 2
    start = 1024 if kind == "m4a" else 0
    assert np.abs(loaded[start : start + 20000] - 0.25 * VOICE[:20000]).mean() < 0.02


def test_eight_channels_are_averaged():
    data = audio_files.encode(
        np.repeat(VOICE[:, None], 8, axis=1) * np.arange(8)[None] / 8, RATE, "wav", subtype="FLOAT"
    )
    np.testing.assert_allclose(load_audio(data, RATE), VOICE * 3.5 / 8, atol=1e-6)


def test_resampling_keeps_a_tone_and_drops_what_is_above_the_new_band():
    t_s = np.arange(48000) / 48000
    low, high = np.sin(2 * np.pi * 1000 * t_s), np.sin(2 * np.pi * 12000 * t_s)
    data = audio_files.encode((0.4 * low + 0.4 * high).astype(np.float32), 48000, "wav", subtype="FLOAT")
    loaded = load_audio(data, RATE)
    expected = 0.4 * np.sin(2 * np.pi * 1000 * np.arange(16000) / RATE)
    assert len(loaded) == 16000
    np.testing.assert_allclose(loaded[500:-500], expected[500:-500], atol=1e-4)


def test_path_and_bytes_give_the_same(tmp_path):
    for kind in audio_files.FORMATS:
        path = audio_files.write(tmp_path / f"a.{kind}", VOICE, RATE)
        np.testing.assert_array_equal(load_audio(str(path), RATE), load_audio(path.read_bytes(), RATE))
        assert read_header(str(path)) == read_header(path.read_bytes())


def test_suffix_doesnt_matter(tmp_path):
    path = tmp_path / "called.raw"
    path.write_bytes(audio_files.encode(VOICE, RATE, "flac"))
    assert len(load_audio(str(path), RATE)) == len(VOICE)


# --- MP3 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_information", [True, False])
@pytest.mark.parametrize("variable", [True, False])
def test_mp3_length_is_right_for_every_bit_rate_mode(variable, with_information):
    # Half a second of silence first: its small frames are what misleads a guess from the first frame's bit rate.
    samples = np.concatenate([np.zeros(RATE // 2, np.float32), audio_files.voice(3.5, RATE)])
    data = audio_files.mp3(samples, RATE, variable=variable, with_information=with_information)
    slack_s = 1e-4 if with_information else 0.12  # without it, the encoder's delay and padding are not known
    assert read_header(data).duration_s == pytest.approx(4.0, abs=slack_s)
    assert len(load_audio(data, RATE)) / RATE == pytest.approx(4.0, abs=slack_s)


def test_variable_mp3_that_starts_loud_is_not_cut_to_the_guess_of_libsndfile():
    samples = np.concatenate(
        [audio_files.voice(0.5, RATE), np.zeros(RATE * 4, np.float32), audio_files.voice(0.5, RATE)]
    )
    data = audio_files.mp3(samples, RATE, variable=True, with_information=False)
    guessed_s = soundfile.info(io.BytesIO(data)).duration
    assert guessed_s < 3.0, "libsndfile guesses better now: this test needs another file"
    loaded = load_audio(data, RATE)
    assert len(loaded) / RATE == pytest.approx(5.0, abs=0.12)
    assert np.abs(loaded[-RATE // 2 :]).max() > 0.2, "the voice at the end is there"


def test_mp3_tags_before_and_after_are_no_audio():
    data = audio_files.mp3(VOICE, RATE)
    id3 = b"ID3\x04\x00\x00" + bytes([0, 0, 2, 0]) + b"\xff\xfb\x90" * 85 + b"\0"
    for tagged in (id3 + data, data + b"TAG" + b" " * 125, id3 + data + b"APETAGEX" + b"\x01" * 50, data + b"\0" * 900):
        assert read_header(tagged).duration_s == pytest.approx(2.0, abs=1e-4)
        np.testing.assert_allclose(load_audio(tagged, RATE), load_audio(data, RATE), atol=1e-6)


def test_broken_mp3_doesnt_write_to_the_terminal(capfd):
    data = bytearray(audio_files.mp3(VOICE, RATE, with_information=False))
    at = data.index(data[:2], len(data) // 2)
    data[at : at + 2] = b"\0\0"  # one frame header lost
    assert len(load_audio(bytes(data), RATE)) / RATE == pytest.approx(2.0, abs=0.15)
    with pytest.raises(AudioError):
        load_audio(bytes(data[: len(data) * 3 // 4 + 50]), RATE)
    assert capfd.readouterr() == ("", "")


def test_mp3_with_a_hole_is_refused():
    data = bytearray(audio_files.mp3(VOICE, RATE, with_information=False))
    data[5000:12000] = os.urandom(7000)
    assert reason_of(bytes(data)) == "truncated"


def test_all_ff_bytes_take_no_time():
    started = time.process_time()
    assert reason_of(b"\xff" * 3_000_000) == "undecodable"
    assert reason_of((b"\xff\xfb\x90\x00" + b"\0" * 60) * 40_000) in ("undecodable", "truncated")
    assert time.process_time() - started < 2.0


# --- what is broken ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "opus", "sph"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_file_is_refused_rather_than_short(kind, share):
    data = audio_files.encode(VOICE, RATE, kind)
    # An Ogg file of two seconds has few pages; cut in the first of audio it has no samples at all.
    assert reason_of(data[: int(len(data) * share)]) in (
        "truncated",
        "undecodable" if kind in ("ogg", "opus") else "truncated",
    )


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"), ("CAF", "ALAC_16"), ("W64", "PCM_16"), ("RF64", "FLOAT")],
)
def test_truncated_file_of_other_containers_is_refused(kind, subtype):
    out = io.BytesIO()
    soundfile.write(out, VOICE, RATE, format=kind, subtype=subtype)
    data = out.getvalue()
    assert len(load_audio(data, RATE)) == len(VOICE)
    for share in (0.3, 0.5, 0.9):
        assert reason_of(data[: int(len(data) * share)]) == "truncated"


def test_truncated_mp3_without_information_frame_is_refused():
    data = audio_files.mp3(VOICE, RATE, with_information=False)
    assert reason_of(data[: len(data) * 6 // 10 + 17]) == "truncated"
    with pytest.raises(AudioError, match="last MP3 frame is incomplete"):
        read_header(data[: len(data) * 6 // 10 + 17])


def test_truncated_mp3_at_a_frame_border_is_told_by_its_information_frame():
    data = audio_files.mp3(VOICE, RATE)
    border = data.index(data[:2], len(data) // 2)
    assert reason_of(data[:border]) == "truncated"


def test_truncated_m4a_is_refused():
    data = audio_files.encode(VOICE, RATE, "m4a")
    assert reason_of(data[: len(data) // 2]) == "undecodable"


def test_wav_that_lacks_less_than_a_tenth_of_a_second_of_its_promise_is_refused_by_its_header():
    data = audio_files.encode(VOICE, RATE, "wav")
    assert reason_of(data[:-200]) == "truncated"


@pytest.mark.parametrize("placeholder", [0xFFFFFFFF, 0x7FFFF000])
def test_wav_from_a_pipe_is_whole(placeholder):
    data = bytearray(audio_files.encode(VOICE, RATE, "wav"))
    at = data.index(b"data")
    data[at + 4 : at + 8] = struct.pack("<I", placeholder)
    assert len(load_audio(bytes(data), RATE)) == len(VOICE)
    assert read_header(bytes(data)).duration_s == 2.0


def test_wav_with_chunks_before_and_after_its_data():
    data = audio_files.encode(VOICE, RATE, "wav")
    at = data.index(b"data")
    chunk = b"LIST" + struct.pack("<I", 5) + b"hello\0"
    assert len(load_audio(data[:at] + chunk + data[at:] + chunk, RATE)) == len(VOICE)
    assert reason_of((data[:at] + chunk + data[at:])[:-3000]) == "truncated"


def test_flac_of_unknown_length():
    data = bytearray(audio_files.encode(VOICE, RATE, "flac"))
    data[21] &= 0xF0
    data[22:26] = b"\0\0\0\0"  # STREAMINFO: total samples 0 = unknown
    assert len(load_audio(bytes(data), RATE)) == len(VOICE)
    assert read_header(bytes(data)).duration_s == pytest.approx(2.0, abs=0.01)


def test_header_that_claims_billions_of_frames_costs_no_memory():
    data = bytearray(audio_files.encode(VOICE, RATE, "flac"))
    data[21] |= 0x0F
    data[22:26] = b"\xff\xff\xff\xff"
    assert reason_of(bytes(data)) == "too_long"
    data[21] = (data[21] & 0xF0) | 0
    data[22:26] = struct.pack(">I", 16000 * 3600 * 20)  # 20 h
    assert reason_of(bytes(data)) == "truncated"


@pytest.mark.parametrize("rate", [0, 1, 500, 3_000_000_000])
def test_absurd_sampling_rate_is_refused(rate):
    data = bytearray(audio_files.encode(VOICE, RATE, "wav"))
    data[24:28] = struct.pack("<I", rate)
    assert reason_of(bytes(data)) in ("bad_rate", "undecodable")


@pytest.mark.parametrize("kind", ["wav", "sph"])
def test_header_without_frames_is_refused(kind):
    assert reason_of(audio_files.encode(np.zeros(0, np.float32), RATE, kind)) == "no_frames"


def test_empty_and_random_bytes_are_refused(tmp_path):
    (tmp_path / "empty.mp3").write_bytes(b"")
    assert reason_of(str(tmp_path / "empty.mp3")) == "empty"
    assert reason_of(b"") == "empty"
    rng = random.Random(0)
    for num_bytes in (1, 3, 44, 1000, 100_000):
        assert reason_of(rng.randbytes(num_bytes)) == "undecodable"
    assert reason_of(b"path,sentence\nclip.mp3,hello\n" * 100) == "undecodable"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("num_channels", [1, 2])
def test_one_sample_that_is_not_finite_is_refused(bad, num_channels):
    samples = np.repeat(VOICE[:, None], num_channels, axis=1)
    samples[777, 0] = bad
    assert reason_of(audio_files.encode(samples, RATE, "wav", subtype="FLOAT")) == "non_finite"


def test_floats_that_are_16_bit_numbers_are_refused():
    assert reason_of(audio_files.encode(VOICE * 32768, RATE, "wav", subtype="FLOAT")) == "out_of_range"
    loud = audio_files.encode(VOICE * 3, RATE, "wav", subtype="FLOAT")
    np.testing.assert_allclose(load_audio(loud, RATE), VOICE * 3, rtol=1e-6)


def test_sphere_with_shorten_says_what_to_do():
    data = audio_files.sphere(VOICE, RATE, coding="pcm,embedded-shorten-v2.00")
    assert reason_of(data) == "undecodable"
    with pytest.raises(AudioError, match="sph2pipe"):
        read_header(data)


def test_name_is_what_messages_say():
    with pytest.raises(AudioError, match=r"^corpus\.tar:clips/7\.mp3: is empty"):
        load_audio(b"", RATE, name="corpus.tar:clips/7.mp3")
    with pytest.raises(AudioError, match=r"^audio of 3 bytes: can't be decoded"):
        load_audio(b"abc", RATE)


@pytest.mark.parametrize("kind", audio_files.FORMATS)
def test_mutated_files_give_audio_or_an_audio_error(kind):
    rng = random.Random(kind)
    whole = audio_files.encode(audio_files.voice(0.5, RATE), RATE, kind)
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 3, 20))):
            data[rng.randrange(min(len(data), rng.choice((64, 2000, len(data)))))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        try:
            header = read_header(bytes(data))
            samples = load_audio(bytes(data), RATE)
        except AudioError as error:
            assert error.reason
            continue
        assert np.isfinite(samples).all() and len(samples)
        if kind in ("wav", "flac", "mp3", "sph"):
            assert len(samples) / RATE > header.duration_s - 0.11


def test_long_recordings_are_decoded_in_blocks_without_seams(capfd):
    samples = np.tile(audio_files.voice(10.0, RATE), 14)  # 140 s: more than two blocks
    for kind in ("wav", "flac", "mp3", "ogg"):
        data = audio_files.encode(samples, RATE, kind)
        whole, _ = soundfile.read(io.BytesIO(data), dtype="float32")
        np.testing.assert_allclose(load_audio(data, RATE), whole, atol=2e-7)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("duration_s", [0.01, 3.0, 70.0])
@pytest.mark.parametrize(("rate", "target"), [(44100, 16000), (48000, 16000), (8000, 16000), (22050, 8000)])
def test_resampling_in_blocks_gives_the_samples_of_resampling_all_at_once(rate, target, duration_s):
    samples = np.tile(audio_files.voice(min(duration_s, 5.0), rate), max(1, int(duration_s // 5)))
    data = audio_files.encode(samples, rate, "wav", subtype="FLOAT")
    np.testing.assert_array_equal(load_audio(data, target), soxr.resample(samples, rate, target, quality="HQ"))


MEASURE = """
import resource, sys
from speechtune.audio.decode import load_audio

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
samples = load_audio(sys.argv[1], 8000)
print(len(samples), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.parametrize(
    ("kind", "rate", "num_channels", "minutes"),
    [("flac", 192_000, 1, 2), ("mp3", 48_000, 2, 2)],  # 92 MB decoded whole, 46 MB; 4 MB at 8 kHz
)
def test_memory_follows_the_result_not_the_file(tmp_path, kind, rate, num_channels, minutes):
    path = tmp_path / f"dense.{kind}"
    shape = (rate * 10, num_channels)
    with soundfile.SoundFile(path, "w", rate, num_channels) as file:
        for _ in range(6 * minutes):
            file.write(np.zeros(shape, np.float32))
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    num_samples, extra_mb = map(float, done.stdout.split())
    assert num_samples == 60 * minutes * 8000
    assert extra_mb < 32  # and a block


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "m4a", "webm"])
def test_decoding_stops_at_the_limit(kind):
    data = audio_files.encode(audio_files.voice(3.0, 48000), 48000, kind)
    with pytest.raises(AudioError, match=r"lasts over 2\.5 s") as caught:
        load_audio(data, RATE, max_duration_s=2.5)
    assert caught.value.reason == "too_long"
    assert len(load_audio(data, RATE, max_duration_s=3.0 + EXTRA_S.get(kind, 0.0))) >= 3 * RATE


def test_a_variable_mp3_is_measured_by_its_frames_not_by_its_first_bit_rate():
    samples = np.concatenate([np.zeros(RATE // 2, np.float32), audio_files.voice(3.5, RATE)])
    data = audio_files.mp3(samples, RATE, variable=True, with_information=False)
    assert len(load_audio(data, RATE, max_duration_s=4.2)) / RATE == pytest.approx(4.0, abs=0.12)


# --- silence, memory ---------------------------------------------------------------------------------------------


def test_silence_is_no_error():
    assert not load_audio(audio_files.encode(np.zeros(RATE, np.float32), RATE, "wav"), RATE).any()


def num_open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_file_stays_open(tmp_path):
    good = str(audio_files.write(tmp_path / "a.flac", VOICE, RATE))
    m4a = str(audio_files.write(tmp_path / "a.m4a", VOICE, RATE))
    (tmp_path / "bad.wav").write_bytes(b"RIFFnothing")
    before = num_open_files()
    for _ in range(20):
        for path in (good, m4a, str(tmp_path / "bad.wav")):
            with contextlib.suppress(AudioError):
                read_header(path)
                load_audio(path, RATE)
    assert num_open_files() == before


# --- real speech ------------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_every_real_clip_is_read_whole():
    clips = sorted(ASSETS.glob("common_voice/*/*/clips/*.mp3"))[::5] + sorted(ASSETS.glob("fsdd/**/*.wav"))[::30]
    if not clips:
        pytest.skip(f"no real speech in {ASSETS}")
    for clip in clips:
        samples = load_audio(str(clip), RATE)
        assert len(samples) / RATE == pytest.approx(read_header(str(clip)).duration_s, abs=1e-3)
        assert signal_problem(samples, RATE) is None
