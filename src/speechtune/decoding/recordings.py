"""`speechtune transcribe`: many recordings to text on stdout, or to files of several formats.

Recordings are decoded one ahead, in a thread. One that can't be transcribed is named, and the others follow.
Transcripts in a folder are written as soon as they are there; the same command skips them, so it resumes.
"""

from __future__ import annotations

import json as json_
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechtune.audio.samples import Samples
from speechtune.decoding.align import Aligner
from speechtune.decoding.formats import PER_LINE, ending_of, written
from speechtune.decoding.sources import STDIN, Source, find_sources
from speechtune.decoding.transcribe import Transcriber
from speechtune.errors import AudioError, OptionError, SpeechtuneError
from speechtune.files import explain_write_errors, write_atomically
from speechtune.terminal.formatting import duration_text, visible
from speechtune.terminal.progress import AUDIO, progress_bar
from speechtune.types import Transcript

__all__ = ["decoded_ahead", "transcribe_files"]

log = logging.getLogger("speechtune")


def transcribe_files(
    model: str,
    files: Sequence[str],
    *,
    output_dir: Path | None = None,
    format: Sequence[str] = ("txt",),
    json: bool = False,
    aligner: str | None = None,
    **options: Any,
) -> int:
    """Transcribe recordings; print their transcripts, or write each to a file for every format.

    Args:
        model: folder or hub name.
        files: files, folders, patterns, or "-" for standard input.
        output_dir: where the files go; those that are there are not made again.
        format: of FORMATS.
        json: print an object with file and text for each recording.
        aligner: a CTC model that finds the times of words; None: the model's own.
        options: as Transcriber takes them.

    Returns:
        Exit code: 0, or 2 where a recording could not be transcribed.

    Raises:
        OptionError: nothing to transcribe, or a format that can't be printed.
        OutputError: a file can't be written.
    """
    words = not json and set(format) != {"txt"}
    if aligner and not words:
        raise OptionError(
            "--aligner finds the times of words, which txt and --json do not have.\nGive --format srt, ..."
        )
    sources = find_sources(files, named_by_place=output_dir is not None)
    if output_dir is None:
        _check_printable(format, len(sources))
        is_one = len(sources) == 1
        return _transcribe(
            model,
            sources,
            lambda source, t: _print(t, format[0], is_one=is_one, as_json=json),
            options,
            words=words,
            aligner=aligner,
        )
    if json:
        raise OptionError("--json prints to stdout. With --output_dir give --format json.")

    def paths(source: Source) -> list[Path]:
        return [output_dir / f"{source.output}.{ending_of(kind)}" for kind in format]

    def write(source: Source, transcript: Transcript) -> None:
        with explain_write_errors("transcripts", output_dir):
            for path, kind in zip(paths(source), format, strict=True):
                write_atomically(path, written(transcript, kind))

    waiting = [source for source in sources if not all(path.is_file() for path in paths(source))]
    if len(waiting) < len(sources):
        log.info(f"skipped {len(sources) - len(waiting):,} of {len(sources):,} recordings: done in {output_dir}")
    with explain_write_errors("transcripts", output_dir):
        output_dir.mkdir(parents=True, exist_ok=True)
    if not waiting:
        return 0
    return _transcribe(model, waiting, write, options, words=words, aligner=aligner, summary=f" to {output_dir}")


def _check_printable(formats: Sequence[str], num_sources: int) -> None:
    if len(formats) > 1:
        raise OptionError(f"--format {' '.join(formats)}: only one can be printed.\nGive --output_dir for several.")
    if num_sources > 1 and formats[0] not in PER_LINE:
        raise OptionError(
            f"--format {formats[0]}: {num_sources} recordings need a file each.\nGive --output_dir, or "
            f"one of {', '.join(PER_LINE)}."
        )


