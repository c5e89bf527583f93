"""Recognition of recordings of any length, with memory that does not grow with them.

`transcribe` and `evaluate` both use it, so they give the same text. A recording of up to `max_whole_s` is one pass. A
longer one is recognised

- by CTC in overlapping windows (`ctc_path.py`), whose labels are collapsed once, over the whole recording;
- by Whisper in windows that start where the last finished segment ended, by the timestamps that it writes
  (`whisper_windows.py`);
- by other models in pieces that are cut at pauses (`pauses.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from speechtune.audio.samples import Samples
from speechtune.decoding.ctc_path import best_path, words_of_path
from speechtune.decoding.pauses import cut_at_pauses
from speechtune.decoding.segments import segments_of
from speechtune.decoding.speech import Region, Spoken
from speechtune.decoding.whisper_windows import WhisperWindows, writes_timestamps
from speechtune.errors import ModelError
from speechtune.models.batch import Batch
from speechtune.models.ctc.recogniser import CtcRecogniser
from speechtune.models.recogniser import Recognised, Recogniser, is_sharded
from speechtune.models.seq2seq.recogniser import Seq2SeqRecogniser
from speechtune.types import Segment, Transcript, Utterance, Word

__all__ = ["transcribe_samples", "transcript_of"]

log = logging.getLogger("speechtune")


def transcribe_samples(recogniser: Recogniser, samples: Samples, *, model: torch.nn.Module | None = None) -> str:
    """Return the text of one recording: `transcript_of` without times, all of it recognised."""
    return transcript_of(recogniser, samples, model=model).text


def transcript_of(
    recogniser: Recogniser,
    samples: Samples,
    *,
    model: torch.nn.Module | None = None,
    speech: Sequence[Region] | None = None,
    words: bool = False,
    advance: Callable[[float], None] | None = None,
) -> Transcript:
    """Return text and segments of one recording.

    Args:
        recogniser: its model in evaluation mode.
        samples: (num_samples,), float32 or 16 bits, at the recogniser's rate.
        model: what accelerate made of the recogniser's model.
        speech: what is recognised, of `find_speech`; None for all.
        words: find their times, where that costs time: of Whisper. CTC models and transducers always tell them.
        advance: called with seconds of audio as they are done, for progress.

    Raises:
        ModelError: a long recording with a model that is sharded over processes.
    """
    model = recogniser.model if model is None else model
    duration_s = len(samples) / recogniser.sampling_rate
    is_long = duration_s > recogniser.model_input.max_whole_s
    if is_long and is_sharded(model):  # all processes would have to run the same number of windows
        raise ModelError(
            f"A recording of {duration_s:.0f} s got into an evaluation with --fsdp, which takes "
            f"{recogniser.model_input.max_whole_s:g} s.\nEvaluate without --fsdp."
        )
    if speech is not None and not speech:
        return Transcript("", duration_s=duration_s)
    if isinstance(recogniser, CtcRecogniser):
        with torch.inference_mode():
            path = best_path(recogniser, samples, model, speech=speech, advance=advance)
        text = " ".join(recogniser.decoder(path.labels).split())
        return Transcript(text, segments=segments_of(words_of_path(recogniser, path)), duration_s=duration_s)
    if not is_long:
        whole = _recognised(recogniser, samples, model)
        text = " ".join(whole.text.split())
        if whole.words:
            return Transcript(text, segments=segments_of(whole.words), duration_s=duration_s)
        if words and text and isinstance(recogniser, Seq2SeqRecogniser) and recogniser.context is not None:
            with torch.inference_mode(), recogniser.autocast():
                windows = WhisperWindows(recogniser, samples)
                found = windows.words_of(text)
            segments = segments_of(found, separator=windows.separator)
            return Transcript(text, segments=segments, duration_s=duration_s)
        start, end = (speech[0][0], speech[-1][1]) if speech else (0, len(samples))
        return _in_pieces([(text, start, end)], recogniser, duration_s)
    spoken = Spoken(samples, speech)
    if isinstance(recogniser, Seq2SeqRecogniser) and writes_timestamps(recogniser):
        if recogniser.external_score is not None or recogniser.num_beams is not None:
            log.warning(f"a recording of {duration_s:.0f} s: written window by window, without --lm and --num_beams")
        with torch.inference_mode(), recogniser.autocast():
            windows = WhisperWindows(recogniser, spoken.samples, advance, with_words=words)
            pieces = [(text, spoken.place(start), spoken.place(end)) for text, start, end in windows.segments()]
        transcript = _in_pieces(pieces, recogniser, duration_s, separator=windows.separator)
        if not windows.words:
            return transcript
        placed = _placed(windows.words, spoken, recogniser.sampling_rate)
        return replace(transcript, segments=segments_of(placed, separator=windows.separator))
    pieces, at = [], 0
    placed = []
    for piece in cut_at_pauses(spoken.samples, recogniser.sampling_rate):
        bounds = spoken.place(at), spoken.place(at + len(piece))
        recognised = _recognised(recogniser, piece, model)
        pieces.append((" ".join(recognised.text.split()), *bounds))
        placed += _placed(recognised.words, spoken, recogniser.sampling_rate, start=at)
        at += len(piece)
        if advance is not None:
            advance(len(piece) / recogniser.sampling_rate)
    transcript = _in_pieces(pieces, recogniser, duration_s)
    return replace(transcript, segments=segments_of(placed)) if placed else transcript


def _placed(words: Sequence[Word], spoken: Spoken, sampling_rate: int, *, start: int = 0) -> list[Word]:
    """Return words of the joined speech with their times in the recording; now they count from sample `start`."""

    def place(time_s: float) -> float:
        return spoken.place(start + round(time_s * sampling_rate)) / sampling_rate

    return [replace(word, start_s=place(word.start_s), end_s=place(word.end_s)) for word in words]


def _in_pieces(
    pieces: Sequence[tuple[str, int, int]], recogniser: Recogniser, duration_s: float, *, separator: str = " "
) -> Transcript:
    """Return the transcript of texts with their first and last samples."""
    rate = recogniser.sampling_rate
    kept = [Segment(text, start / rate, end / rate) for text, start, end in pieces if text]
    text = " ".join(separator.join(segment.text for segment in kept).split())
    return Transcript(text, segments=tuple(kept), duration_s=duration_s)


def _recognised(recogniser: Recogniser, samples: Samples, model: torch.nn.Module) -> Recognised:
    features = recogniser.model_input.features(samples)
    inputs = recogniser.model_input.pad([features], min_length=recogniser.min_input_length)
    seconds = len(samples) / recogniser.sampling_rate
    batch = Batch(
        utterances=[Utterance("", "", "", "", seconds, "")],
        texts=[""],
        rows=[0],
        inputs={name: torch.from_numpy(value) for name, value in inputs.items()},
        labels=torch.zeros((1, 1), dtype=torch.int64),
        label_lengths=[0],
        input_lengths=[len(features)],
        seconds=seconds,
    ).to(next(recogniser.model.parameters()).device)
    with torch.inference_mode():
        (recognised,) = recogniser.recognise(model, batch, with_loss=False)
    return recognised
