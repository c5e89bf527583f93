"""Decoding with FFmpeg (PyAV), for what libsndfile can't read: M4A, WebM, AAC, AMR, WMA, and damaged or odd MP3s.

Demuxers are named by the file's first bytes and never probed: FFmpeg also knows playlists, which open other files and
addresses. Only the open file is handed over, never its name, which FFmpeg could take for a protocol ("concat:a|b").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import soxr

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["can_open", "decode", "read_header"]

MAX_LOST_S = 0.1  # in packets that can't be decoded: junk in an MP3 costs one or two

_DEMUXERS = {  # by containers.kind_of
    "AAC": "aac",
    "AIFF": "aiff",
    "AMR": "amr",
    "CAF": "caf",
    "FLAC": "flac",
    "MP3": "mp3",
    "MP4": "mov",
    "OGG": "ogg",
    "WAV": "wav",
    "WAVPACK": "wv",
    "WEBM": "matroska",
    "WMA": "asf",
}
_TOLD_LENGTHS = ("CAF", "MP4", "WEBM", "WMA")  # their headers tell the length, or nothing; others guess it


def can_open(kind: str) -> bool:
    """Whether FFmpeg is worth a try on this kind of file."""
    return kind in _DEMUXERS


def read_header(file: BinaryIO, kind: str) -> tuple[float, int, int]:
    """(duration in s, sampling rate in Hz, number of channels), without decoding.

    Raises:
        ValueError: it can't be read, or has no audio.
    """
    import av

    try:
        with _open(file, kind) as container:
            stream = _audio_stream(container)
            duration_s = _told_duration_s(container, stream, kind) or _counted_duration_s(container, stream)
            return duration_s, stream.codec_context.sample_rate, stream.codec_context.layout.nb_channels
    except av.error.FFmpegError as error:
        raise ValueError(error.strerror) from error


def decode(file: BinaryIO, kind: str, max_duration_s: float) -> tuple[npt.NDArray[np.float32], int, int]:
    """Decode to the mean of the channels.

    Returns:
        float32 (num_samples,), their sampling rate in Hz, and the number of samples that the header tells (0: unknown).

    Raises:
        ValueError: it can't be read, has no audio, is longer than `max_duration_s`, or over 0.1 s of it is damaged.
    """
    import av

    try:
        with _open(file, kind) as container:
            stream = _audio_stream(container)
            told_s = _told_duration_s(container, stream, kind)
            runs = _decode_runs(container, stream, max_duration_s)
    except av.error.FFmpegError as error:
        raise ValueError(error.strerror) from error
    if not runs:
        return np.zeros(0, np.float32), stream.codec_context.sample_rate, 0
    # The rate may change on the way: HE-AAC after its first frames, MP3s glued together. The longest run's is kept.
    parts = [(rate, np.concatenate(blocks)) for rate, blocks in runs]
    rate = max(parts, key=lambda part: len(part[1]) / part[0])[0]
    samples = [part if own == rate else soxr.resample(part, own, rate, quality="HQ") for own, part in parts]
    return np.concatenate(samples), rate, int(told_s * rate)


def _open(file: BinaryIO, kind: str) -> Any:
    import av

    file.seek(0)
    return av.open(file, "r", format=_DEMUXERS[kind], metadata_errors="ignore")


def _audio_stream(container: Any) -> Any:
    if not container.streams.audio:
        raise ValueError("it holds no audio stream")
    return container.streams.audio[0]


def _told_duration_s(container: Any, stream: Any, kind: str) -> float:
    """What the header tells; 0 where it tells nothing or guesses from the bit rate."""
    if kind not in _TOLD_LENGTHS:
        return 0.0
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / 1_000_000


def _counted_duration_s(container: Any, stream: Any) -> float:
    """Sum over the packets, read but not decoded."""
    total = 0
    first, last = None, 0
    for packet in container.demux(stream):
        total += packet.duration or 0
        if packet.pts is not None:
            first = packet.pts if first is None else first
            last = max(last, packet.pts + (packet.duration or 0))
    ticks = total or last - (first or 0)
    return float(ticks * stream.time_base) if stream.time_base else 0.0


def _decode_runs(container: Any, stream: Any, max_duration_s: float) -> list[tuple[int, list[npt.NDArray[np.float32]]]]:
    """Blocks of mono samples (num_samples,), grouped by their sampling rate in Hz."""
    import av

    runs: list[tuple[int, list[npt.NDArray[np.float32]]]] = []
    duration_s, lost_s = 0.0, 0.0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            lost_s += float((packet.duration or 0) * (packet.time_base or 0)) or 0.02
            if lost_s > MAX_LOST_S:
                raise ValueError(f"it is damaged at {duration_s:.2f} s ({error.strerror})") from error
            continue
        for frame in frames:
            if not runs or runs[-1][0] != frame.sample_rate:
                runs.append((frame.sample_rate, []))
            runs[-1][1].append(_mono(frame))
            duration_s += frame.samples / frame.sample_rate
        if duration_s > max_duration_s:
            raise ValueError(f"it lasts over {max_duration_s / 3600:.0f} h")
    return runs


def _mono(frame: Any) -> npt.NDArray[np.float32]:
    """Mean of a frame's channels, (num_samples,), full scale 1."""
    array = frame.to_ndarray()
    channels = array if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels).T
    mean = channels.mean(axis=0, dtype=np.float32)
    if array.dtype == np.uint8:
        return (mean - 128) / 128
    return mean / -float(np.iinfo(array.dtype).min) if array.dtype.kind == "i" else mean
