"""`speechtune segment`: long recordings with a transcript become a corpus of clips.

The transcript is aligned and divided at its lines and sentences. Each becomes a clip, cut in the pauses around it. What
can't be trusted is dropped: a clip whose text is not what is said does more harm than one clip less.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from speechtune.decoding.align import Aligned, Aligner, Token
from speechtune.decoding.clips import Clip, ClipFolder, Dropped, bounds_of
from speechtune.decoding.segments import ends_sentence
from speechtune.decoding.transcript_files import read_lines
from speechtune.errors import AudioError, OptionError, TextError
from speechtune.terminal.formatting import duration_text
from speechtune.types import Word

__all__ = ["cut_clips", "segment_files"]

log = logging.getLogger("speechtune")

MIN_CONFIDENCE = 0.1
MAX_DURATION_S = 20.0
MIN_PAUSE_S = 0.06  # between two clips; without a pause they are one


def segment_files(
    model: str,
    files: Sequence[str],
    *,
    output_dir: Path,
    min_confidence: float = MIN_CONFIDENCE,
    max_duration_in_seconds: float = MAX_DURATION_S,
    **options: Any,
) -> str:
    """Cut recordings and return a line about the corpus.

    Args:
        files: recording, its transcript, the next recording, its transcript, ...
        output_dir: new folder.
        min_confidence: of a clip, the mean of its words'.
        max_duration_in_seconds: longer sentences are divided at their longest pauses.
        options: as Aligner takes them.

    Raises:
        SpeechtuneError: what the user gave can't be used, or no clip is left.
    """
    if len(files) % 2:
        raise OptionError(f"{len(files)} files: each recording needs its transcript behind it.")
    folder = ClipFolder(output_dir)
    transcripts = [read_lines(text) for text in files[1::2]]
    aligner = Aligner(model, **options)
    rate = aligner.recogniser.sampling_rate
    total_s, num_lines = 0.0, 0
    for recording, lines in zip(files[::2], transcripts, strict=True):
        try:
            samples = aligner.load(recording)
        except AudioError as error:
            if len(files) == 2:
                raise
            log.warning(f"{error} Its transcript is dropped.")
            folder.dropped.append(Dropped(recording, None, "", error.reason))
            continue
        clips, dropped = cut_clips(
            aligner.align(samples, lines),
            recording,
            len(samples) / rate,
            min_confidence=min_confidence,
            max_duration_s=max_duration_in_seconds,
        )
        folder.add(recording, samples, rate, clips)
        folder.dropped += dropped
        total_s += len(samples) / rate
        num_lines += len(lines)
    if not folder.num_clips:
        raise TextError(
            f"No clip is left of {num_lines} lines. Is it the text of this recording, and the model's language?\n"
            "`speechtune align` shows what was found; a lower --min_confidence keeps more."
        )
    folder.finish()
    log.info(f"dropped {len(folder.dropped):,} stretches of text or speech: {output_dir / 'dropped.jsonl'}")
    return (
        f"{output_dir}: {folder.num_clips:,} clips, {duration_text(folder.duration_s)} of {duration_text(total_s)}.\n"
        f"Next: speechtune doctor --dataset_name {output_dir}"
    )


def cut_clips(
    aligned: Aligned, recording: str, duration_s: float, *, min_confidence: float, max_duration_s: float
) -> tuple[list[Clip], list[Dropped]]:
    """Return the clips of an aligned recording, and what is dropped, with the reason."""
    dropped: list[Dropped] = []
    kept: list[tuple[Token, ...]] = []
    lost: list[tuple[float, float]] = list(aligned.untold)
    for line, tokens in aligned.lines:
        for unit in _units(tokens, max_duration_s):
            words = _words(unit)
            reason = _reason(unit, aligned.untold, min_confidence, max_duration_s)
            if not reason:
                kept.append(unit)
                continue
            lost += [(word.start_s, word.end_s) for word in words]
            start_s, end_s = (words[0].start_s, words[-1].end_s) if words else (None, None)
            text = " ".join(token.text for token in unit)
            confidence = round(_confidence(unit), 4)
            dropped.append(Dropped(recording, line.number, text, reason, start_s, end_s, confidence))
    dropped += [Dropped(recording, None, "", "not in the text", *stretch) for stretch in aligned.untold]
    units = _joined(kept, lost, max_duration_s)
    spans = [(_words(unit)[0].start_s, _words(unit)[-1].end_s) for unit in units]
    bounds = bounds_of(spans, lost, duration_s)
    texts = [" ".join(token.text for token in unit) for unit in units]
    clips = [Clip(text, *bound, _confidence(unit)) for text, bound, unit in zip(texts, bounds, units, strict=True)]
    return clips, dropped


def _units(tokens: Sequence[Token], max_duration_s: float) -> Iterator[tuple[Token, ...]]:
    """Yield the sentences of a line, longer ones divided at their longest pauses."""
    start = 0
    for end in range(1, len(tokens) + 1):
        if end == len(tokens) or ends_sentence(tokens[end - 1].text):
            yield from _short_units(tuple(tokens[start:end]), max_duration_s)
            start = end


def _short_units(unit: tuple[Token, ...], max_duration_s: float) -> Iterator[tuple[Token, ...]]:
    words = _words(unit)
    if len(words) < 2 or words[-1].end_s - words[0].start_s <= max_duration_s:
        yield unit
        return
    pauses = itertools.pairwise(unit)
    lengths = [right.word.start_s - left.word.end_s if left.word and right.word else -1.0 for left, right in pauses]
    cut = max(range(len(lengths)), key=lengths.__getitem__) + 1
    yield from _short_units(unit[:cut], max_duration_s)
    yield from _short_units(unit[cut:], max_duration_s)


def _reason(
    unit: Sequence[Token], untold: Sequence[tuple[float, float]], min_confidence: float, max_duration_s: float
) -> str:
    """Return why a unit is no clip; empty if it is one."""
    missing, total = sum(token.is_missing for token in unit), sum(token.has_letters for token in unit)
    words = _words(unit)
    if not total:
        return "no letters that the model knows"
    if missing == total:
        return "not said"
    if missing:
        return f"{missing} of {total} words not said"
    start, end = words[0].start_s, words[-1].end_s
    if any(a < end and b > start for a, b in untold):
        return "speech inside it that is not in the text"
    if end - start > max_duration_s:
        return f"longer than {max_duration_s:g} s without a pause"
    if _confidence(unit) < min_confidence:
        return f"confidence under {min_confidence:g}"
    return ""


def _joined(
    units: Sequence[tuple[Token, ...]], lost: Sequence[tuple[float, float]], max_duration_s: float
) -> list[tuple[Token, ...]]:
    """Join units that have no pause between them, as long as they are short enough together."""
    found: list[tuple[Token, ...]] = []
    for unit in units:
        start, end = _words(unit)[0].start_s, _words(unit)[-1].end_s
        if found:
            first, last = _words(found[-1])[0].start_s, _words(found[-1])[-1].end_s
            is_apart = any(last <= (a + b) / 2 <= start for a, b in lost)
            if start - last < MIN_PAUSE_S and end - first <= max_duration_s and not is_apart:
                found[-1] = (*found[-1], *unit)
                continue
        found.append(unit)
    return found


def _words(unit: Sequence[Token]) -> list[Word]:
    return [token.word for token in unit if token.word is not None]


def _confidence(unit: Sequence[Token]) -> float:
    """Return the mean of a unit's words, 0 for those that are not said."""
    values = [(token.word.confidence or 0.0) if token.word else 0.0 for token in unit if token.has_letters]
    return sum(values) / len(values) if values else 0.0
