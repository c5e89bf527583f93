"""Damaged and dishonest recordings: skipped with a reason, or decoded in bounded memory."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from audio_files import FORMATS, encode, voice
from damage import damaged
from reliability.tiny import read_rows, write_manifest

from fuzz.case import Case, Place
from fuzz.commands import any_command, evaluate, train
from fuzz.material import CORPUS, CTC, NUM_TEST, NUM_TRAIN, WHISPER

__all__ = ["flac_of_silence", "make"]

HOUR_S = 3600


def make(place: Place, rng: Random) -> Case:
    corpus = place.folder / "corpus"
    shutil.copytree(place.material / CORPUS, corpus)
    split = rng.choice(("train", "test"))
    rows = read_rows(corpus / f"{split}.jsonl")
    number = NUM_TRAIN if split == "train" else NUM_TEST
    paths = []
    for index in rng.sample(range(number), rng.randint(1, 2)):
        name = f"{split}/odd{index}.{rng.choice(_ENDINGS)}"
        rows[index]["audio"] = name
        if rng.random() < 0.3:
            rows[index]["duration"] = rng.choice((2.0, 0, -1, 1e9, "long", None, float("nan")))
        paths.append(corpus / name)
        _write_recording(paths[-1], place, rng)
    write_manifest(corpus, split, rows)
    command = rng.choice(("corpus", "corpus", "transcribe", "any"))
    if command == "transcribe":
        model = place.material / rng.choice((CTC, CTC, CTC, WHISPER))
        more = ["--language", "tr"] if model.name == WHISPER else []
        return Case([["transcribe", str(model), *map(str, paths), *more, *rng.choice(([], ["--json"]))]])
    if command == "any":
        return Case([any_command(corpus, place, rng)])
    words = train(corpus, place) if split == "train" else evaluate(corpus, place)
    return Case([words], rows=number, row_split=split)


_ENDINGS = ("wav", "flac", "mp3", "ogg", "m4a", "aiff", "au", "caf", "w64", "xyz", "WAV")
_BY_LIBSNDFILE = {"aiff": "AIFF", "au": "AU", "caf": "CAF", "w64": "W64", "rf64": "RF64", "voc": "VOC"}


def _write_recording(path: Path, place: Place, rng: Random) -> None:
    if rng.random() < (0.03 if place.quick else 0.12):
        rng.choice(_DISHONEST)(path)
        return
    kind = rng.choice((*FORMATS, *_BY_LIBSNDFILE))
    rate = rng.choice((8_000, 16_000, 44_100, 48_000))
    samples = voice(rng.choice((0.0, 0.02, 0.3, 0.6, 2.0)), rate, seed=rng.randrange(100))
    samples = rng.choice((_same, _same, _same, _silent, _clipped, _one_nan))(samples)
    try:
        if np.isnan(samples).any():  # LAME would abort the process
            data = encode(samples, rate, "wav", subtype="FLOAT")
        else:
            data = _by_libsndfile(samples, rate, kind) if kind in _BY_LIBSNDFILE else encode(samples, rate, kind)
    except Exception:  # some encoders refuse empty recordings
        data = b""
    if rng.random() < 0.7:
        data = damaged(data, rng) if rng.random() < 0.7 else data[: rng.randrange(len(data) + 1)]
    path.write_bytes(data)


def _by_libsndfile(samples: np.ndarray, rate: int, kind: str) -> bytes:
    import io

    import soundfile

    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=_BY_LIBSNDFILE[kind], subtype="PCM_16")
    return out.getvalue()


def _same(samples: np.ndarray) -> np.ndarray:
    return samples


def _silent(samples: np.ndarray) -> np.ndarray:
    return np.zeros_like(samples)


def _clipped(samples: np.ndarray) -> np.ndarray:
    return np.sign(samples)


def _one_nan(samples: np.ndarray) -> np.ndarray:
    samples = samples.copy()
    samples[len(samples) // 2 : len(samples) // 2 + 1] = np.nan
    return samples


# ---- small files that are long recordings


def flac_of_silence(seconds: float, rate: int, *, samples_per_frame: int = 65_535) -> bytes:
    """Return a FLAC of zeros in 16 bytes a frame: an hour at 192 kHz is 170 kB."""
    num_frames = int(seconds * rate) // samples_per_frame
    total = num_frames * samples_per_frame
    bits = (rate << 44) | (15 << 36) | total  # 20 bits rate, 3 channels - 1, 5 bits a sample - 1, 36 samples
    info = struct.pack(">HH", samples_per_frame, samples_per_frame) + bytes(6) + bits.to_bytes(8, "big") + bytes(16)
    frames = bytearray(b"fLaC\x80\x00\x00\x22" + info)
    for number in range(num_frames):
        header = b"\xff\xf8\x70\x00" + _coded_number(number) + struct.pack(">H", samples_per_frame - 1)
        header += bytes([_checksum(header, 0x07, 8)])
        frame = header + b"\x00\x00\x00"  # one constant subframe, 0
        frames += frame + struct.pack(">H", _checksum(frame, 0x8005, 16))
    return bytes(frames)


def _coded_number(number: int) -> bytes:
    return (
        chr(number).encode("utf-8")
        if number < 0xD800
        else b"\xef" + bytes([0x80 | number >> 6 & 63, 0x80 | number & 63])
    )


def _checksum(data: bytes, polynomial: int, width: int) -> int:
    value, top, mask = 0, 1 << (width - 1), (1 << width) - 1
    for byte in data:
        value ^= byte << (width - 8)
        for _ in range(8):
            value = ((value << 1) ^ polynomial if value & top else value << 1) & mask
    return value


def _long_flac(path: Path) -> None:
    path.write_bytes(flac_of_silence(HOUR_S, 192_000))


def _half_hour(path: Path) -> None:
    path.write_bytes(flac_of_silence(HOUR_S / 2, 16_000, samples_per_frame=16_000))


def _sparse_wav(path: Path, *, channels: int = 1, rate: int = 192_000, seconds: int = HOUR_S) -> None:
    size = min(seconds * rate * channels * 2, 3_900_000_000)
    with path.open("wb") as file:
        file.write(b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + struct.pack("<IHH", 16, 1, channels))
        file.write(
            struct.pack("<IIHH", rate, rate * channels * 2, channels * 2, 16) + b"data" + struct.pack("<I", size)
        )
        file.truncate(44 + size)


def _many_channels(path: Path) -> None:
    _sparse_wav(path, channels=1000, rate=16_000, seconds=60)


def _low_rate(path: Path) -> None:
    """A rate of 1 Hz: 1 MB are six days, and resampling makes 16,000 samples of each."""
    _sparse_wav(path, rate=1, seconds=500_000)


def _endless_header(path: Path) -> None:
    """A WAV that claims 4 GB and has one second."""
    _sparse_wav(path, rate=16_000, seconds=1)
    data = bytearray(path.read_bytes())
    data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)


def _playlist(path: Path) -> None:
    """A text that FFmpeg would follow to other files."""
    path.write_text("#EXTM3U\n#EXTINF:1,\n../../../outside/diary.wav\n#EXT-X-ENDLIST\n")


def _concatenation(path: Path) -> None:
    path.write_text("ffconcat version 1.0\nfile ../../../outside/diary.wav\n")


def _subtitle(path: Path) -> None:
    path.write_text(json.dumps({"not": "audio"}))


_DISHONEST: tuple[Callable[[Path], None], ...] = (
    *(_long_flac, _long_flac, _half_hour, _sparse_wav, _many_channels, _low_rate, _endless_header),
    *(_playlist, _concatenation, _subtitle),
)
