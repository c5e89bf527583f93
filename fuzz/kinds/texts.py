"""Damaged texts beside a model: transcripts of long recordings, language models, tables of corrections."""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path
from random import Random

import soundfile
from audio_files import voice, write
from damage import damaged
from reliability.tiny import read_rows

from fuzz.case import Case, Place
from fuzz.commands import any_command, evaluate
from fuzz.material import CORPUS, CTC, NUM_TEST

__all__ = ["make"]

RATE = 16_000
SAID = ["bir iki", "uc dort bes", "alti", "yedi sekiz dokuz on"]
TRANSCRIPTS = {
    "txt": "\n".join(SAID),
    "srt": "\n\n".join(f"{n}\n00:00:0{n},500 --> 00:00:0{n},900\n<i>{text}</i>" for n, text in enumerate(SAID, 1)),
    "vtt": "WEBVTT\n\n" + "\n\n".join(f"00:0{n}.500 --> 00:0{n}.900\n{text}" for n, text in enumerate(SAID, 1)),
    "TextGrid": 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n4\n<exists>\n1\n'
    + '"IntervalTier"\n"words"\n0\n4\n4\n'
    + "\n".join(f'{n}\n{n + 1}\n"{text}"' for n, text in enumerate(SAID)),
    "eaf": "<ANNOTATION_DOCUMENT><TIME_ORDER>"
    + "".join(f'<TIME_SLOT TIME_SLOT_ID="t{n}" TIME_VALUE="{n}000"/>' for n in range(4))
    + "</TIME_ORDER><TIER>"
    + "".join(
        f'<ANNOTATION><ALIGNABLE_ANNOTATION TIME_SLOT_REF1="t{n}"><ANNOTATION_VALUE>{text}</ANNOTATION_VALUE>'
        "</ALIGNABLE_ANNOTATION></ANNOTATION>"
        for n, text in enumerate(SAID)
    )
    + "</TIER></ANNOTATION_DOCUMENT>",
}


def make(place: Place, rng: Random) -> Case:
    return rng.choice((_transcript, _language_model, _corrections))(place, rng)


def _damage(path: Path, content: bytes, rng: Random) -> None:
    """Write a file that is damaged, or none at all."""
    kind = rng.choices(("bytes", "special", "whole"), (8, 1, 1))[0]
    if kind != "special":
        path.write_bytes(damaged(content, rng) if kind == "bytes" else content)
        return
    what = rng.choice(("fifo", "folder", "zero", "loop", "utf-16", "empty", "one line", "binary"))
    if what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what in ("zero", "loop"):
        path.symlink_to("/dev/zero" if what == "zero" else path)
    else:
        odd = {"empty": b"", "one line": b"x " * 3_000_000, "binary": rng.randbytes(5000)}
        path.write_bytes(odd.get(what, content.decode().encode("utf-16")))


def _transcript(place: Place, rng: Random) -> Case:
    """A recording with a text that is hardly in it, and that no format has so."""
    write(place.folder / "long.wav", voice(rng.choice((0.3, 4.0, 9.0)), RATE, seed=rng.randrange(99)), RATE)
    ending = rng.choice(list(TRANSCRIPTS))
    path = place.folder / f"long.{ending}"
    _damage(path, TRANSCRIPTS[ending].encode(), rng)
    given = [str(place.material / CTC), str(place.folder / "long.wav"), str(path)]
    if rng.random() < 0.3:
        more = rng.choice(([], ["--format", "srt"], ["-o", str(place.folder / "out.TextGrid")]))
        return Case([["align", *given, *more]])
    more = rng.choice(([], ["--min_confidence", "0"], ["--min_confidence", "0", "--max_duration_in_seconds", "2"]))
    return Case([["segment", *given, "-o", str(place.output), *more]], check=lambda: _wrong_clips(place.output))


def _wrong_clips(folder: Path) -> list[str]:
    """Return the clips that are not as the table says, or not of the recording."""
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    wrong = []
    for row in rows:
        duration_s = soundfile.info(folder / row["file_name"]).duration
        start_s, end_s = float(row["start_s"]), float(row["end_s"])
        if not row["transcription"].strip() or start_s < 0 or abs(duration_s - (end_s - start_s)) > 0.01:
            wrong.append(f"clip {row['file_name']}: {start_s} to {end_s} s, {duration_s} s long")
    files = {path.name for path in (folder / "clips").iterdir()}
    return wrong + [f"not in the table: {name}" for name in files - {Path(row["file_name"]).name for row in rows}]


def _language_model(place: Place, rng: Random) -> Case:
    from speechtune.text.ngrams.arpa import write_arpa
    from speechtune.text.ngrams.build import build_ngrams

    path = place.folder / "lm.arpa"
    write_arpa(build_ngrams(SAID, order=rng.choice((1, 3)), of_characters=rng.random() < 0.2), path)
    content = path.read_bytes()
    path.unlink()
    if rng.random() < 0.3:
        content = gzip.compress(content)
    elif rng.random() < 0.3:
        content = content.replace(b"\t", b" ")
    _damage(path, content, rng)
    more = ["--lm", str(path), "--num_beams", "8"]
    if rng.random() < 0.5:
        clip = str(place.material / CORPUS / "test" / "000.wav")
        return Case([["transcribe", str(place.material / CTC), clip, *more]])
    return Case([evaluate(place.material / CORPUS, place, *more)], rows=NUM_TEST, row_split="test")


def _corrections(place: Place, rng: Random) -> Case:
    rows = read_rows(place.material / CORPUS / f"{rng.choice(('train', 'test'))}.jsonl")
    texts = ["bir iki", "", "\x1b[31mred", "\u202eevil", "a" * 5000, '"', "a,b", " "]
    names = [str(row["audio"]) for row in rows] + ["nope.wav", "../../outside/diary.wav", "", "/etc/passwd"]
    lines = [f"{rng.choice(names)},{rng.choice(texts)}" for _ in range(rng.randint(1, 5))]
    header = rng.choice(("file,text", "file,text", "id,text", "text", "file"))
    path = place.folder / "fixed.csv"
    _damage(path, "\n".join([header, *lines]).encode(), rng)
    return Case([any_command(place.material / CORPUS, place, rng, "--corrections", str(path))])
