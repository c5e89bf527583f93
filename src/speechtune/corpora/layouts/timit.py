"""TIMIT as the LDC ships it: TIMIT/{TRAIN,TEST}/DR<1-8>/<speaker>/<sentence>.{WAV,TXT,WRD,PHN}.

The audio is NIST SPHERE in spite of its name. Copies with lower-case names, and the one with RIFF files beside
(SA1.WAV.wav), are read as well. As on the hub, train has all 4620 and test all 1680 sentences, the two `SA` sentences
that every speaker reads included. `phones` holds the 61 labels of the .PHN file, space-separated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from speechtune.corpora.layout import BadRow, Found, Layout, Reading, Row, folders_in, names_in
from speechtune.corpora.lines import numbered_lines
from speechtune.errors import CorpusError


def detect(folder: Path, names: frozenset[str]) -> list[Found]:
    """Detect a folder with TRAIN or TEST that has dialect regions."""
    splits: dict[str, tuple[Path, ...]] = {}
    for split in ("train", "test"):
        for name in sorted(names):
            if name.lower() == split and _regions(folder / name):
                splits.setdefault(split, (folder / name,))
    return [Found(root=folder, splits=splits, language="en")] if splits else []


def _regions(folder: Path) -> list[Path]:
    return [folder / name for name in names_in(folder) if re.fullmatch(r"dr[1-8]", name, re.IGNORECASE)]


# TEST/DR1/FAKS0/SA1.TXT, and the first lines of the .WRD and the .PHN beside it (begin and end in samples):
# 0 63488 She had your dark suit in greasy wash water all year.
# 9640 12783 she
# 0 9640 h#
def read(found: Found, split: str, reading: Reading) -> Iterator[Row | BadRow]:
    """Yield rows by dialect region, speaker and sentence."""
    for place in found.splits[split]:
        reading.expected += 4620 if split == "train" else 1680
        for region in _regions(reading.seen(place)):
            for speaker in folders_in(reading.seen(region)):
                yield from _speaker_rows(reading.seen(speaker), region.name.upper())


def _speaker_rows(folder: Path, region: str) -> Iterator[Row | BadRow]:
    files = {path.name.upper(): path.name for path in folder.iterdir()}
    sentences = sorted({name.split(".")[0] for name in files if name.endswith((".WAV", ".WAV.WAV"))})
    speaker = folder.name.upper()
    for sentence in sentences:
        audio = files.get(f"{sentence}.WAV") or files[f"{sentence}.WAV.WAV"]
        where = f"{region}/{speaker}/{sentence}"
        labels: dict[str, list[tuple[int, int, str]]] = {}
        problem = ""
        for kind in ("TXT", "WRD", "PHN"):
            name = files.get(f"{sentence}.{kind}")
            try:
                labels[kind] = _labels(folder / name) if name else []
            except (ValueError, CorpusError) as error:
                problem = f"{name}: {error}"
        if problem or not labels["TXT"]:
            problem = problem or f"no transcript: {sentence}.TXT is missing or empty"
            yield BadRow(where, problem, id=f"{speaker}_{sentence}")
            continue
        columns = {
            "file": audio,
            "text": labels["TXT"][0][2],
            "phones": " ".join(label for _, _, label in labels["PHN"]),
            "phonetic_detail": _detail(labels["PHN"]),
            "word_detail": _detail(labels["WRD"]),
            "dialect_region": region,
            "sentence_type": sentence[:2],
            "speaker_id": speaker,
            "id": sentence,
        }
        yield Row(
            id=f"{speaker}_{sentence}", audio=str(folder / audio), columns=columns, speaker=speaker, language="en"
        )


def _labels(path: Path) -> list[tuple[int, int, str]]:
    """[(first sample, sample after the last, label)] of a .TXT, .WRD or .PHN file.

    Raises:
        ValueError: a line is not of that form.
    """
    labels = []
    for number, line in numbered_lines(path):
        fields = line.split(maxsplit=2) if isinstance(line, str) else []
        if len(fields) < 3 or not (fields[0].lstrip("-").isdigit() and fields[1].lstrip("-").isdigit()):
            raise ValueError(f"line {number} is not 'begin end label'")
        labels.append((int(fields[0]), int(fields[1]), fields[2].strip()))
    return labels


def _detail(labels: list[tuple[int, int, str]]) -> str:
    """As the hub's columns of that name, in JSON."""
    starts, stops, names = zip(*labels, strict=True) if labels else ((), (), ())
    return json.dumps({"start": starts, "stop": stops, "utterance": names})


LAYOUT = Layout(
    name="timit_asr",
    version=1,
    names=re.compile(r"timit(?:_asr)?"),
    default_text_column="text",
    detect=detect,
    read=read,
    how_to_get="TIMIT is sold by the LDC: https://catalog.ldc.upenn.edu/LDC93S1. Its archive may stay packed.",
    licence="LDC User Agreement for Non-Members",
    archives=re.compile(r"(?:timit.*|LDC93S1.*)\.(?:zip|tgz|tar\.gz|tar)", re.IGNORECASE),
)
