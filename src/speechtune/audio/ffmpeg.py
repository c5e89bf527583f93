"""Decoding with FFmpeg (PyAV), for what libsndfile can't read: M4A, WebM, AAC, AMR, WMA, and damaged or odd MP3s.

Demuxers are chosen by the file's first bytes and never probed: FFmpeg also knows playlists, which open other files and
addresses. It gets the open file, never its name, which it could take for a protocol ("concat:a|b").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

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
_EXACT_LENGTHS = ("CAF", "MP4", "WEBM", "WMA")  # these headers tell the length, or nothing; others guess it


def can_open(kind: str) -> bool:
    """Return whether FFmpeg has a demuxer for this kind of file."""
    return kind in _DEMUXERS


def read_header(file: BinaryIO, kind: str) -> tuple[float, int, int]:
    """Return duration in s, sampling rate in Hz and number of channels, without decoding.

    Raises:
        ValueError: it can't be read, or has no audio.
    """
    with _opened(file, kind) as (container, stream):
        duration_s = _exact_duration_s(container, stream, kind) or _counted_duration_s(container, stream)
        return duration_s, stream.codec_context.sample_rate, stream.codec_context.layout.nb_channels


def decode(file: BinaryIO, kind: str, add: Callable[[npt.NDArray[np.float32], int], None]) -> float:
    """Decode to the mean of the channels.

    Args:
        add: takes each block of samples, float32 (n,), and its sampling rate in Hz, which may change on the way.

    Returns:
        The duration in s that the header tells; 0 if it tells none.

    Raises:
        ValueError: it can't be read, has no audio, or over 0.1 s of it is damaged.
    """
    import av

    with _opened(file, kind) as (container, stream):
        header_s = _exact_duration_s(container, stream, kind)
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
                add(_mono(frame), frame.sample_rate)
                duration_s += frame.samples / frame.sample_rate
    return header_s


@contextmanager
def _opened(file: BinaryIO, kind: str) -> Iterator[tuple[Any, Any]]:
    """Open a file; yields its container and first audio stream."""
    import av

    file.seek(0)
    try:
        with av.open(file, "r", format=_DEMUXERS[kind], metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise ValueError("it holds no audio stream")
            yield container, container.streams.audio[0]
    except av.error.FFmpegError as error:
        raise ValueError(error.strerror) from error


def _exact_duration_s(container: Any, stream: Any, kind: str) -> float:
    """Return the header's duration; 0 if it has none or guesses from the bit rate."""
    if kind not in _EXACT_LENGTHS:
        return 0.0
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / 1_000_000


def _counted_duration_s(container: Any, stream: Any) -> float:
    """Return the sum over the packets, read but not decoded."""
    total = 0
    first, last = None, 0
    for packet in container.demux(stream):
        total += packet.duration or 0
        if packet.pts is not None:
            first = packet.pts if first is None else first
            last = max(last, packet.pts + (packet.duration or 0))
    ticks = total or last - (first or 0)
    return float(ticks * stream.time_base) if stream.time_base else 0.0


def _mono(frame: Any) -> npt.NDArray[np.float32]:
    """Return the mean of a frame's channels, (num_samples,), full scale 1."""
    array = frame.to_ndarray()
    channels = array if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels).T
    mean = channels.mean(axis=0, dtype=np.float32)
    if array.dtype == np.uint8:
        return (mean - 128) / 128
    return mean / -float(np.iinfo(array.dtype).min) if array.dtype.kind == "i" else mean
