"""`speechtune align`: a text of any length, word by word, to its places in a recording."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from speechtune.audio.samples import Samples
from speechtune.decoding.alignment import align_words
from speechtune.decoding.formats import FORMATS, ending_of, written
from speechtune.decoding.segments import joined_text, segments_of
from speechtune.decoding.transcribe import Transcriber, resampled
from speechtune.decoding.transcript_files import Line, read_lines
from speechtune.errors import ModelError, OptionError, TextError
from speechtune.files import explain_write_errors, read_json, write_atomically
from speechtune.terminal.formatting import duration_text, shorten, visible
from speechtune.terminal.progress import AUDIO, progress_bar
from speechtune.text.languages import language_of
from speechtune.text.normalise import make_normaliser
from speechtune.types import Segment, Transcript, Word

__all__ = ["Aligned", "Aligner", "Token", "align_files"]

log = logging.getLogger("speechtune")

MAX_NAMED = 10  # lines of a message about words that are not said


@dataclass(frozen=True, slots=True)
class Token:
    """A word of a text: where it is said, or None; and whether it has letters that the model knows: "1994" has none."""

    text: str
    word: Word | None
    has_letters: bool

    @property
    def is_missing(self) -> bool:
        return self.has_letters and self.word is None


@dataclass(frozen=True, slots=True)
class Aligned:
    """A text in a recording.

    Args:
        lines: the tokens of each line.
        untold: (start, end) in seconds of each stretch of speech that is not in the text.
    """

    lines: list[tuple[Line, tuple[Token, ...]]]
    untold: list[tuple[float, float]]


class Aligner:
    """Places texts in recordings by a CTC model.

    Args:
        model: folder or hub name.
        language: whose rules lower-casing follows; default: that of the training.
        options: as Transcriber takes them.

    Raises:
        ModelError: no CTC model of letters.
    """

    def __init__(self, model: str, *, language: str | None = None, **options: Any) -> None:
        from speechtune.models.ctc.recogniser import CtcRecogniser

        self.transcriber = Transcriber(model, **options)
        recogniser = self.transcriber.recogniser
        if not isinstance(recogniser, CtcRecogniser) or recogniser.phones or recogniser.delimiter:
            raise ModelError(
                f"{model}: alignment needs a CTC model whose labels are letters or pieces of words.\n"
                "Fine-tune wav2vec2, MMS, Parakeet or similar; Whisper can't be used."
            )
        self.recogniser = recogniser
        settings = read_json(Path(model) / "settings.json").get("plan", {}).get("settings") or {}
        language = language or settings.get("language") or settings.get("dataset_config_name")
        self._normalise = make_normaliser(
            "default",
            settings.get("chars_to_ignore"),
            language=language_of(language) if language else None,
            lower_case=settings.get("do_lower_case", True),
        )
        tokenizer = recogniser.tokenizer
        vocabulary = tokenizer.get_vocab()
        self._blank = recogniser.blank
        self._delimiter = vocabulary.get(getattr(tokenizer, "word_delimiter_token", None))
        self._unwritten = {tokenizer.unk_token_id, self._blank, self._delimiter, *tokenizer.all_special_ids}

    def load(self, audio: str) -> Samples:
        """Return the samples of a recording, or raise AudioError."""
        return self.transcriber.load(audio)

    def labels(self, word: str) -> list[int]:
        """Return the label ids of a word; without what the model does not know."""
        return [label for label in self.recogniser.encode(self._normalise(word)) if label not in self._unwritten]

    def align(self, samples: Samples, lines: Sequence[Line], *, show: bool = True) -> Aligned:
        """Return where the words of the lines are said.

        A word without letters that the model knows has the place behind its neighbour, and no confidence.

        Args:
            show: progress.

        Raises:
            TextError: the text has no letters that the model knows.
        """
        texts = [line.text.split() for line in lines]
        labels = [[self.labels(word) for word in words] for words in texts]
        words, untold = self._places(samples, [ids for line in labels for ids in line if ids], show=show)
        remaining = iter(words)
        found: list[tuple[Line, tuple[Token, ...]]] = []
        for line, line_texts, line_labels in zip(lines, texts, labels, strict=True):
            tokens: list[Token] = []
            for text, ids in zip(line_texts, line_labels, strict=True):
                word = next(remaining) if ids else None
                if not ids and tokens and tokens[-1].word:
                    word = Word("", tokens[-1].word.end_s, tokens[-1].word.end_s)
                tokens.append(Token(text, word and replace(word, text=text), bool(ids)))
            found.append((line, tuple(tokens)))
        return Aligned(found, untold)

    def timed(self, transcript: Transcript, samples: Samples, sampling_rate: int) -> Transcript:
        """Return a transcript with the times of its words, wherever they are said in the recording.

        Words that are not found share the time between their neighbours, and have no confidence.

        Args:
            samples: of the whole recording, at `sampling_rate`, in Hz.
        """
        if not any(map(self.labels, transcript.text.split())):
            return transcript
        samples = resampled(samples, sampling_rate, self.recogniser.sampling_rate)
        ((_, tokens),) = self.align(samples, [Line(1, transcript.text)], show=False).lines
        return replace(transcript, segments=segments_of(_all_words(tokens)))

    def _places(
        self, samples: Samples, words: Sequence[Sequence[int]], *, show: bool
    ) -> tuple[list[Word | None], list[tuple[float, float]]]:
        """Return each word's times and confidence without its text, None if not said; and speech without text."""
        import torch

        from speechtune.decoding.ctc_path import emissions

        if not words:
            raise TextError("The text has no letter that the model knows. Is it of the model's language?")
        used = sorted({label for word in words for label in word} | {self._blank, self._delimiter} - {None})
        column = {label: i for i, label in enumerate(used)}
        total_s = len(samples) / self.recogniser.sampling_rate
        with torch.inference_mode(), progress_bar("listening", unit=AUDIO, shown=show) as update:
            found = emissions(
                self.recogniser, samples, self.recogniser.model, labels=used, advance=lambda s: update(s, total_s)
            )
        places, is_untold = align_words(
            found,
            [[column[label] for label in word] for word in words],
            blank=column[self._blank],
            delimiter=None if self._delimiter is None else column[self._delimiter],
        )
        frame_s = found.frame_s
        changes = np.flatnonzero(np.diff(np.concatenate([[0], is_untold, [0]])))
        untold = [(round(float(a * frame_s), 3), round(float(b * frame_s), 3)) for a, b in changes.reshape(-1, 2)]
        found_words = [
            None if p is None else Word("", round(p.start * frame_s, 3), round(p.end * frame_s, 3), p.confidence)
            for p in places
        ]
        return found_words, untold


