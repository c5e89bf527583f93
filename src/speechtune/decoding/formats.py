"""Transcripts as files: text, subtitles, tables, and what linguists' programs read. One function a format.

Rejected: `pysubs2` for writing. It wants milliseconds, escapes what players take as they are, and each of these
formats is a few lines; tests read the files with `pysubs2`, `webvtt-py` and `praatio`.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Sequence

from speechtune.types import Segment, Transcript, Word

__all__ = ["FORMATS", "PER_LINE", "ending_of", "written"]

LINE_WIDTH = 42  # characters of a subtitle's line


def written(transcript: Transcript, kind: str) -> str:
    """Return a transcript in one of FORMATS, with a line feed at its end."""
    return FORMATS[kind](transcript)


def ending_of(kind: str) -> str:
    """Return the usual ending of a format's files."""
    return "TextGrid" if kind == "textgrid" else kind


def _txt(transcript: Transcript) -> str:
    """One segment a line; the whole text on one line where no segments are known."""
    lines = [segment.text for segment in transcript.segments] or [transcript.text]
    return "".join(f"{line}\n" for line in lines)


def _json(transcript: Transcript) -> str:
    row = {
        "file": transcript.file,
        "duration_s": round(transcript.duration_s, 3),
        "text": transcript.text,
        "segments": [_row(segment) for segment in transcript.segments],
    }
    return json.dumps(row, ensure_ascii=False, indent=1) + "\n"


def _jsonl(transcript: Transcript) -> str:
    """One object a segment."""
    rows = ({"file": transcript.file, **_row(segment)} for segment in transcript.segments)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _row(part: Segment | Word) -> dict[str, object]:
    row = {"start_s": round(part.start_s, 3), "end_s": round(part.end_s, 3), "text": part.text}
    if isinstance(part, Segment):
        return {**row, "words": [_row(word) for word in part.words]}
    return {**row, "confidence": None if part.confidence is None else round(part.confidence, 4)}


def _tsv(transcript: Transcript) -> str:
    """start, end, text, with times in milliseconds, as Whisper's own program writes it."""
    rows = [f"{round(1000 * s.start_s)}\t{round(1000 * s.end_s)}\t{_one_line(s.text)}\n" for s in transcript.segments]
    return "start\tend\ttext\n" + "".join(rows)


def _ctm(transcript: Transcript) -> str:
    """NIST's CTM: recording, channel, start, duration, word, confidence."""
    name = "_".join(transcript.file.split()) or "audio"
    rows = (
        f"{name} 1 {word.start_s:.3f} {max(word.end_s - word.start_s, 0):.3f} {_one_line(word.text)}"
        + ("" if word.confidence is None else f" {word.confidence:.4f}")
        for word in transcript.words
    )
    return "".join(f"{row}\n" for row in rows)


def _srt(transcript: Transcript) -> str:
    cues = [
        f"{number}\n{_clock(s.start_s, ',')} --> {_clock(s.end_s, ',')}\n{_subtitle(s.text)}\n"
        for number, s in enumerate(_cues(transcript.segments), 1)
    ]
    return "\n".join(cues)


def _vtt(transcript: Transcript) -> str:
    escape = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
    cues = [
        f"{_clock(s.start_s, '.')} --> {_clock(s.end_s, '.')}\n{_subtitle(s.text).translate(escape)}\n"
        for s in _cues(transcript.segments)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _cues(segments: Iterable[Segment]) -> Iterable[Segment]:
    """Yield the segments, those without known words divided to two lines each, with times by their characters."""
    for segment in segments:
        lines = [segment.text] if segment.words else textwrap.wrap(segment.text, 2 * LINE_WIDTH - 4)
        per_character = (segment.end_s - segment.start_s) / max(1, sum(map(len, lines)))
        start_s = segment.start_s
        for line in lines:
            end_s = start_s + per_character * len(line) if len(lines) > 1 else segment.end_s
            # Players drop a cue without a duration
            yield Segment(line, start_s, max(end_s, start_s + 0.01))
            start_s = end_s


def _subtitle(text: str) -> str:
    """Return a text as lines of 42 characters, of about equal lengths where two are enough."""
    text = _one_line(text)
    if len(text) <= LINE_WIDTH:
        return text
    for width in range(len(text) // 2, LINE_WIDTH + 1):
        if len(lines := textwrap.wrap(text, width, break_long_words=False)) <= 2:
            return "\n".join(lines)
    return "\n".join(textwrap.wrap(text, LINE_WIDTH))


def _clock(seconds: float, point: str) -> str:
    milliseconds = max(0, round(1000 * seconds))
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def _textgrid(transcript: Transcript) -> str:
    """Praat's TextGrid, long form: a tier of segments and one of words, without gaps, as Praat wants it."""
    tiers: list[tuple[str, Sequence[Segment | Word]]] = [("segments", transcript.segments), ("words", transcript.words)]
    named = [(name, parts) for name, parts in tiers if parts] or [("segments", ())]
    ends_s = [part.end_s for _, parts in named for part in parts]
    end_s = max([transcript.duration_s if transcript.duration_s > 0 else 0.01, *ends_s])
    head = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end_s:.4f}"]
    lines = [*head, "tiers? <exists>", f"size = {len(named)}", "item []:"]
    for number, (name, parts) in enumerate(named, 1):
        intervals = _intervals(parts, end_s)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {end_s:.4f}", f"        intervals: size = {len(intervals)}"]
        for place, (start, end, text) in enumerate(intervals, 1):
            quoted = _one_line(text).replace('"', '""')
            lines += [
                f"        intervals [{place}]:",
                f"            xmin = {start:.4f}",
                f"            xmax = {end:.4f}",
            ]
            lines.append(f'            text = "{quoted}"')
    return "\n".join(lines) + "\n"


def _intervals(parts: Sequence[Segment | Word], end_s: float) -> list[tuple[float, float, str]]:
    """Return intervals from 0 to the end: what lies between parts is empty, parts that overlap are cut."""
    intervals: list[tuple[float, float, str]] = []
    at_s = 0.0
    for part in parts:
        start, end = max(round(part.start_s, 4), at_s), round(part.end_s, 4)
        if end - start < 1e-4:
            continue
        if start > at_s:
            intervals.append((at_s, start, ""))
        intervals.append((start, end, part.text))
        at_s = end
    if round(end_s, 4) > at_s:
        intervals.append((at_s, round(end_s, 4), ""))
    return intervals


def _one_line(text: str) -> str:
    return " ".join(text.split())


FORMATS: dict[str, Callable[[Transcript], str]] = {
    "txt": _txt, "srt": _srt, "vtt": _vtt, "json": _json, "jsonl": _jsonl, "tsv": _tsv, "textgrid": _textgrid,
    "ctm": _ctm,
}  # fmt: skip
PER_LINE = ("txt", "jsonl", "ctm")  # of several recordings, these can follow each other in one stream
