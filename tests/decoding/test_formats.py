"""Files of transcripts are what other programs read: each is read by a library that is not ours."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from speechtune.decoding.formats import FORMATS, LINE_WIDTH, written
from speechtune.types import Segment, Transcript, Word

FIRST = (Word("Merhaba,", 0.5, 0.92, 0.9), Word('"<dünya>"', 1.0, 1.6, 0.75))
SECOND = (Word("R&D", 3661.5, 3662.0, None),)
TRANSCRIPT = Transcript(
    text='Merhaba, "<dünya>" R&D',
    file="a b.mp3",
    duration_s=3700.0,
    segments=(Segment('Merhaba, "<dünya>"', 0.5, 1.6, FIRST), Segment("R&D", 3661.5, 3662.0, SECOND)),
)


def file_of(folder: Path, kind: str, transcript: Transcript = TRANSCRIPT) -> str:
    path = folder / f"a.{kind}"
    path.write_text(written(transcript, kind), "utf-8")
    return str(path)


def test_srt_and_vtt_are_read_by_pysubs2(tmp_path: Path):
    import pysubs2

    for kind in ("srt", "vtt"):
        events = pysubs2.load(file_of(tmp_path, kind)).events
        assert [(e.start, e.end) for e in events] == [(500, 1600), (3_661_500, 3_662_000)]
    events = pysubs2.load(file_of(tmp_path, "srt"), keep_unknown_html_tags=True)
    assert [event.text for event in events] == ['Merhaba, "<dünya>"', "R&D"]


def test_vtt_is_read_by_webvtt(tmp_path: Path):
    import html

    import webvtt

    captions = webvtt.read(file_of(tmp_path, "vtt")).captions
    assert [(c.start, c.end) for c in captions] == [("00:00:00.500", "00:00:01.600"), ("01:01:01.500", "01:01:02.000")]
    assert [html.unescape(c.raw_text) for c in captions] == ['Merhaba, "<dünya>"', "R&D"]


def test_textgrid_is_read_by_praatio(tmp_path: Path):
    from praatio import textgrid

    grid = textgrid.openTextgrid(file_of(tmp_path, "textgrid"), includeEmptyIntervals=False)
    assert grid.tierNames == ("segments", "words") and grid.maxTimestamp == 3700.0
    words = [tuple(entry) for entry in grid.getTier("words").entries]
    assert words == [(0.5, 0.92, "Merhaba,"), (1.0, 1.6, '"<dünya>"'), (3661.5, 3662.0, "R&D")]
    assert len(textgrid.openTextgrid(file_of(tmp_path, "textgrid"), includeEmptyIntervals=True).getTier("words")) == 7


def test_json_has_everything_and_jsonl_a_segment_a_line():
    whole = json.loads(written(TRANSCRIPT, "json"))
    assert (whole["file"], whole["duration_s"], whole["text"]) == ("a b.mp3", 3700.0, TRANSCRIPT.text)
    word = {"start_s": 0.5, "end_s": 0.92, "text": "Merhaba,", "confidence": 0.9}
    assert whole["segments"][0]["words"][0] == word and whole["segments"][1]["words"][0]["confidence"] is None
    lines = [json.loads(line) for line in written(TRANSCRIPT, "jsonl").splitlines()]
    assert lines == [{"file": "a b.mp3", **segment} for segment in whole["segments"]]


def test_tables_are_as_whisper_and_nist_have_them():
    assert written(TRANSCRIPT, "tsv").splitlines()[1] == '500\t1600\tMerhaba, "<dünya>"'
    assert written(TRANSCRIPT, "ctm").splitlines() == [
        "a_b.mp3 1 0.500 0.420 Merhaba, 0.9000",
        'a_b.mp3 1 1.000 0.600 "<dünya>" 0.7500',
        "a_b.mp3 1 3661.500 0.500 R&D",
    ]
    assert written(TRANSCRIPT, "txt") == 'Merhaba, "<dünya>"\nR&D\n'


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_a_recording_without_speech_is_a_file_too(kind: str, tmp_path: Path):
    text = written(Transcript("", file="a.wav", duration_s=2.0), kind)
    assert text.strip() == {"txt": "", "srt": "", "jsonl": "", "ctm": "", "vtt": "WEBVTT"}.get(kind, text.strip())
    if kind == "textgrid":
        from praatio import textgrid

        assert textgrid.openTextgrid(file_of(tmp_path, kind, Transcript("", duration_s=2.0)), True).maxTimestamp == 2.0


def test_lines_of_subtitles_can_be_read():
    words = "bir iki üç dört beş altı yedi sekiz dokuz on on bir on iki on üç on dört on beş"
    known = Segment(words, 0, 5, (Word(words, 0, 5),))
    lines = written(Transcript(words, segments=(known,)), "srt").splitlines()[2:]
    assert len(lines) == 2 and max(map(len, lines)) <= LINE_WIDTH and " ".join(lines) == words
    assert abs(len(lines[0]) - len(lines[1])) < 10


def test_a_long_segment_without_words_is_divided_by_its_characters():
    import pysubs2

    text = "uzun bir cümle " * 30
    subtitles = pysubs2.SSAFile.from_string(written(Transcript(text, segments=(Segment(text, 10, 40),)), "srt"))
    assert " ".join(event.plaintext.replace("\n", " ") for event in subtitles) == " ".join(text.split())
    assert len(subtitles) >= 6 and (subtitles[0].start, subtitles[-1].end) == (10_000, 40_000)
    assert all(len(line) <= LINE_WIDTH for event in subtitles for line in event.plaintext.split("\n"))
    assert all(one.end == other.start for one, other in itertools.pairwise(subtitles))
