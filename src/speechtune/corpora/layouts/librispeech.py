"""LibriSpeech as OpenSLR ships it: LibriSpeech/<subset>/<speaker>/<chapter>/{*.flac, <speaker>-<chapter>.trans.txt}.

Subsets may be unpacked or OpenSLR's archives; an archive is unpacked when its split is read. Configurations and splits
are the hub's: clean (train.100, train.360, validation, test), other (train.500, ...), all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from speechtune.corpora.layout import BadRow, Found, Layout, Reading, Row, folders_in
from speechtune.corpora.lines import numbered_lines

# subset -> configuration -> split
SUBSETS = {
    "train-clean-100": {"clean": "train.100", "all": "train.clean.100"},
    "train-clean-360": {"clean": "train.360", "all": "train.clean.360"},
    "train-other-500": {"other": "train.500", "all": "train.other.500"},
    "dev-clean": {"clean": "validation", "all": "validation.clean"},
    "dev-other": {"other": "validation", "all": "validation.other"},
    "test-clean": {"clean": "test", "all": "test.clean"},
    "test-other": {"other": "test", "all": "test.other"},
}
AUDIO_ENDINGS = (".flac", ".wav", ".opus", ".ogg", ".mp3")


def detect(folder: Path, names: frozenset[str]) -> list[Found]:
    """Detect a folder with subsets, or with their archives."""
    places: dict[str, dict[str, tuple[Path, ...]]] = {"clean": {}, "other": {}, "all": {}}
    for subset, splits in SUBSETS.items():
        name = next((name for name in (subset, f"{subset}.tar.gz") if name in names), None)
        for config, split in splits.items():
            if name:
                places[config][split] = (folder / name,)
    return [
        Found(root=folder, splits=splits, config=config, language="en") for config, splits in places.items() if splits
    ]


# 1272-128104.trans.txt of dev-clean:
# 1272-128104-0000 MISTER QUILTER IS THE APOSTLE OF THE MIDDLE CLASSES AND WE ARE GLAD TO WELCOME HIS GOSPEL
# 1272-128104-0001 NOR IS MISTER QUILTER'S MANNER LESS INTERESTING THAN HIS MATTER
# 1272-128104-0003 HE HAS GRAVE DOUBTS WHETHER SIR FREDERICK LEIGHTON'S WORK IS REALLY GREEK AFTER ALL AND ...
def read(found: Found, split: str, reading: Reading) -> Iterator[Row | BadRow]:
    """Yield the rows of the subset, chapter by chapter."""
    for place in found.splits[split]:
        folder = _unpacked(place, reading)
        genders = _genders(reading.seen(folder.parent / "SPEAKERS.TXT"))
        for speaker in folders_in(reading.seen(folder)):
            for chapter in folders_in(reading.seen(speaker)):
                names = frozenset(entry.name for entry in reading.seen(chapter).iterdir())
                for name in names:
                    if name.endswith(".trans.txt"):
                        yield from _chapter_rows(chapter, name, names, genders, reading)


def _unpacked(place: Path, reading: Reading) -> Path:
    if place.is_dir():
        return place
    subset = place.name.removesuffix(".tar.gz")
    files = reading.unpack(reading.seen(place))
    return next((path for path in (files / "LibriSpeech" / subset, files / subset) if path.is_dir()), files)


def _chapter_rows(
    chapter: Path, table: str, names: frozenset[str], genders: dict[str, str], reading: Reading
) -> Iterator[Row | BadRow]:
    for number, line in numbered_lines(reading.seen(chapter / table)):
        if isinstance(line, BadRow):
            yield line
            continue
        where = f"{table}:{number}"
        id, _, text = line.strip().partition(" ")
        match = re.fullmatch(r"(\d+)-(\d+)-\d+", id)
        if not match:
            yield BadRow(where, f"no utterance id: {id[:50]!r}")
            continue
        file = next((id + ending for ending in AUDIO_ENDINGS if id + ending in names), f"{id}.flac")
        columns = {
            "file": file,
            "text": text,
            "speaker_id": match[1],
            "chapter_id": match[2],
            "id": id,
            "gender": genders.get(match[1]),
        }
        yield Row(id=id, audio=str(chapter / file), columns=columns, speaker=match[1], language="en", line=where)


# SPEAKERS.TXT:
# ;ID  |SEX| SUBSET           |MINUTES| NAME
# 14   | F | train-clean-360  | 25.03 | Kristin LeMoine
# 16   | F | train-clean-360  | 25.11 | Alys AtteWater
def _genders(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    fields = [line.split("|") for _, line in numbered_lines(path) if isinstance(line, str) and line[:1].isdigit()]
    return {row[0].strip(): row[1].strip() for row in fields if len(row) > 1}


def _aliases() -> dict[str, tuple[str, ...]]:
    """`train.clean.100`, `train-clean-100` and `dev-clean` are understood in each configuration that has them."""
    return {
        name: tuple(dict.fromkeys(splits.values()))
        for subset, splits in SUBSETS.items()
        for name in (subset, subset.replace("-", "."), splits["all"])
    }


LAYOUT = Layout(
    name="librispeech_asr",
    version=1,
    names=re.compile(r"(?:openslr/)?librispeech(?:_asr)?"),
    default_text_column="text",
    detect=detect,
    read=read,
    how_to_get=(
        "LibriSpeech is free at https://www.openslr.org/12: train-clean-100.tar.gz (6.3 GB), dev-clean.tar.gz,\n"
        "test-clean.tar.gz and others. The archives may stay packed, side by side in one folder."
    ),
    licence="CC-BY-4.0",
    hub_name="openslr/librispeech_asr",
    split_aliases=_aliases(),
    languages={"clean": "en", "other": "en", "all": "en"},
)
