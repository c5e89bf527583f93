"""Transcripts of long recordings that people have: plain text, subtitles, Praat's TextGrid, ELAN's .eaf.

Only their text and its order are used: times of subtitles and tiers are coarse, the alignment finds better ones.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from speechtune.errors import TextError

__all__ = ["Line", "read_lines"]

MAX_BYTES = 200_000_000


@dataclass(frozen=True, slots=True)
class Line:
    """A line, subtitle or annotation: its number in the file, from 1, and its text on one line."""

    number: int
    text: str


def read_lines(path: str) -> list[Line]:
    """Return the lines of a transcript that have text; the file's ending tells its format, any other is plain text.

    Raises:
        TextError: the file can't be read, or has no text.
    """
    file = Path(path)
    try:
        if file.exists() and not file.is_file():  # a pipe or device would be waited for, or read without an end
            raise TextError(f"{path}: is no file.")
        if file.stat().st_size > MAX_BYTES:
            raise TextError(f"{path}: over {MAX_BYTES / 1e6:.0f} MB is no transcript.")
        data = file.read_bytes()
    except OSError as error:
        raise TextError(f"{path}: can't be read: {error.strerror}.") from error
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        content = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise TextError(f"{path}: is not UTF-8 (byte {error.start}).\nSave it as UTF-8.") from error
    texts = _READERS.get(file.suffix.lower(), _plain)(content, path)
    lines = [Line(number, " ".join(text.split())) for number, text in enumerate(texts, 1)]
    lines = [line for line in lines if line.text]
    if not lines:
        raise TextError(f"{path}: has no text.")
    return lines


def _plain(content: str, path: str) -> list[str]:
    return content.splitlines()


# 12
# 00:01:02,500 --> 00:01:04,000
# <i>Merhaba</i>, dünya
#
# WebVTT has a header, points instead of commas, settings behind the times, and NOTE and STYLE blocks without times.
def _subtitles(content: str, path: str) -> list[str]:
    texts = []
    for block in re.split(r"\n\s*\n", content.replace("\r\n", "\n")):
        lines = block.strip().split("\n")
        times = [n for n, line in enumerate(lines[:3]) if "-->" in line]
        if times:
            text = " ".join(lines[times[0] + 1 :])
            texts.append(html.unescape(re.sub(r"<[^<>]*>|\{\\[^{}]*\}", "", text)))
    return texts


# Long form: `xmin = 0.5` ... `text = "merhaba ""dünya"""`; in the short form the values alone, line by line.
def _textgrid(content: str, path: str) -> list[str]:
    """Return the texts of the tier that has most text."""
    if "TextGrid" not in content[:200]:
        raise TextError(f"{path}: is no TextGrid of Praat.")
    tiers: list[list[str]] = []
    strings = iter(text.replace('""', '"') for text in re.findall(r'"((?:[^"]|"")*)"', content))
    for text in strings:
        if text in ("IntervalTier", "TextTier"):
            next(strings, "")  # its name
            tiers.append([])
        elif tiers:
            tiers[-1].append(text)
    return max(tiers, key=_amount_of_text, default=[])


def _amount_of_text(tier: list[str]) -> tuple[bool, int, int]:
    """Return what is larger for sentences than for words, and larger for these than for phones or few notes."""
    words = " ".join(tier).split()
    characters = sum(map(len, words))
    return characters > 2.2 * len(words), characters, -len(tier)


def _eaf(content: str, path: str) -> list[str]:
    """Return the annotations of all tiers of ELAN that have times of their own, in the order of their start."""
    if "<!DOCTYPE" in content or "<!ENTITY" in content:  # an entity can be defined to be gigabytes
        raise TextError(f"{path}: has a document type; ELAN writes none.")
    try:
        root = ElementTree.fromstring(content.encode())
        slots = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE") or 0) for slot in root.iter("TIME_SLOT")}
        found = [
            (slots[annotation.get("TIME_SLOT_REF1")], annotation.findtext("ANNOTATION_VALUE") or "")
            for annotation in root.iter("ALIGNABLE_ANNOTATION")
        ]
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise TextError(f"{path}: is no .eaf of ELAN: {error}.") from error
    return [text for _, text in sorted(found, key=lambda row: row[0])]


_READERS: dict[str, Callable[[str, str], list[str]]] = {
    ".srt": _subtitles, ".vtt": _subtitles, ".textgrid": _textgrid, ".eaf": _eaf,
}  # fmt: skip
