"""MP3 counted frame by frame: its true length, whether it is cut, whether it is clean."""

from __future__ import annotations

import io

import audio_files
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from speechtune.audio.mp3 import Mp3Scan, scan_mp3

RATES = [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000]


def scan(data: bytes) -> Mp3Scan:
    found = scan_mp3(data)
    assert found is not None
    return found


def clip(rate: int = 16_000, duration_s: float = 1.0, **how: bool) -> bytes:
    return audio_files.mp3(audio_files.voice(duration_s, rate), rate, **how)


def frames_of(data: bytes) -> list[int]:
    """Where each frame of an MPEG-2 stream (up to 24 kHz) begins, by the bit rates in their headers."""
    rate, position, starts = scan(data).sampling_rate, 0, []
    while position < len(data):
        starts.append(position)
        kbps = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)[data[position + 2] >> 4]
        position += 72_000 * kbps // rate + (data[position + 2] >> 1 & 1)
    return starts


# ---- length


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("variable", [False, True])
def test_the_length_is_that_of_what_was_encoded(rate: int, variable: bool):
    samples = audio_files.voice(1.3, rate)
    found = scan(audio_files.mp3(samples, rate, variable=variable))
    assert (found.sampling_rate, found.num_channels, found.num_samples) == (rate, 1, len(samples))
    assert found.is_clean and not found.is_cut and found.lost_samples == 0


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_without_an_information_frame_whole_frames_are_counted(rate: int):
    samples = audio_files.voice(1.3, rate)
    found = scan(audio_files.mp3(samples, rate, with_information=False))
    per_frame = 1152 if rate >= 32_000 else 576
    assert found.num_samples % per_frame == 0
    assert len(samples) <= found.num_samples <= len(samples) + 4 * per_frame


def test_two_channels_are_seen():
    voice = audio_files.voice(0.5, 44_100)
    out = io.BytesIO()
    soundfile.write(out, np.stack([voice, -voice], axis=1), 44_100, format="MP3", subtype="MPEG_LAYER_III")
    assert (scan(out.getvalue()).num_channels, scan(out.getvalue()).num_samples) == (2, 22_050)


def test_start_and_end_are_those_of_the_frames():
    data = clip()
    found = scan(data)
    assert (found.start, found.end) == (0, len(data))


# ---- tags and junk


ID3 = b"ID3\x04\x00\x00" + bytes([0, 0, 2, 1]) + bytes(257)  # sizes have 7 bits a byte: 2 * 128 + 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ID3, b""),
        (ID3 + ID3, b""),
        (b"ID3\x04\x00\x10" + bytes(4) + b"3DI" + bytes(7), b""),
        (b"", b"TAG" + b"x" * 125),
        (b"", b"APETAGEX" + b"\xff\xfb\x90" * 20),
        (b"", b"LYRICSBEGIN...LYRICS200"),
        (b"", bytes(5000)),
        (ID3, bytes(100) + b"TAG" + b"x" * 125),
    ],
)
def test_tags_and_zeros_are_no_audio_and_no_damage(before: bytes, after: bytes):
    plain = scan(clip())
    found = scan(before + clip() + after)
    assert found.is_clean and not found.is_cut and found.num_samples == plain.num_samples
    assert (found.start, found.end) == (len(before), len(before) + plain.end)


def test_junk_before_the_first_frame_is_passed_over():
    found = scan(b"\xffjunk\xfb\xff" * 50 + clip())
    assert found.num_samples == scan(clip()).num_samples and found.start == 350 and found.is_clean


def test_junk_between_frames_is_damage_and_the_rest_counts():
    data = clip(with_information=False)
    starts = frames_of(data)
    middle = starts[len(starts) // 2]
    found = scan(data[:middle] + b"junk" * 300 + data[middle:])
    assert found.num_samples == scan(data).num_samples and not found.is_clean and not found.is_cut
    bytes_per_sample = len(data) / found.num_samples
    assert found.lost_samples == pytest.approx(1200 / bytes_per_sample, rel=0.05)


def test_a_hole_is_told_by_the_information_frame():
    whole = clip(duration_s=2.0)
    starts = frames_of(whole)
    found = scan(whole[: starts[20]] + whole[starts[30] :])
    assert found.lost_samples == 10 * 576 and found.is_clean
    assert scan(whole).num_samples - found.num_samples == 10 * 576


# ---- cut


@pytest.mark.parametrize("lost", [1, 10, 50])
def test_an_incomplete_last_frame_is_a_cut(lost: int):
    data = clip(with_information=False)
    found = scan(data[:-lost])
    assert found.is_cut and not found.is_clean
    assert scan(data).num_samples - found.num_samples == 576 and found.end == frames_of(data)[-1]


def test_a_cut_at_a_frames_border_shows_only_where_the_number_of_frames_is_told():
    data = clip()
    border = frames_of(data)[-5]
    with_information = scan(data[:border])
    assert not with_information.is_cut and with_information.lost_samples == 5 * 576
    without = scan(data[frames_of(data)[1] : border])
    assert not without.is_cut and without.lost_samples == 0


# ---- no MP3


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"\xff\xfb\x90", b"\xff" * 70_000, bytes(70_000), b"ID3", ID3, b"ID3" + b"\x7f" * 7, b"TAG" * 100],
)
def test_what_has_no_frame_is_none(data: bytes):
    assert scan_mp3(data) is None


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "webm", "m4a", "aac"])
def test_other_audio_is_none(kind: str):
    assert scan_mp3(audio_files.encode(audio_files.voice(0.5, 16_000), 16_000, kind)) is None


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 2**32))
def test_any_bytes_are_answered_within_their_bounds(data: bytes, seed: int):
    random = np.random.default_rng(seed)
    valid = bytearray(SHORT)
    for position in random.integers(0, len(valid), 20):
        valid[position] = random.integers(0, 256)
    for bytes_ in (data, bytes(valid), data + SHORT[: int(random.integers(0, len(SHORT)))]):
        found = scan_mp3(bytes_)
        if found is not None:
            assert 0 <= found.start < found.end <= len(bytes_)
            assert found.num_samples >= 0 and found.lost_samples >= 0 and found.sampling_rate in RATES


SHORT = clip(duration_s=0.5)
