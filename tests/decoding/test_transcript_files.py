"""Transcripts that people have become lines of text, whatever program wrote them."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechtune.decoding.formats import written
from speechtune.decoding.transcript_files import read_lines
from speechtune.errors import TextError
from speechtune.types import Segment, Transcript, Word

WORDS = (Word('"Merhaba",', 0.5, 0.92), Word("dünya", 1.0, 1.6))
TRANSCRIPT = Transcript(
    "",
    segments=(Segment('"Merhaba", dünya', 0.5, 1.6, WORDS), Segment("R&D", 2, 3, (Word("R&D", 2, 3),))),
    duration_s=4,
)

SRT = "\ufeff1\r\n00:00:01,000 --> 00:00:02,000\r\n<i>Bir</i>\r\n{\\an8}iki\r\n\r\n"
SRT += "2\r\n00:00:03,000 --> 00:00:04,000\r\nüç\r\n"
VTT = """WEBVTT - title

NOTE not
text

STYLE
::cue { color: red }

intro
00:01.000 --> 00:02.000 align:start
<v Ayşe>Bir &amp; iki</v>

00:03.000 --> 00:04.000
üç
"""
EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT><TIME_ORDER>
<TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="5000"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="6000"/>
<TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="2000"/>
</TIME_ORDER>
<TIER TIER_ID="A"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
<ANNOTATION_VALUE>iki</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
<TIER TIER_ID="B"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts3" TIME_SLOT_REF2="ts4">
<ANNOTATION_VALUE>bir</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>
"""


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.txt", "Bir  iki\n\n\tüç\n", ["Bir iki", "üç"]),
        ("a.srt", SRT, ["Bir iki", "üç"]),
        ("a.vtt", VTT, ["Bir & iki", "üç"]),
        ("a.eaf", EAF, ["bir", "iki"]),
        ("a.srt", written(TRANSCRIPT, "srt"), ['"Merhaba", dünya', "R&D"]),
        ("a.vtt", written(TRANSCRIPT, "vtt"), ['"Merhaba", dünya', "R&D"]),
        ("a.TextGrid", written(TRANSCRIPT, "textgrid"), ['"Merhaba", dünya', "R&D"]),
    ],
)
def test_a_transcript_becomes_its_lines(name: str, content: str, texts: list[str], tmp_path: Path):
    (tmp_path / name).write_text(content, "utf-8", newline="")
    assert [line.text for line in read_lines(str(tmp_path / name))] == texts


def test_lines_have_their_numbers_in_the_file(tmp_path: Path):
    (tmp_path / "a.txt").write_text("bir\n\niki\n")
    assert [line.number for line in read_lines(str(tmp_path / "a.txt"))] == [1, 3]


def test_praats_short_form_in_utf_16_and_a_tier_of_phones(tmp_path: Path):
    short = (
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n2\n<exists>\n2\n"IntervalTier"\n"phones"\n0\n2\n4\n'
    )
    short += "".join(f'{n / 2}\n{(n + 1) / 2}\n"{phone}"\n' for n, phone in enumerate("mɛɾh"))
    short += '"IntervalTier"\n"text"\n0\n2\n2\n0\n1\n"merhaba ""dünya"""\n1\n2\n""\n'
    (tmp_path / "a.TextGrid").write_bytes(short.encode("utf-16"))
    assert [line.text for line in read_lines(str(tmp_path / "a.TextGrid"))] == ['merhaba "dünya"']


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.txt", b" \n", "has no text"),
        ("a.txt", "iş".encode("iso8859-9"), "is not UTF-8 (byte 1)"),
        ("a.TextGrid", b"bir iki", "is no TextGrid of Praat"),
        ("a.eaf", b"<a><b></a>", "is no .eaf of ELAN"),
        ("a.eaf", b'<!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>', "has a document type"),
    ],
)
def test_what_can_not_be_read_is_one_message(name: str, data: bytes, said: str, tmp_path: Path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(TextError) as raised:
        read_lines(str(tmp_path / name))
    assert str(raised.value).startswith(f"{tmp_path / name}: ") and said in str(raised.value)
    with pytest.raises(TextError, match="can't be read"):
        read_lines(str(tmp_path / "none.txt"))
