"""Tiny corpora in the layouts of their publishers, with real audio files of 0.6 to 2 seconds.

`lay_out(root, "common_voice/tr", ...)` writes folders as Mozilla, OpenSLR and the LDC ship them, so that the README's
plain dataset names resolve under SPEECHTUNE_CORPORA=root. The audio is a tone in noise: what is said doesn't matter to
tests that take two optimiser steps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import soundfile as sf

from standins.sentences import SENTENCES

MIN_S = 0.6
S_PER_CHARACTER = 0.055  # about three encoder frames of 20 ms a character: CTC always has room


def lay_out(root: Path, names: Iterable[str]) -> None:
    """Write the corpora of `names` (keys of WRITERS) under `root`.

    Raises:
        KeyError: no stand-in corpus has that name.
    """
    for name in names:
        WRITERS[name](root)


def duration_of(text: str) -> float:
    """Seconds that a stand-in recording of `text` lasts."""
    return max(MIN_S, S_PER_CHARACTER * len(text))


def tone(name: str, duration_s: float, sampling_rate: int) -> np.ndarray:
    """A tone in noise, float32 (num_samples,), the same for the same name."""
    seed = int.from_bytes(hashlib.sha1(name.encode()).digest()[:4], "big")
    rng = np.random.default_rng(seed)
    t_s = np.arange(round(duration_s * sampling_rate)) / sampling_rate
    signal = 0.3 * np.sin(2 * np.pi * rng.uniform(120, 400) * t_s) + 0.05 * rng.standard_normal(len(t_s))
    return signal.astype(np.float32)


def write_audio(path: Path, text: str, sampling_rate: int) -> float:
    """Write the recording of `text` in the format of the file's suffix; returns its seconds."""
    duration_s = duration_of(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = tone(path.stem + text, duration_s, sampling_rate)
    if path.suffix == ".mp3":
        sf.write(path, samples, sampling_rate, format="MP3", subtype="MPEG_LAYER_III")
    else:
        sf.write(path, samples, sampling_rate)
    return duration_s


# --- Common Voice (Mozilla) ---------------------------------------------------------------------------------------

CV_COLUMNS = ["client_id", "path", "sentence", "up_votes", "down_votes", "age", "gender", "accent", "locale", "segment"]
CV_SPLIT_SIZES = {"train": 10, "dev": 8, "test": 8, "other": 1, "invalidated": 1}


def write_common_voice(root: Path, *, language: str, release: str) -> None:
    """cv-corpus-<release>/<language>/{clips/*.mp3, train.tsv, dev.tsv, test.tsv, ...}, MP3 at 48 kHz as in 6.1."""
    folder = root / f"cv-corpus-{release}" / language
    sentences = SENTENCES[language]
    rows: dict[str, list[list[str]]] = {}
    number = 20_000_000
    for split, size in CV_SPLIT_SIZES.items():
        for index in range(size):
            text = sentences[(index + len(rows) * 3) % len(sentences)]
            number += 7
            file_name = f"common_voice_{language}_{number}.mp3"
            write_audio(folder / "clips" / file_name, text, 48_000)
            speaker = hashlib.sha512(f"{language}{split}{index % 4}".encode()).hexdigest()
            row = [speaker, file_name, text, "2", "0", "twenties", "female", "", language, ""]
            rows.setdefault(split, []).append(row)
    rows["validated"] = rows["train"] + rows["dev"] + rows["test"]
    for split, lines in rows.items():
        content = "\n".join("\t".join(line) for line in [CV_COLUMNS, *lines]) + "\n"
        (folder / f"{split}.tsv").write_text(content, encoding="utf-8")
    (folder / "reported.tsv").write_text("sentence\tsentence_id\tlocale\treason\n", encoding="utf-8")


# --- LibriSpeech (OpenSLR 12) -------------------------------------------------------------------------------------


def write_librispeech(root: Path, *, subsets: tuple[str, ...] = ("train-clean-100", "dev-clean", "test-clean")) -> None:
    """LibriSpeech/<subset>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac and one .trans.txt a chapter."""
    base = root / "LibriSpeech"
    speakers = []
    for subset_index, subset in enumerate(subsets):
        for speaker_index in range(2):
            speaker = 100 + 10 * subset_index + speaker_index
            chapter = 120_000 + speaker
            folder = base / subset / str(speaker) / str(chapter)
            lines = []
            for index in range(5):
                text = SENTENCES["en"][(index + 5 * speaker_index) % len(SENTENCES["en"])]
                text = "".join(letter for letter in text.upper() if letter.isalpha() or letter in " '")
                utterance = f"{speaker}-{chapter}-{index:04d}"
                write_audio(folder / f"{utterance}.flac", text, 16_000)
                lines.append(f"{utterance} {text}\n")
            (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines), encoding="utf-8")
            speakers.append(f"{speaker:<4} | F | {subset:<16} | 25.03 | Somebody\n")
    (base / "SPEAKERS.TXT").write_text(";ID  |SEX| SUBSET           |MINUTES| NAME\n" + "".join(speakers))
    (base / "README.TXT").write_text("LibriSpeech ASR corpus (stand-in)\n")


# --- Multilingual LibriSpeech (OpenSLR 94) ------------------------------------------------------------------------


