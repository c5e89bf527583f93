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
from speechtune.decoding.alignment import Emissions
from speechtune.decoding.beam_search import cut_at_blanks
from speechtune.decoding.speech import Region
from speechtune.models.ctc.pieces import PIECE_START
from speechtune.models.ctc.recogniser import CtcRecogniser, GreedyDecoder
from speechtune.models.frames import input_stride, num_frames
from speechtune.models.recogniser import seconds_per_frame
from speechtune.types import Word

__all__ = ["CONTEXT_S", "WINDOW_S", "LabelPath", "best_path", "emissions", "word_times", "words_of_path"]

WINDOW_S = 30.0
SILENT = -30.0  # log probability of a label where nobody speaks
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

    This is the Viterbi path of its own text: no path is more probable. With a recogniser that has a search, it is the
    Viterbi path of the text that the search finds. `advance` is called with the seconds done.
    """
    if recogniser.search is not None:
        return _searched_path(recogniser, samples, model, speech, advance)
    labels, probabilities, frame_s = [], [], seconds_per_frame(recogniser)
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


def _searched_path(
    recogniser: CtcRecogniser,
    samples: Samples,
    model: torch.nn.Module,
    speech: Sequence[Region] | None,
    advance: Callable[[float], None] | None,
) -> LabelPath:
    """Return the path that the recogniser's search finds, of parts that end in pauses: memory holds a few of them."""
    assert recogniser.search is not None
    frame_s, done = seconds_per_frame(recogniser), 0
    labels: list[NDArray[np.int64]] = []
    probabilities: list[NDArray[np.float32]] = []
    waiting: NDArray[np.float32] | None = None
    silence = np.full(int(recogniser.model.config.vocab_size), SILENT, np.float32)
    silence[recogniser.blank] = 0.0

    def search(log_probs: NDArray[np.float32]) -> None:
        (path,) = recogniser.search([log_probs])  # type: ignore[misc]
        labels.append(path)
        probabilities.append(np.exp(log_probs[np.arange(len(path)), path]))

    for num_skipped, logits in _windows(recogniser, samples, model, speech):
        rows = np.tile(silence, (num_skipped, 1)) if logits is None else logits.float().log_softmax(-1).cpu().numpy()
        if speech is not None:
            is_speech = np.zeros(len(rows), bool)
            for start, end in speech:
                first, last = (_frame(sample, recogniser, frame_s) - done for sample in (start, end))
                is_speech[max(0, first) : max(0, last + 1)] = True
            rows[~is_speech] = silence
        waiting = rows if waiting is None else np.concatenate([waiting, rows])
        *_, cut, _ = cut_at_blanks(waiting, recogniser.blank)
        if cut:
            search(waiting[:cut])
            waiting = waiting[cut:]
        done += len(rows)
        if advance is not None:
            advance(len(rows) * frame_s)
    assert waiting is not None
    search(waiting)
    return LabelPath(np.concatenate(labels), np.concatenate(probabilities), frame_s)


def emissions(
    recogniser: CtcRecogniser,
    samples: Samples,
    model: torch.nn.Module,
    *,
    labels: Sequence[int],
    advance: Callable[[float], None] | None = None,
) -> Emissions:
    """Return the log probabilities of these labels at each frame, (num_frames, len(labels)), and those of the best."""
    chosen = torch.tensor(labels, device=next(recogniser.model.parameters()).device)
    parts: list[NDArray[np.float32]] = []
    best: list[NDArray[np.float32]] = []
    for _, logits in _windows(recogniser, samples, model, None):
        assert logits is not None
        log_probs = logits.float().log_softmax(-1)
        parts.append(log_probs.index_select(-1, chosen).cpu().numpy())
        best.append(log_probs.amax(-1).cpu().numpy())
        if advance is not None:
            advance(sum(map(len, best)) * seconds_per_frame(recogniser))
    return Emissions(np.concatenate(parts), np.concatenate(best), seconds_per_frame(recogniser))


def words_of_path(recogniser: CtcRecogniser, path: LabelPath) -> list[Word]:
    """Return the words of a path: times from first to last label, and the geometric mean of their probabilities.

    Where labels are phones, each phone is a word.
    """
    labels = path.labels
    if not len(labels):
        return []
    spelling = _Spelling(recogniser)
    first = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1]]))
    last = np.append(first[1:], len(labels))
    best = np.maximum.reduceat(path.probabilities, first)
    words: list[Word] = []
    letters: list[tuple[str, int, int, float]] = []

    def close() -> None:
        if letters:
            text = "".join(letter for letter, *_ in letters)
            confidence = float(np.exp(np.mean([np.log(max(p, 1e-9)) for *_, p in letters])))
            start_s, end_s = letters[0][1] * path.frame_s, letters[-1][2] * path.frame_s
            words.append(Word(text, start_s, end_s, confidence))
        letters.clear()

    for start, end, p in zip(first.tolist(), last.tolist(), best.tolist(), strict=True):
        label = int(labels[start])
        if label == recogniser.blank:
            continue
        text, is_start = spelling(label)
        if is_start:
            close()
        if text:
            letters.append((text, start, end, p))
    close()
    return words


def word_times(recogniser: CtcRecogniser, labels: NDArray[np.int64]) -> list[tuple[float, float]]:
    """Return begin and end of each word that the labels of all frames write, in seconds."""
    path = LabelPath(labels, np.ones(len(labels), np.float32), seconds_per_frame(recogniser))
    return [(round(word.start_s, 2), round(word.end_s, 2)) for word in words_of_path(recogniser, path)]


class _Spelling:
    """What a label writes, and whether a word starts with it, or after it if it writes nothing."""

    def __init__(self, recogniser: CtcRecogniser) -> None:
        self._tokenizer, self._decoder = recogniser.tokenizer, recogniser.decoder

    def __call__(self, label: int) -> tuple[str, bool]:
        if isinstance(self._decoder, GreedyDecoder):
            text = str(self._decoder.tokens[label])
            text = text.lower() if self._decoder.lower else text
            return text.strip(), bool(self._decoder.joint) or text.isspace()
        if label in self._tokenizer.all_special_ids:
            return "", False
        text = str(self._tokenizer.convert_ids_to_tokens(label) or "")
        return text.removeprefix(PIECE_START), text.startswith(PIECE_START)


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


def _frame(sample: int, recogniser: CtcRecogniser, frame_s: float) -> int:
    return int(sample / recogniser.sampling_rate / frame_s)
