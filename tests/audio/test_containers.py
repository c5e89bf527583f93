"""The kind of a file by its first bytes; what a header promises against the bytes that are there."""

from __future__ import annotations

import io
import struct

import audio_files
import numpy as np
import pytest

from speechtune.audio.containers import find_missing_end, kind_of, sphere_fields

RATE = 16_000
VOICE = audio_files.voice(0.5, RATE)


def missing(data: bytes, kind: str | None = None) -> str:
    return find_missing_end(io.BytesIO(data), len(data), kind_of(data[:12]) if kind is None else kind)


# ---- kinds


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        ("wav", "WAV"),
        ("flac", "FLAC"),
        ("ogg", "OGG"),
        ("opus", "OGG"),
        ("sph", "NIST"),
        ("m4a", "MP4"),
        ("aac", "AAC"),
        ("webm", "WEBM"),
        ("mp3", ""),
    ],
)
def test_real_files_are_known_by_their_first_12_bytes(suffix: str, kind: str):
    assert kind_of(audio_files.encode(VOICE, RATE, suffix)[:12]) == kind


@pytest.mark.parametrize("head", [b"", b"R", b"RIF", b"ftyp", b"\0" * 12, b"riff", b"ID3\x04", b"\xff\xfb\x90\x00"])
def test_other_or_too_few_bytes_are_of_no_kind(head: bytes):
    assert kind_of(head) == ""


def test_mpeg_audio_is_not_taken_for_aac():
    assert kind_of(b"\xff\xf1\x50\x80") == kind_of(b"\xff\xf9\x50\x80") == "AAC"
    assert all(kind_of(bytes([0xFF, second, 0x90, 0])) == "" for second in (0xFA, 0xFB, 0xF3, 0xF2, 0xE3))


# ---- what is missing


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "sph", "m4a", "aac", "webm"])
def test_a_whole_file_lacks_nothing(suffix: str):
    assert missing(audio_files.encode(VOICE, RATE, suffix)) == ""


@pytest.mark.parametrize("suffix", ["wav", "sph"])
@pytest.mark.parametrize("num_bytes", [2, 3, 1000])
def test_bytes_that_a_header_promises_are_counted(suffix: str, num_bytes: int):
    data = audio_files.encode(VOICE, RATE, suffix)
    assert missing(data[:-num_bytes]) == f"{num_bytes} bytes of its samples are missing"


@pytest.mark.parametrize("suffix", ["wav", "sph"])
def test_a_missing_byte_of_padding_is_none(suffix: str):
    assert missing(audio_files.encode(VOICE, RATE, suffix)[:-1]) == ""


@pytest.mark.parametrize("suffix", ["ogg", "opus"])
def test_an_ogg_page_that_is_cut_anywhere_is_noticed(suffix: str):
    data = audio_files.encode(VOICE, RATE, suffix)
    last = data.rfind(b"OggS")
    for end in (last + 4, last + 26, last + 27, last + 28, len(data) - 1):
        assert missing(data[:end]) == "its last Ogg page is incomplete", end
    assert missing(data[:last]) == ""  # a page before it is whole; what lacks shows when it is decoded


def test_ogg_without_a_page_is_incomplete():
    assert missing(b"OggX" + bytes(100), "OGG") == "its last Ogg page is incomplete"


def wav(*chunks: tuple[bytes, int, bytes], riff: bytes = b"RIFF") -> bytes:
    """(name, length that is claimed, content) each."""
    body = b"".join(struct.pack("<4sI", name, length) + content for name, length, content in chunks)
    return riff + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


FORMAT = (b"fmt ", 16, struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16))


def test_chunks_of_odd_length_before_the_data_are_padded():
    odd = (b"LIST", 3, b"abc\0")
    assert missing(wav(FORMAT, odd, (b"data", 10, bytes(10)))) == ""
    assert missing(wav(FORMAT, odd, (b"data", 10, bytes(6)))) == "4 bytes of its samples are missing"


@pytest.mark.parametrize("placeholder", [0xFFFFFFFF, 0x7FFFF000, 0x7FFF0000])
def test_a_size_that_a_pipe_could_not_know_promises_nothing(placeholder: int):
    assert missing(wav(FORMAT, (b"data", placeholder, bytes(10)))) == ""


def test_a_size_just_below_a_pipes_is_a_promise():
    said = missing(wav(FORMAT, (b"data", 0x7FFEFFFF, bytes(10))))
    assert said == f"{0x7FFEFFFF - 10} bytes of its samples are missing"


@pytest.mark.parametrize(("promised", "said"), [(10, ""), (14, "4 bytes of its samples are missing")])
def test_rf64_says_its_size_apart(promised: int, said: str):
    sizes = (b"ds64", 28, struct.pack("<QQQI", 0, promised, 0, 0))
    assert missing(wav(sizes, FORMAT, (b"data", 0xFFFFFFFF, bytes(10)), riff=b"RF64")) == said


@pytest.mark.parametrize("data", [b"RIFF", b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEdat", wav(FORMAT)])
def test_a_wav_without_data_is_left_to_the_decoder(data: bytes):
    assert missing(data) == ""


def test_a_chain_of_empty_chunks_ends():
    assert missing(wav(*[(b"junk", 0, b"")] * 20_000, (b"data", 99, b""))) == ""


# ---- SPHERE


def test_fields_of_a_sphere_header_are_read_to_its_end():
    data = audio_files.sphere(VOICE, RATE, coding="pcm,embedded-shorten-v2.00")
    fields = sphere_fields(data[:1024])
    assert fields["sample_count"] == "8000" and fields["sample_coding"] == "pcm,embedded-shorten-v2.00"
    assert sphere_fields(b"NIST_1A\n   1024\na -i 1\nend_head\nb -i 2\n") == {"a": "1"}


@pytest.mark.parametrize("head", [b"", b"NIST_1A", b"NIST_1A\n   1024\n", b"\xff" * 1024])
def test_a_sphere_header_that_can_not_be_read_has_no_fields(head: bytes):
    assert sphere_fields(head) == {} and missing(head, "NIST") == ""


def test_a_sphere_header_of_nonsense_promises_nothing():
    data = audio_files.sphere(VOICE, RATE).replace(b"sample_count -i 8000", b"sample_count -i many")
    assert missing(data) == ""


def test_both_channels_of_sphere_count():
    data = audio_files.sphere(np.stack([VOICE, VOICE], axis=1), RATE)
    assert missing(data) == "" and missing(data[:-16_000]) == "16000 bytes of its samples are missing"
