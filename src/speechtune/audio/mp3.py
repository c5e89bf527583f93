"""Count the frames of MPEG audio (MP3): its true length, and whether it is cut or damaged.

Two things that libsndfile leaves open, and where wrong answers are silent:

- How long is an MP3 without a Xing header (all of Common Voice)? libsndfile guesses from the first frame's bit rate,
  and then reads no further than its guess. Counting is exact and takes about 0.1 ms for a clip of 5 s.
- Is it damaged? mpg123 (inside libsndfile) writes to the terminal about every damaged file, and redirecting the
  terminal's file descriptor is not safe with threads. So it only gets clean streams; FFmpeg gets the rest.

Source of the frame format: ISO 11172-3 and 13818-3, section 2.4.1.3.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Mp3Scan", "scan_mp3"]

_MAX_JUNK_BYTES = 65_536  # searched for the next frame; these two bound the work on hostile files
_MAX_RUNS = 100  # of frames, with junk between them
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3", b"3DI")  # may follow the last frame

_MPEG2_KBPS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_BIT_RATES_KBPS = {  # (MPEG-1?, layer): by index 1 to 14
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): _MPEG2_KBPS,
    (False, 3): _MPEG2_KBPS,
}


@dataclass(frozen=True, slots=True)
class Mp3Scan:
    """Length and damage of an MPEG audio stream (layers I to III)."""

    sampling_rate: int  # Hz
    num_channels: int
    num_samples: int  # per channel, without the information frame, encoder delay and padding
    start: int  # offset of the first frame, after ID3 and junk
    end: int  # offset after the last whole frame
    lost_samples: int  # in damaged stretches, or in frames that the information frame promises
    is_cut: bool  # the last frame is incomplete: the end is missing
    is_clean: bool  # frames without gaps from start to end, all of one rate and number of channels

    @property
    def duration_s(self) -> float:
        return self.num_samples / self.sampling_rate

    def missing(self, tolerance_s: float) -> str:
        """Return what is missing of the stream, for a message; "" for less than `tolerance_s` seconds."""
        if self.is_cut:
            return "its last MP3 frame is incomplete"
        lost_s = self.lost_samples / self.sampling_rate
        return f"about {lost_s:.2f} s of MP3 frames are missing or damaged" if lost_s > tolerance_s else ""


class _FrameKind(NamedTuple):
    """What all frames of one MPEG version, layer and rate share."""

    sampling_rate: int
    samples_per_frame: int
    sizes: tuple[int, ...]  # frame bytes by the header's third byte; 0: not of this kind


@functools.lru_cache(maxsize=256)
def _frame_kind(second: int, rate_index: int) -> _FrameKind | None:
    """Return the kind of the frames whose header starts with the bytes 0xFF, `second`."""
    version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
    if second & 0xE0 != 0xE0 or version == 1 or layer == 4 or rate_index == 3:
        return None
    is_mpeg1 = version == 3
    sampling_rate = (44100, 48000, 32000)[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    samples = 384 if layer == 1 else 1152 if layer == 2 or is_mpeg1 else 576
    sizes = [0] * 256
    for index, kbps in enumerate(_BIT_RATES_KBPS[is_mpeg1, layer], start=1):
        for low_bits in range(4):  # padding, private
            padding = low_bits >> 1
            if layer == 1:
                size = (12_000 * kbps // sampling_rate + padding) * 4
            else:
                size = samples // 8 * 1000 * kbps // sampling_rate + padding
            sizes[index << 4 | rate_index << 2 | low_bits] = size
    return _FrameKind(sampling_rate, samples, tuple(sizes))


def _kind_at(data: bytes, position: int) -> _FrameKind | None:
    """Return the kind of the frame whose header is at `position`; None if there is none."""
    if position + 4 > len(data) or data[position] != 0xFF:
        return None
    kind = _frame_kind(data[position + 1] | 1, data[position + 2] >> 2 & 3)
    return kind if kind is not None and kind.sizes[data[position + 2]] else None


def _walk(data: bytes, position: int, end: int, limit: int = 1 << 60) -> tuple[int, int]:
    """Follow whole frames of one kind from `position`; return how many, and the offset after the last."""
    kind = _kind_at(data, position)
    if kind is None:
        return 0, position
    sizes, second, is_mono = kind.sizes, data[position + 1] | 1, data[position + 3] >= 0xC0
    num_frames = 0
    while position + 4 <= end and num_frames < limit:
        if data[position] != 0xFF or data[position + 1] | 1 != second or (data[position + 3] >= 0xC0) != is_mono:
            break
        size = sizes[data[position + 2]]
        if not size or position + size > end:
            break
        position += size
        num_frames += 1
    return num_frames, position


def _next_frame(data: bytes, start: int, end: int) -> int:
    """Return the offset of the next three frames in a row, or of fewer that end the data; -1 if none is near."""
    search_end = min(end, start + _MAX_JUNK_BYTES)
    position = data.find(b"\xff", start, search_end)
    while position >= 0:
        num_frames, after = _walk(data, position, end, limit=3)
        if num_frames == 3 or (num_frames and after == end):
            return position
        position = data.find(b"\xff", position + 1, search_end)
    return -1


def _after_id3(data: bytes) -> int:
    """Return the offset after the ID3v2 tags at the start."""
    position = 0
    while data[position : position + 3] == b"ID3" and position + 10 <= len(data):
        a, b, c, d = (byte & 0x7F for byte in data[position + 6 : position + 10])
        footer_bytes = 10 if data[position + 5] & 0x10 else 0
        position += 10 + (a << 21 | b << 14 | c << 7 | d) + footer_bytes
    return min(position, len(data))


def _information(frame: bytes, samples_per_frame: int) -> tuple[int, int] | None:
    """Return the samples promised (0: unknown) and those of encoder delay and padding; None if `frame` is audio.

    Source: the Xing, LAME and VBRI headers, http://gabriel.mp3-tech.org/mp3infotag.html.
    """
    if frame[36:40] == b"VBRI" and len(frame) >= 54:
        return int.from_bytes(frame[50:54], "big") * samples_per_frame, 0
    at = max(frame.find(b"Xing", 0, 48), frame.find(b"Info", 0, 48))
    if at < 0 or len(frame) < at + 12:
        return None
    flags = frame[at + 7]
    promised = int.from_bytes(frame[at + 8 : at + 12], "big") * samples_per_frame if flags & 1 else 0
    lame = at + 8 + 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
    if frame[lame : lame + 4] not in (b"LAME", b"Lavc", b"Lavf") or len(frame) < lame + 24:
        return promised, 0
    delay_and_padding = int.from_bytes(frame[lame + 21 : lame + 24], "big")
    return promised, (delay_and_padding >> 12) + (delay_and_padding & 0xFFF)


def _is_tag_or_zeros(data: bytes, position: int, end: int) -> bool:
    return data.startswith(_TAGS, position, end) or data.count(0, position, end) == end - position


def scan_mp3(data: bytes) -> Mp3Scan | None:
    """Count the frames of an MPEG audio stream.

    Args:
        data: the whole file: no index in it can be trusted instead. An hour (28 MB) takes about 50 ms.

    Returns:
        None if `data` is no MPEG audio: no whole frame where it should start, and no three in a row after junk.
    """
    end = len(data) - 128 if data[-128:-125] == b"TAG" else len(data)  # ID3v1
    start = _after_id3(data)
    if not _walk(data, start, end, limit=1)[0]:
        start = _next_frame(data, start, end)
    kind = _kind_at(data, start) if start >= 0 else None
    if kind is None:
        return None
    num_frames, position = _walk(data, start, end)
    information = _information(data[start : start + kind.sizes[data[start + 2]]], kind.samples_per_frame)
    if information is not None:
        num_frames -= 1
    promised_samples, trimmed_samples = information or (0, 0)
    bytes_per_sample = max(1, position - start) / max(1, num_frames * kind.samples_per_frame)

    num_samples, junk_bytes, num_runs, is_cut = num_frames * kind.samples_per_frame, 0, 1, False
    last = position
    while position < end and not _is_tag_or_zeros(data, position, end):
        here = _kind_at(data, position)
        if here is not None and position + here.sizes[data[position + 2]] > end:
            is_cut = True
            break
        resumed = _next_frame(data, position, end) if num_runs < _MAX_RUNS else -1
        junk_bytes += (end if resumed < 0 else resumed) - position
        here = _kind_at(data, resumed) if resumed >= 0 else None
        if here is None:
            break
        more_frames, position = _walk(data, resumed, end)
        num_samples += more_frames * here.samples_per_frame * kind.sampling_rate // here.sampling_rate
        last, num_runs = position, num_runs + 1
    lost_samples = max(int(junk_bytes / bytes_per_sample), promised_samples - num_samples)
    return Mp3Scan(
        sampling_rate=kind.sampling_rate,
        num_channels=1 if data[start + 3] >= 0xC0 else 2,
        num_samples=max(0, num_samples - trimmed_samples),
        start=start,
        end=last,
        lost_samples=max(0, lost_samples),
        is_cut=is_cut,
        is_clean=num_runs == 1 and not junk_bytes and not is_cut,
    )
