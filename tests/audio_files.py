"""Real audio files for tests, written when they run: every format that speechtune reads, and broken ones made of them.

import audio_files
audio_files.write(tmp_path / "a.mp3", audio_files.voice(2.0, 48000), 48000)
data = audio_files.encode(samples, 16000, "m4a")
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile

FORMATS = ("wav", "flac", "mp3", "ogg", "opus", "m4a", "aac", "webm", "sph")
_LIBSNDFILE = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
}
_FFMPEG = {"m4a": ("mp4", "aac"), "aac": ("adts", "aac"), "webm": ("webm", "libopus")}


def voice(duration_s: float, sampling_rate: int, *, seed: int = 0) -> np.ndarray:
    """Something like a voice, float32 (num_samples,), peak about 0.5: harmonics that come and go, a little noise."""
    rng = np.random.default_rng(seed)
    t_s = np.arange(round(duration_s * sampling_rate)) / sampling_rate
    pitch_hz = rng.uniform(90, 250)
    harmonics = sum(np.sin(2 * np.pi * k * pitch_hz * t_s) / k for k in range(1, 6) if k * pitch_hz < sampling_rate / 2)
    syllables = 0.5 - 0.5 * np.cos(2 * np.pi * rng.uniform(3, 5) * t_s)
    samples = 0.3 * harmonics * syllables + 0.003 * rng.standard_normal(len(t_s))
    return samples.astype(np.float32)


def write(path: Path | str, samples: np.ndarray, sampling_rate: int, *, subtype: str | None = None) -> Path:
    """Write `samples`, (num_samples,) or (num_samples, num_channels), in the format of the suffix (.sph: SPHERE)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(samples, sampling_rate, path.suffix[1:].lower(), subtype=subtype))
    return path


def encode(samples: np.ndarray, sampling_rate: int, kind: str, *, subtype: str | None = None) -> bytes:
    """Bytes of an encoded file; `kind` is one of FORMATS, `subtype` libsndfile's (PCM_24, FLOAT, ULAW, ...)."""
    if kind == "sph":
        return sphere(samples, sampling_rate)
    if kind in _FFMPEG:
        return _encode_with_ffmpeg(samples, sampling_rate, *_FFMPEG[kind])
    container, default = _LIBSNDFILE[kind]
    subtype = subtype or default
    frames = _as_int16(samples) if subtype == "PCM_16" else samples
    out = io.BytesIO()
    num_channels = 1 if frames.ndim == 1 else frames.shape[1]
    with soundfile.SoundFile(out, "w", sampling_rate, num_channels, subtype, format=container) as file:
        for start in range(0, len(frames), 100_000):  # libsndfile's Vorbis encoder dies of a long block
            file.write(frames[start : start + 100_000])
    return out.getvalue()


def mp3(samples: np.ndarray, sampling_rate: int, *, variable: bool = False, with_information: bool = True) -> bytes:
    """An MP3 of constant or variable bit rate; without the information frame it is like those of Common Voice."""
    out = io.BytesIO()
    options = {"bitrate_mode": "VARIABLE" if variable else "CONSTANT", "compression_level": 0.3}
    soundfile.write(out, samples, sampling_rate, format="MP3", subtype="MPEG_LAYER_III", **options)
    data = out.getvalue()
    if with_information:
        return data
    second_frame = data.index(data[:2], 64)  # headers of one stream start with the same two bytes
    return data[second_frame:]


def sphere(samples: np.ndarray, sampling_rate: int, *, coding: str | None = None) -> bytes:
    """NIST SPHERE with the header of TIMIT's .WAV files: 16-bit little-endian PCM."""
    frames = samples if samples.ndim == 2 else samples[:, None]
    lines = [
        "NIST_1A",
        "   1024",
        "database_id -s5 TIMIT",
        f"channel_count -i {frames.shape[1]}",
        f"sample_count -i {len(frames)}",
        f"sample_rate -i {sampling_rate}",
        "sample_n_bytes -i 2",
        "sample_byte_format -s2 01",
        "sample_sig_bits -i 16",
        *([f"sample_coding -s{len(coding)} {coding}"] if coding else []),
        "end_head\n",
    ]
    return "\n".join(lines).encode("ascii").ljust(1024) + _as_int16(frames).astype("<i2").tobytes()


def _as_int16(samples: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)


def _encode_with_ffmpeg(samples: np.ndarray, sampling_rate: int, container_name: str, codec: str) -> bytes:
    import av

    out = io.BytesIO()
    layout = "mono" if samples.ndim == 1 else "stereo"
    packed = _as_int16(samples).reshape(1, -1)
    with av.open(out, "w", format=container_name) as container:
        stream = container.add_stream(codec, rate=sampling_rate)
        stream.layout = layout
        frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
        frame.sample_rate = sampling_rate
        context = stream.codec_context
        context.open()
        resampler = av.AudioResampler(context.format, layout, sampling_rate, frame_size=context.frame_size)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(part))
    return out.getvalue()
