"""FLEURS as google/fleurs holds it: data/<language>/{train,dev,test}.tsv and audio/<split>/*.wav.

The audio may stay in audio/<split>.tar.gz, as it is downloaded; it is unpacked when the split is read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

from speechtune.corpora.layout import BadRow, Found, Layout, Reading, Row
from speechtune.corpora.lines import clip_rows, numbered_lines
from speechtune.errors import CorpusError

COLUMNS = ["id", "file_name", "raw_transcription", "transcription", "characters", "num_samples", "gender"]
TABLES = {"train": "train", "validation": "dev", "test": "test"}
RATE_HZ = 16_000
LANGUAGES = {"cmn_hans_cn": "zh", "nb_no": "no"}  # the code of ISO 639-1, where the name begins with another


def detect(folder: Path, names: frozenset[str]) -> list[Found]:
    """Detect one language's folder: tables of seven nameless columns beside audio/."""
    tables = {split: folder / f"{name}.tsv" for split, name in TABLES.items() if f"{name}.tsv" in names}
    if "audio" not in names or not tables or not any(_is_fleurs(table) for table in tables.values()):
        return []
    return [
        Found(
            root=folder,
            splits={split: (table,) for split, table in tables.items()},
            config=folder.name,
            language=LANGUAGES.get(folder.name) or folder.name.split("_")[0].lower(),
        )
    ]


def _is_fleurs(table: Path) -> bool:
    try:
        _, line = next(numbered_lines(table), (0, ""))
    except CorpusError:
        return False
    fields = line.split("\t") if isinstance(line, str) else []
    return len(fields) == len(COLUMNS) and fields[1].endswith(".wav") and fields[5].isdigit()


# en_us/test.tsv, in this form (tabs between, texts cut here; the fifth column spells the fourth):
# 1904 15936509910437480.wav However, due to the slow ... however due to the slow ... h o w e v e r ... 161280 FEMALE
# 1675 16005226893453312.wav All nouns, alongside the ... all nouns alongside the ... a l l | n ... 220800 MALE
def read(found: Found, split: str, reading: Reading) -> Iterator[Row | BadRow]:
    """Yield the rows of one table."""
    for table in found.splits[split]:
        folder = _audio_folder(found.root / "audio", table.stem, reading)
        for row in clip_rows(reading.table(table, header=0), "file_name", columns=COLUMNS):
            if isinstance(row, BadRow):
                yield row
                continue
            line, name, fields = row
            samples = fields["num_samples"]
            columns: dict[str, str | None] = {key: value for key, value in fields.items() if key != "characters"}
            columns["gender"] = fields["gender"].lower()
            yield Row(
                id=name.removesuffix(".wav"),
                audio=str(folder / name),
                columns=columns,
                duration_s=int(samples) / RATE_HZ if samples.isdigit() and len(samples) < 12 else math.nan,
                language=found.language,
                line=line,
            )


def _audio_folder(audio: Path, name: str, reading: Reading) -> Path:
    if (audio / name).is_dir():
        return audio / name
    for archive in (audio / f"{name}.tar.gz", audio / f"{name}.tar"):
        if archive.is_file():
            files = reading.unpack(reading.seen(archive))
            return files / name if (files / name).is_dir() else files
    return audio / name


LAYOUT = Layout(
    name="fleurs",
    version=1,
    names=re.compile(r"(?:google/)?fleurs"),
    default_text_column="transcription",
    detect=detect,
    read=read,
    how_to_get=(
        "FLEURS is free at https://huggingface.co/datasets/google/fleurs: download data/<language>/, e.g.\n"
        "hf download google/fleurs --repo-type dataset --include 'data/tr_tr/*' --local-dir fleurs"
    ),
    licence="CC-BY-4.0",
    hub_name="google/fleurs",
    languages=LANGUAGES,
)