def _all_words(tokens: Sequence[Token]) -> list[Word]:
    """Return a word for each token; those without a place share the time between their neighbours."""
    words: list[Word] = []
    for is_placed, group in itertools.groupby(tokens, key=lambda token: token.word is not None):
        run = list(group)
        if is_placed:
            words += [token.word for token in run if token.word]
            continue
        after = next((token.word.start_s for token in tokens[len(words) + len(run) :] if token.word), None)
        start_s = words[-1].end_s if words else after or 0.0
        step_s = (max(after, start_s) - start_s) / len(run) if after is not None else 0.0
        words += [Word(t.text, start_s + i * step_s, start_s + (i + 1) * step_s) for i, t in enumerate(run)]
    return words


def align_files(
    model: str,
    audio: str,
    text: str,
    *,
    output: Path | None = None,
    format: Sequence[str] = (),
    **options: Any,
) -> int:
    """Align as `speechtune align` does: print or write words with times, and say what is not said.

    Args:
        text: file of the text: .txt, .srt, .vtt, .TextGrid or .eaf.
        output: file, whose ending tells the format; several with `format`. None prints.
        options: as Aligner takes them.

    Raises:
        SpeechtuneError: what the user gave can't be used.
    """
    formats = list(format) or [_format_of(output)]
    if output is None and len(formats) > 1:
        raise OptionError(f"--format {' '.join(formats)}: only one can be printed.\nGive --output for several.")
    lines = read_lines(text)
    aligner = Aligner(model, **options)
    samples = aligner.load(audio)
    aligned = aligner.align(samples, lines)
    segments: list[Segment] = []
    for _, tokens in aligned.lines:
        segments += segments_of([token.word for token in tokens if token.word])
    duration_s = len(samples) / aligner.recogniser.sampling_rate
    whole = joined_text([word for segment in segments for word in segment.words])
    transcript = Transcript(whole, file=audio, segments=tuple(segments), duration_s=duration_s)
    for kind in formats:
        content = written(transcript, kind)
        if output is None:
            print("\t".join(map(visible, content.removesuffix("\n").split("\t"))))
            continue
        path = output if not format else output.with_name(f"{output.stem}.{ending_of(kind)}")
        with explain_write_errors("the alignment", path.parent):
            write_atomically(path, content)
    _report(aligned)
    return 0


def _format_of(output: Path | None) -> str:
    if output is None:
        return "ctm"
    kind = output.suffix[1:].lower()
    if kind not in FORMATS:
        raise OptionError(f"{output}: the ending tells the format: one of {', '.join(FORMATS)}.\nOr give --format.")
    return kind


def _report(aligned: Aligned) -> None:
    """Log what is not said, and what is said without being in the text."""
    counts = [(sum(t.is_missing for t in tokens), sum(t.has_letters for t in tokens)) for _, tokens in aligned.lines]
    num_words, num_missing = sum(total for _, total in counts), sum(missing for missing, _ in counts)
    sure = [
        t.word.confidence for _, tokens in aligned.lines for t in tokens if t.word and t.word.confidence is not None
    ]
    mean = f", mean confidence {np.mean(sure):.2f}" if sure else ""
    log.info(f"aligned {num_words - num_missing:,} of {num_words:,} words{mean}")
    missing = [(line, *count) for (line, _), count in zip(aligned.lines, counts, strict=True) if count[0]]
    for line, num, total in missing[:MAX_NAMED]:
        part = "not said" if num == total else f"{num} of {total} words not said"
        log.info(f"line {line.number}, {part}: {shorten(line.text, 50)}")
    if len(missing) > MAX_NAMED:
        log.info(f"and {len(missing) - MAX_NAMED:,} lines more with words that are not said")
    if aligned.untold:
        total_s = sum(end - start for start, end in aligned.untold)
        log.info(f"speech that is not in the text: {duration_text(total_s)} in {len(aligned.untold):,} places")
