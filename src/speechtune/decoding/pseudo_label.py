"""`speechtune pseudo-label`: untranscribed recordings become a corpus, with what a model recognises as their text.

What is kept is what the model is sure of and, with a second model, what both recognise alike. To train on the corpus
together with transcribed speech is semi-supervised learning (Kahn et al. 2020, "Self-Training for End-to-End Speech
Recognition"; filters: section 3.2).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechtune.audio.samples import Samples
from speechtune.decoding.clips import Clip, ClipFolder, Dropped, bounds_of
from speechtune.decoding.recordings import decoded_ahead
from speechtune.decoding.sources import find_sources
from speechtune.decoding.transcribe import Transcriber
from speechtune.errors import SpeechtuneError, TextError
from speechtune.terminal.formatting import duration_text
from speechtune.terminal.progress import AUDIO, progress_bar
from speechtune.text.normalise import Normaliser
from speechtune.types import Segment

__all__ = ["label_files"]

log = logging.getLogger("speechtune")

MIN_CONFIDENCE = 0.8
MAX_DISAGREEMENT = 0.1
MIN_DURATION_S, MAX_DURATION_S = 1.0, 20.0
MIN_PAUSE_S = 0.06  # between two clips; without a pause they are one
MARKS = (*".,;:!?…\"'“”«»()[]-", "—")  # do not count where two models are compared


def label_files(
    model: str,
    files: Sequence[str],
    *,
    output_dir: Path,
    second_model: str | None = None,
    min_confidence: float = MIN_CONFIDENCE,
    max_disagreement: float = MAX_DISAGREEMENT,
    **options: Any,
) -> str:
    """Label recordings and return a line about the corpus.

    Args:
        files: as `speechtune transcribe` takes them.
        output_dir: new folder.
        second_model: recognises each clip too.
        min_confidence: of a clip, the mean of its words'.
        max_disagreement: of two texts of a clip, the character edits by the characters of the first model's.
        options: as Transcriber takes them, for both models.

    Raises:
        SpeechtuneError: what the user gave can't be used, or no clip is left.
    """
    sources = find_sources(files, named_by_place=False)
    folder = ClipFolder(output_dir)
    transcriber = Transcriber(model, **options)
    second = Transcriber(second_model, **options) if second_model else None
    rate, done_s = transcriber.recogniser.sampling_rate, 0.0
    with progress_bar("labelling", unit=AUDIO) as update:
        for source, samples, total_s in decoded_ahead(sources, transcriber.load, rate):
            if isinstance(samples, SpeechtuneError):
                log.warning(str(samples))
                folder.dropped.append(Dropped(source.path, None, "", getattr(samples, "reason", "undecodable")))
                continue
            clips = _clips(transcriber, samples)
            kept: list[Clip] = []
            for clip in clips:
                reason = _reason(clip, samples, rate, second, min_confidence, max_disagreement)
                if not reason:
                    kept.append(clip)
                    continue
                span = clip.start_s, clip.end_s
                folder.dropped.append(Dropped(source.path, None, clip.text, reason, *span, round(clip.confidence, 4)))
            folder.add(source.path, samples, rate, kept)
            done_s += len(samples) / rate
            update(done_s, max(total_s, done_s))
    if not folder.num_clips:
        raise TextError(
            f"No clip is left of {len(folder.dropped)}. A lower --min_confidence (now {min_confidence:g}) keeps more."
        )
    folder.finish()
    log.info(f"dropped {len(folder.dropped):,} clips: {output_dir / 'dropped.jsonl'}")
    return (
        f"{output_dir}: {folder.num_clips:,} clips, {duration_text(folder.duration_s)} of {duration_text(done_s)}.\n"
        f"Next: speechtune doctor --dataset_name {output_dir}"
    )


def _clips(transcriber: Transcriber, samples: Samples) -> list[Clip]:
    """Return the segments of a recording as clips, those without a pause between them as one."""
    found = transcriber.recognise(samples)
    joined: list[list[Segment]] = []
    for segment in found.segments:
        if joined and (
            segment.start_s - joined[-1][-1].end_s < MIN_PAUSE_S
            and segment.end_s - joined[-1][0].start_s <= MAX_DURATION_S
        ):
            joined[-1].append(segment)
        else:
            joined.append([segment])
    spans = [(parts[0].start_s, parts[-1].end_s) for parts in joined]
    bounds = bounds_of(spans, [], found.duration_s)
    clips = []
    for parts, bound in zip(joined, bounds, strict=True):
        values = [word.confidence or 0.0 for part in parts for word in part.words]
        confidence = sum(values) / len(values) if values else 0.0
        clips.append(Clip(" ".join(part.text for part in parts), *bound, confidence))
    return clips


def _reason(
    clip: Clip,
    samples: Samples,
    sampling_rate: int,
    second: Transcriber | None,
    min_confidence: float,
    max_disagreement: float,
) -> str:
    """Return why a clip is dropped; empty if it is kept."""
    from rapidfuzz.distance import Levenshtein

    duration_s = clip.end_s - clip.start_s
    if not MIN_DURATION_S <= duration_s <= MAX_DURATION_S + 1:
        return f"{duration_s:.1f} s, not {MIN_DURATION_S:g} to {MAX_DURATION_S:g} s"
    if clip.confidence < min_confidence:
        return f"confidence under {min_confidence:g}"
    if second is None:
        return ""
    part = samples[round(clip.start_s * sampling_rate) : round(clip.end_s * sampling_rate)]
    normalise = Normaliser(MARKS)
    ours, theirs = normalise(clip.text), normalise(second.recognise_at(part, sampling_rate).text)
    rate = Levenshtein.distance(ours, theirs) / max(1, len(ours))
    return f"the second model disagrees by {rate:.0%}: {theirs}" if rate > max_disagreement else ""