def write_mls(root: Path, *, language: str = "german") -> None:
    """mls_<language>/{train,dev,test}/{audio/<speaker>/<book>/*.flac, transcripts.txt, segments.txt}.

    train/limited_supervision/{9hr,1hr/0..5}/handles.txt name the utterances of the ten-hour subset.
    """
    base = root / f"mls_{language}"
    sentences = SENTENCES["de"]
    for split_index, split in enumerate(("train", "dev", "test")):
        transcripts, segments, handles = [], [], []
        for index in range(12 if split == "train" else 8):
            speaker, book = 1000 + 10 * split_index + index % 2, 5000 + split_index
            handle = f"{speaker}_{book}_{index:06d}"
            text = sentences[(index + 2 * split_index) % len(sentences)].lower()
            text = "".join(letter for letter in text if letter.isalpha() or letter in " '")
            path = base / split / "audio" / str(speaker) / str(book) / f"{handle}.flac"
            duration_s = write_audio(path, text, 16_000)
            transcripts.append(f"{handle}\t{text}\n")
            start_s = 20.0 * index
            url = f"http://www.archive.org/download/somebook_{book}_64kb.mp3"
            segments.append(f"{handle}\t{url}\t{start_s:.2f}\t{start_s + duration_s:.2f}\n")
            handles.append(handle)
        (base / split / "transcripts.txt").write_text("".join(transcripts), encoding="utf-8")
        (base / split / "segments.txt").write_text("".join(segments), encoding="utf-8")
        if split == "train":
            _write_limited_supervision(base / split / "limited_supervision", handles)
    header = " SPEAKER | GENDER | PARTITION | MINUTES | BOOK ID | TITLE | CHAPTER\n"
    (base / "metainfo.txt").write_text(header, encoding="utf-8")


def _write_limited_supervision(folder: Path, handles: list[str]) -> None:
    subsets = {"9hr": handles[:4], **{f"1hr/{fold}": [handles[4 + fold]] for fold in range(6)}}
    for name, members in subsets.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "handles.txt").write_text("".join(f"{handle}\n" for handle in members))


# --- TIMIT (LDC93S1) ----------------------------------------------------------------------------------------------


def write_timit(root: Path, *, upper: bool = True) -> None:
    """TIMIT/{TRAIN,TEST}/DR<n>/<speaker>/<sentence>.{WAV,TXT,WRD,PHN}; SPHERE audio despite the name .WAV.

    The LDC's disc has upper-case names; many copies were made lower-case (`upper=False`).
    """
    case: Callable[[str], str] = str.upper if upper else str.lower
    base = root / case("TIMIT")
    for split, speakers in {"train": ["fcjf0", "mdpk0"], "test": ["felc0", "mdab0"]}.items():
        for speaker in speakers:
            folder = base / case(split) / case("dr1") / case(speaker)
            folder.mkdir(parents=True)
            for index in range(5):
                _write_timit_sentence(folder, case, SENTENCES["en"][index], index, speaker)
    doc = base / case("doc")
    doc.mkdir()
    (doc / case("spkrinfo.txt")).write_text("; stand-in\n")


def _write_timit_sentence(folder: Path, case: Callable[[str], str], text: str, index: int, speaker: str) -> None:
    stem = f"sx{index * 90 + 37}" if index else "sa1"
    duration_s = duration_of(text)
    samples = (tone(speaker + text, duration_s, 16_000) * 32767).astype("<i2")
    (folder / case(f"{stem}.wav")).write_bytes(sphere_header(len(samples), 16_000) + samples.tobytes())
    (folder / case(f"{stem}.txt")).write_text(f"0 {len(samples)} {text}\n")
    words = [word.strip(".,?!").lower() for word in text.split()]
    bounds = np.linspace(0, len(samples), len(words) + 1).astype(int)
    lines = [f"{start} {end} {word}\n" for start, end, word in zip(bounds, bounds[1:], words, strict=False)]
    (folder / case(f"{stem}.wrd")).write_text("".join(lines))
    phones = ["h#", "sh", "iy", "hv", "ae", "dcl", "d", "ax-h", "q", "h#"]
    bounds = np.linspace(0, len(samples), len(phones) + 1).astype(int)
    lines = [f"{start} {end} {phone}\n" for start, end, phone in zip(bounds, bounds[1:], phones, strict=False)]
    (folder / case(f"{stem}.phn")).write_text("".join(lines))


def sphere_header(num_samples: int, sampling_rate: int) -> bytes:
    """The 1024 bytes that start a NIST SPHERE file of 16-bit mono PCM."""
    fields = [
        "NIST_1A",
        "   1024",
        "database_id -s5 TIMIT",
        "database_version -s3 1.0",
        "channel_count -i 1",
        f"sample_count -i {num_samples}",
        f"sample_rate -i {sampling_rate}",
        "sample_n_bytes -i 2",
        "sample_byte_format -s2 01",
        "sample_sig_bits -i 16",
        "end_head",
    ]
    return ("\n".join(fields) + "\n").encode("ascii").ljust(1024, b" ")


WRITERS: dict[str, Callable[[Path], None]] = {
    "common_voice/tr": partial(write_common_voice, language="tr", release="6.1-2020-12-11"),
    "common_voice/it": partial(write_common_voice, language="it", release="6.1-2020-12-11"),
    "common_voice/sv-SE": partial(write_common_voice, language="sv-SE", release="6.1-2020-12-11"),
    # Swahili joined Common Voice after 6.1.
    "common_voice/sw": partial(write_common_voice, language="sw", release="11.0-2022-09-21"),
    "common_voice_11_0/hi": partial(write_common_voice, language="hi", release="11.0-2022-09-21"),
    "librispeech_asr": write_librispeech,
    "multilingual_librispeech/german": partial(write_mls, language="german"),
    "timit_asr": write_timit,
}
