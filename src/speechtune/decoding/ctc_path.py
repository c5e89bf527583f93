"""A CTC model over recordings of any length: the most probable label of each frame, and words with their times.

`ctc_windows.py` says in which windows. Between windows that end in a pause is a delimiter of words. Memory holds a few
windows, and what is kept of each frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from speechtune.audio.samples import Samples
from speechtune.decoding.alignment import Emissions
from speechtune.decoding.beam_search import MAX_FRAMES
from speechtune.decoding.ctc_windows import Window, logits_of, windows_of
from speechtune.decoding.speech import Region
from speechtune.models.ctc.pieces import PIECE_START
from speechtune.models.ctc.recogniser import CtcRecogniser, GreedyDecoder
from speechtune.models.recogniser import seconds_per_frame
from speechtune.types import Word

__all__ = ["LabelPath", "best_path", "best_paths", "emissions", "word_times", "words_of_path"]

SILENT = -30.0  # log probability of a label where nobody speaks
DELIMITER, NO_DELIMITER = np.log(0.9), np.log(0.1)  # log probabilities of delimiter and blank in the pause of a cut
SEARCHED_FRAMES = 4 * MAX_FRAMES  # that wait to be searched, together and in several processes


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
    """Return `best_paths` of one recording."""
    (path,) = best_paths(recogniser, [samples], model, speech=[speech], advance=advance)
    return path


def best_paths(
    recogniser: CtcRecogniser,
    recordings: Sequence[Samples],
    model: torch.nn.Module,
    *,
    speech: Sequence[Sequence[Region] | None],
    advance: Callable[[float], None] | None = None,
) -> list[LabelPath]:
    """Return the greedy path of each recording; frames outside of its speech are blank.

    This is the Viterbi path of its own text: no path is more probable. With a recogniser that has a search, it is the
    Viterbi path of the text that the search finds.

    Args:
        recordings: (num_samples,) each; their windows are computed together.
        speech: of each recording; None for all of it.
        advance: called with the seconds of audio that are done.
    """
    frame_s = seconds_per_frame(recogniser)
    unit = round(frame_s * recogniser.sampling_rate)
    paths = []
    for samples in recordings:
        total = -(-len(samples) // unit)
        labels = np.full(total, recogniser.blank, np.int64)
        paths.append(LabelPath(labels, np.ones(total, np.float32), frame_s))
    if recogniser.search is not None:
        _search(recogniser, _log_probs(recogniser, recordings, model, speech, advance), paths)
    else:
        for place, window, rows in _log_probs(recogniser, recordings, model, speech, advance):
            best = rows.max(-1)
            path, first = paths[place], window.first
            path.labels[first : first + len(rows)] = best.indices.cpu().numpy()
            path.probabilities[first : first + len(rows)] = best.values.exp().cpu().numpy()
    for path, regions in zip(paths, speech, strict=True):
        if regions is not None:
            path.labels[~_is_within(regions, len(path.labels), unit)] = recogniser.blank
    return paths


def _log_probs(
    recogniser: CtcRecogniser,
    recordings: Sequence[Samples],
    model: torch.nn.Module,
    speech: Sequence[Sequence[Region] | None],
    advance: Callable[[float], None] | None = None,
) -> Iterator[tuple[int, Window, torch.Tensor]]:
    """Yield place of the recording, window, and the log probabilities of its frames, (num_frames, num_labels).

    The last frame of a window that ends in a pause is a delimiter.
    """
    frame_s, delimiter = seconds_per_frame(recogniser), _delimiter_of(recogniser)
    windows = (
        (place, window)
        for place, (samples, regions) in enumerate(zip(recordings, speech, strict=True))
        for window in windows_of(recogniser, samples, regions)
    )
    for place, window, logits in logits_of(recogniser, model, recordings, windows):
        first, heard = window.rows(logits)
        rows = torch.full((window.end - window.first, logits.shape[-1]), SILENT, device=logits.device)
        rows[:, recogniser.blank] = 0.0
        rows[first : first + len(heard)] = heard.float().log_softmax(-1)
        if window.ends_in_pause and delimiter is not None and len(rows) > 1:
            rows[-1] = SILENT
            rows[-1, recogniser.blank], rows[-1, delimiter] = NO_DELIMITER, DELIMITER
        yield place, window, rows
        if advance is not None:
            advance(len(rows) * frame_s)


def _delimiter_of(recogniser: CtcRecogniser) -> int | None:
    """Return the label that stands between words; None where words start with their own pieces, or are phones."""
    token = recogniser.delimiter if recogniser.phones else getattr(recogniser.tokenizer, "word_delimiter_token", None)
    return recogniser.tokenizer.get_vocab().get(token) if isinstance(recogniser.decoder, GreedyDecoder) else None


def _is_within(speech: Sequence[Region], num_frames: int, unit: int) -> NDArray[np.bool_]:
    flags = np.zeros(num_frames, bool)
    for start, end in speech:
        flags[start // unit : end // unit + 1] = True
    return flags


@dataclass
class _Part:
    """Windows without a gap between them, to be searched at once."""

    place: int
    first: int
    rows: list[NDArray[np.float32]] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.first + sum(map(len, self.rows))


def _search(
    recogniser: CtcRecogniser, found: Iterator[tuple[int, Window, torch.Tensor]], paths: Sequence[LabelPath]
) -> None:
    """Write what the recogniser's search finds into the paths. Memory holds SEARCHED_FRAMES and a part."""
    parts: list[_Part] = []

    def search() -> None:
        assert recogniser.search is not None
        log_probs = [np.concatenate(part.rows) for part in parts]
        for part, rows, labels in zip(parts, log_probs, recogniser.search(log_probs), strict=True):
            path = paths[part.place]
            path.labels[part.first : part.end] = labels
            path.probabilities[part.first : part.end] = np.exp(rows[np.arange(len(labels)), labels])
        parts.clear()

    is_open = False
    for place, window, rows in found:
        follows = is_open and parts and (parts[-1].place, parts[-1].end) == (place, window.first)
        if not follows:
            if sum(part.end - part.first for part in parts) > SEARCHED_FRAMES:
                search()
            parts.append(_Part(place, window.first))
        parts[-1].rows.append(rows.cpu().numpy())
        length = parts[-1].end - parts[-1].first
        is_open = length < MAX_FRAMES or (not window.ends_in_pause and length < SEARCHED_FRAMES)
    if parts:
        search()


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
    for _, _, log_probs in _log_probs(recogniser, [samples], model, [None]):
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
