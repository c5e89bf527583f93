"""A CTC model over a recording of any length: its logits, window by window, and the most probable label of each frame.

Windows overlap: each frame is taken from the window that has most context around it, so that the labels are those of
one pass. Memory holds one window and what is kept of each frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from speechtune.audio.samples import Samples
from speechtune.decoding.speech import Region
from speechtune.models.ctc.recogniser import CtcRecogniser
from speechtune.models.frames import input_stride, num_frames
from speechtune.types import Word

__all__ = ["CONTEXT_S", "WINDOW_S", "LabelPath", "best_path", "log_probs", "words_of_path"]

WINDOW_S = 30.0
CONTEXT_S = 5.0  # of a window on each side, of which no frames are taken


@dataclass(frozen=True, slots=True)
class LabelPath:
    """The most probable label of each frame, (num_frames,), and its probability."""

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    frame_s: float


def best_path(
    recogniser: CtcRecogniser,
    samples: Samples,
    model: torch.nn.Module,
    *,
    speech: Sequence[Region] | None = None,
    advance: Callable[[float], None] | None = None,
) -> LabelPath:
    """Return the greedy path of a recording; frames outside of `speech` are blank, and windows without any are not run.

    This is the Viterbi path of its own text: no path is more probable. `advance` is called with the seconds done.
    """
    labels, probabilities, frame_s = [], [], _frame_s(recogniser)
    for num_skipped, logits in _windows(recogniser, samples, model, speech):
        if logits is None:
            labels.append(np.full(num_skipped, recogniser.blank, np.int64))
            probabilities.append(np.ones(num_skipped, np.float32))
        else:
            best = logits.float().log_softmax(-1).max(-1)
            labels.append(best.indices.cpu().numpy())
            probabilities.append(best.values.exp().cpu().numpy())
        if advance is not None:
            advance(len(labels[-1]) * frame_s)
    path = LabelPath(np.concatenate(labels), np.concatenate(probabilities), frame_s)
    if speech is not None:
        is_speech = np.zeros(len(path.labels), bool)
        for start, end in speech:
            is_speech[_frame(start, recogniser, path.frame_s) : _frame(end, recogniser, path.frame_s) + 1] = True
        path.labels[~is_speech] = recogniser.blank
    return path


def log_probs(recogniser: CtcRecogniser, samples: Samples, model: torch.nn.Module) -> tuple[NDArray[np.float32], float]:
    """Return the log probability of each label at each frame, (num_frames, num_labels), and a frame's seconds."""
    parts = [
        logits.float().log_softmax(-1).cpu().numpy()
        for _, logits in _windows(recogniser, samples, model, None)
        if logits is not None
    ]
    return np.concatenate(parts), _frame_s(recogniser)


def words_of_path(recogniser: CtcRecogniser, path: LabelPath) -> list[Word]:
    """Return the words of a path: times from first to last label, and the geometric mean of their probabilities.

    Where labels are phones, each phone is a word.
    """
    decoder, labels = recogniser.decoder, path.labels
    if not len(labels):
        return []
    first = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1]]))
    last = np.append(first[1:], len(labels))
    best = np.maximum.reduceat(path.probabilities, first)
    words: list[Word] = []
    letters: list[tuple[str, int, int, float]] = []

    def close() -> None:
        if text := "".join(letter for letter, *_ in letters):
            confidence = float(np.exp(np.mean([np.log(max(p, 1e-9)) for *_, p in letters])))
            start_s, end_s = letters[0][1] * path.frame_s, letters[-1][2] * path.frame_s
            words.append(Word(text.lower() if decoder.lower else text, start_s, end_s, confidence))
        letters.clear()

    for start, end, p in zip(first.tolist(), last.tolist(), best.tolist(), strict=True):
        label = int(labels[start])
        if label == recogniser.blank:
            continue
        token = str(decoder.tokens[label])
        if decoder.joint or token.isspace():
            close()
        if not token.isspace():
            letters.append((token, start, end, p))
    close()
    return words


def _windows(
    recogniser: CtcRecogniser, samples: Samples, model: torch.nn.Module, speech: Sequence[Region] | None
) -> Iterator[tuple[int, torch.Tensor | None]]:
    """Yield the logits of each stretch of frames, (frames, num_labels), in order; None and their number without speech.

    Windows start at whole frames: a frame is computed from the same samples as in one pass, and only what is further
    away than CONTEXT_S may be missing.
    """
    model_input, name = recogniser.model_input, recogniser.model_input.name
    device = next(recogniser.model.parameters()).device
    if len(samples) <= model_input.max_whole_s * recogniser.sampling_rate:
        features = model_input.features(samples)
        inputs = model_input.pad([features], min_length=recogniser.min_input_length)
        logits = model(**{key: torch.from_numpy(value).to(device) for key, value in inputs.items()}).logits[0]
        yield 0, logits[: int(num_frames(recogniser.model.config, [len(features)])[0])]
        return
    num_inputs, part = model_input.slices(samples)
    stride = input_stride(recogniser.model.config)
    units_per_s = num_inputs * recogniser.sampling_rate / len(samples)
    context, hop = (int(seconds * units_per_s) // stride * stride for seconds in (CONTEXT_S, WINDOW_S - 2 * CONTEXT_S))
    total, done = int(num_frames(recogniser.model.config, [num_inputs])[0]), 0
    for start in range(0, num_inputs, hop):
        left, right = max(0, start - context), start + hop + context
        is_last = right >= num_inputs
        frames = total - done if is_last else hop // stride
        end = num_inputs if is_last else start + hop
        if speech is not None and not _any_within(speech, start / units_per_s, end / units_per_s, recogniser):
            yield frames, None
        else:
            logits = model(**{name: torch.from_numpy(part(left, right)).to(device)}).logits[0]
            first = (start - left) // stride
            yield 0, logits[first : first + frames]
        done += frames
        if is_last:
            return


def _any_within(speech: Sequence[Region], start_s: float, end_s: float, recogniser: CtcRecogniser) -> bool:
    rate = recogniser.sampling_rate
    return any(start < end_s * rate and end > start_s * rate for start, end in speech)


def _frame_s(recogniser: CtcRecogniser) -> float:
    """Return the seconds from one frame to the next."""
    stride = input_stride(recogniser.model.config)
    if recogniser.model_input.name == "input_values":
        return stride / recogniser.sampling_rate
    hop_s = 0.01 * int(getattr(recogniser.model_input.feature_extractor, "stride", 1))  # mel frames, stacked
    return stride * hop_s


def _frame(sample: int, recogniser: CtcRecogniser, frame_s: float) -> int:
    return int(sample / recogniser.sampling_rate / frame_s)