def _print(transcript: Transcript, kind: str, *, is_one: bool, as_json: bool) -> None:
    if as_json:
        row = json_.dumps({"file": transcript.file, "text": transcript.text}, ensure_ascii=False)
        line = visible(row, written="\\u{:04x}")
    elif kind == "txt":
        name = visible(transcript.file).replace("\n", "[U+000A]")
        line = visible(transcript.text) if is_one else f"{name}\t{visible(transcript.text)}"
    elif kind in ("json", "jsonl"):
        line = visible(written(transcript, kind), written="\\u{:04x}").removesuffix("\n")
    else:
        line = "\t".join(map(visible, written(transcript, kind).removesuffix("\n").split("\t")))
    if line or kind == "txt":
        print(line, flush=True)


def _transcribe(
    model: str,
    sources: Sequence[Source],
    use: Callable[[Source, Transcript], None],
    options: dict[str, Any],
    *,
    words: bool,
    aligner: str | None,
    summary: str = "",
) -> int:
    """Transcribe each source and pass it on; `summary`, if any, ends the line of what was done."""
    transcriber = Transcriber(model, **options)
    rate = transcriber.recogniser.sampling_rate
    timer = Aligner(aligner, language=options.get("language")) if aligner else None
    num_failed, num_done, done_s = 0, 0, 0.0
    with progress_bar("transcribing", unit=AUDIO) as update:
        for source, samples, total_s in decoded_ahead(sources, transcriber.load, rate):
            try:
                if isinstance(samples, SpeechtuneError):
                    raise samples
                start_s = done_s

                def advance(audio_s: float, total_s: float = total_s) -> None:
                    nonlocal done_s
                    done_s += audio_s
                    update(done_s, max(total_s, done_s))

                found = transcriber.recognise(samples, words=words and timer is None, advance=advance)
                found = timer.timed(found, samples, rate) if timer else found
            except (AudioError, RuntimeError, MemoryError) as error:  # the latter: no memory for this recording
                num_failed += 1
                name = "" if isinstance(error, AudioError) else f"{source.path}: "
                print(visible(f"{name}{error}"), file=sys.stderr)
                continue
            advance(start_s + found.duration_s - done_s)
            num_done += 1
            use(source, replace(found, file=source.path))
    if summary:
        log.info(f"transcribed {num_done:,} recordings, {duration_text(done_s)}{summary}")
        if num_failed:
            log.warning(f"{num_failed:,} of {len(sources):,} recordings could not be transcribed: they are named above")
    return 2 if num_failed else 0


def decoded_ahead(
    sources: Sequence[Source], load: Callable[..., Samples], sampling_rate: int
) -> Iterator[tuple[Source, Samples | SpeechtuneError, float]]:
    """Yield each source with its samples, or with the error, and an estimate of the duration of all sources.

    The estimate, in seconds, supposes that those not decoded yet are as large for their duration as the others.
    """
    sizes = [os.path.getsize(s.path) if os.path.isfile(s.path) else 0 for s in sources]  # noqa: PTH202, PTH113
    known_s, known_size = 0.0, 0

    def decode(source: Source) -> Samples | SpeechtuneError:
        try:
            if source.path == STDIN:
                return load(sys.stdin.buffer.read(), name="standard input")
            return load(source.path)
        except AudioError as error:
            return error
        except MemoryError:
            return AudioError(f"{source.path}: does not fit into memory.", reason="too_long")

    with ThreadPoolExecutor(1) if len(sources) > 1 else nullcontext() as pool:
        ahead = pool.submit(decode, sources[0]) if pool else None
        for number, source in enumerate(sources):
            samples = ahead.result() if ahead else decode(source)
            ahead = pool.submit(decode, sources[number + 1]) if pool and number + 1 < len(sources) else None
            if not isinstance(samples, SpeechtuneError):
                known_s += len(samples) / sampling_rate
                known_size += sizes[number]
            yield source, samples, known_s / known_size * sum(sizes) if known_size else known_s
