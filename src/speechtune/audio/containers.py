"""Kind of an audio file by its first bytes, and whether the file is shorter than its header promises.

libsndfile silently shortens a cut WAV, AIFF, AU, CAF, SPHERE or Ogg file to the bytes that are there. A transcript
beside half a recording is worse than none, so the header's sizes are compared with the file's. MP3: see mp3.py.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

__all__ = ["find_missing_end", "kind_of", "sphere_fields"]

_MAX_OGG_PAGE_BYTES = 27 + 255 + 255 * 255
_MAX_CHUNKS = 10_000

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

# kind: offset of the first chunk, chunk header (name, size), name of the chunk of samples, alignment of chunks, and the
# size from which on it promises nothing: programs that write to a pipe put the largest number there, sox 0x7FFFF000 or
# (AIFF) about 0x7F000000, CAF -1.
_CHUNKS = {
    "WAV": (12, "<4sI", b"data", 2, 0x7FFF0000),
    "AIFF": (12, ">4sI", b"SSND", 2, 0x7EFF0000),
    "CAF": (8, ">4sQ", b"data", 1, 1 << 62),
    "W64": (40, "<16sQ", b"data", 8, 1 << 62),
}


def kind_of(head: bytes) -> str:
    """Return the container by its first 12 bytes: WAV, FLAC, OGG, NIST, MP4, ...; "" if unknown, as for MP3."""
    for offset, magic, kind in _KINDS:
        if head[offset : offset + len(magic)] == magic:
            return kind
    return ""


def find_missing_end(file: BinaryIO, size: int, kind: str) -> str:
    """Return what the container promises and the file lacks, for a message; "" if nothing is known to be missing.

    Args:
        file: the file, `size` bytes long; its position is moved.
        kind: as `kind_of` returns it. Nothing is found for FLAC, MP4 and others: decoding shows their loss.
    """
    if kind == "OGG":
        return "its last Ogg page is incomplete" if _ogg_page_is_cut(file, size) else ""
    if kind in _CHUNKS:
        end = _end_of_chunk(file, kind)
    elif kind == "NIST":
        end = _end_of_sphere(file)
    elif kind == "AU":
        file.seek(4)
        start, length = struct.unpack(">II", file.read(8).ljust(8, b"\0"))
        end = start + length if length != 0xFFFFFFFF else 0
    else:
        return ""
    return f"{end - size} bytes of its samples are missing" if end > size + 1 else ""  # 1: padding


def _end_of_chunk(file: BinaryIO, kind: str) -> int:
    """Return where the chunk of samples should end; 0 if the file does not tell."""
    position, layout, wanted, alignment, streamed_size = _CHUNKS[kind]
    header_bytes = struct.calcsize(layout)
    ds64_data_bytes = 0
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        header = file.read(header_bytes)
        if len(header) < header_bytes:
            return 0  # no samples: the decoder's message says so
        name, length = struct.unpack(layout, header)
        position += header_bytes
        if kind == "W64":
            length -= header_bytes
        if name[:4] == wanted:
            if length == 0xFFFFFFFF and ds64_data_bytes:
                return position + ds64_data_bytes
            return position + length if length < streamed_size else 0
        if name == b"ds64":  # RF64: riff size, data size, sample count, 8 bytes each
            ds64_data_bytes = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))[0]
        if not 0 <= length < 1 << 62:
            return 0
        position += length + -length % alignment
    return 0


def sphere_fields(head: bytes) -> dict[str, str]:
    """Return the fields of a NIST SPHERE header; {} if it can't be read.

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


def _end_of_sphere(file: BinaryIO) -> int:
    """Return where the samples of a SPHERE file should end; 0 if its header can't be read."""
    file.seek(0)
    head = file.read(1024)
    fields = sphere_fields(head)
    try:
        frame_bytes = int(fields.get("channel_count", "1")) * int(fields["sample_n_bytes"])
        return int(head[8:16]) + int(fields["sample_count"]) * frame_bytes
    except (KeyError, ValueError):
        return 0


def _ogg_page_is_cut(file: BinaryIO, size: int) -> bool:
    """Return whether the last page of an Ogg file is longer than what is left of the file."""
    start = max(0, size - _MAX_OGG_PAGE_BYTES - 27)
    file.seek(start)
    tail = file.read(size - start)
    at = tail.rfind(b"OggS")
    if at < 0 or len(tail) < at + 27:
        return True
    num_segments = tail[at + 26]
    lacing = tail[at + 27 : at + 27 + num_segments]
    return len(lacing) < num_segments or at + 27 + num_segments + sum(lacing) > len(tail)
