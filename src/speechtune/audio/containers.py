"""What the first and last bytes of an audio file say about it: its kind, and whether its end is missing.

libsndfile shortens a WAV, SPHERE or Ogg file that was cut to the bytes that are there, and says nothing. A transcript
beside half a recording is worse than none, so what the header promises is compared with the size of the file.
MP3 has its own file, mp3.py.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

__all__ = ["find_missing_end", "kind_of", "sphere_fields"]

# RIFF sizes from here on promise nothing: programs that write to a pipe put 0xFFFFFFFF or (sox) 0x7FFFF000 there.
_STREAMED_SIZE = 0x7FFF0000
_MAX_OGG_PAGE_BYTES = 27 + 255 + 255 * 255
_MAX_RIFF_CHUNKS = 10_000

_KINDS = (  # offset, magic, kind
    (0, b"RIFF", "WAV"),
    (0, b"RF64", "WAV"),
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "OGG"),
    (0, b"NIST_1A", "NIST"),
    (4, b"ftyp", "MP4"),
    (4, b"moov", "MP4"),
    (4, b"mdat", "MP4"),
    (0, b"\x1a\x45\xdf\xa3", "WEBM"),  # and Matroska
    (0, b"\xff\xf1", "AAC"),  # ADTS, MPEG-4
    (0, b"\xff\xf9", "AAC"),  # ADTS, MPEG-2
    (0, b"#!AMR", "AMR"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"),
    (0, b"wvpk", "WAVPACK"),
    (0, b"caff", "CAF"),
    (0, b"FORM", "AIFF"),
    (0, b".snd", "AU"),
    (0, b"riff\x2e\x91\xcf\x11", "W64"),
)


def kind_of(head: bytes) -> str:
    """Kind of container by its first 12 bytes: WAV, FLAC, OGG, NIST, MP4, ...; "" where unknown, as for MP3."""
    for offset, magic, kind in _KINDS:
        if head[offset : offset + len(magic)] == magic:
            return kind
    return ""


def find_missing_end(file: BinaryIO, size: int, kind: str) -> str:
    """What the container promises and the file lacks, for a message; "" if nothing is known to be missing.

    Args:
        file: the file, `size` bytes long; its position is moved.
        kind: as `kind_of` gives it. FLAC, MP4 and others say "" here: their loss shows when they are decoded.
    """
    if kind == "WAV":
        missing = _riff_missing_bytes(file, size)
        return f"{missing} bytes of its data chunk are missing" if missing > 1 else ""
    if kind == "NIST":
        missing = _sphere_missing_bytes(file, size)
        return f"{missing} bytes of its samples are missing" if missing > 1 else ""
    if kind == "OGG" and _ogg_page_is_cut(file, size):
        return "its last Ogg page is incomplete"
    return ""


def _riff_missing_bytes(file: BinaryIO, size: int) -> int:
    """Bytes that the data chunk of a RIFF or RF64 file claims beyond the file's end."""
    file.seek(12)
    ds64_data_bytes = 0
    position = 12
    for _ in range(_MAX_RIFF_CHUNKS):
        header = file.read(8)
        if len(header) < 8:
            return 0  # no data chunk: the decoder's message says so
        name, length = struct.unpack("<4sI", header)
        position += 8
        if name == b"ds64":  # RF64: riff size, data size, sample count, 8 bytes each
            ds64_data_bytes = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))[0]
        elif name == b"data":
            if length == 0xFFFFFFFF and ds64_data_bytes:
                length = ds64_data_bytes
            elif length >= _STREAMED_SIZE:
                return 0
            return max(0, position + length - size)
        position += length + length % 2
        file.seek(position)
    return 0


def sphere_fields(head: bytes) -> dict[str, str]:
    """Fields of a NIST SPHERE header; {} if it can't be read.

    NIST_1A
       1024
    channel_count -i 1
    sample_count -i 46797
    sample_coding -s26 pcm,embedded-shorten-v2.00
    end_head
    """
    fields = {}
    for line in head.decode("latin-1").split("\n")[2:]:
        parts = line.split(maxsplit=2)
        if parts[:1] == ["end_head"]:
            break
        if len(parts) == 3:
            fields[parts[0]] = parts[2].strip()
    return fields


def _sphere_missing_bytes(file: BinaryIO, size: int) -> int:
    """Bytes of samples that a SPHERE header claims beyond the file's end."""
    file.seek(0)
    head = file.read(1024)
    fields = sphere_fields(head)
    try:
        header_bytes = int(head[8:16])
        frame_bytes = int(fields.get("channel_count", "1")) * int(fields["sample_n_bytes"])
        return max(0, header_bytes + int(fields["sample_count"]) * frame_bytes - size)
    except (KeyError, ValueError):
        return 0


def _ogg_page_is_cut(file: BinaryIO, size: int) -> bool:
    """Whether the last page of an Ogg file is longer than what is left of the file."""
    start = max(0, size - _MAX_OGG_PAGE_BYTES - 27)
    file.seek(start)
    tail = file.read(size - start)
    at = tail.rfind(b"OggS")
    if at < 0:
        return True
    if len(tail) < at + 27:
        return True
    num_segments = tail[at + 26]
    lacing = tail[at + 27 : at + 27 + num_segments]
    return len(lacing) < num_segments or at + 27 + num_segments + sum(lacing) > len(tail)
