"""An audio folder as `datasets` defines it: metadata.csv or metadata.jsonl with `file_name` beside the audio.

The metadata lies at the root (a `split` column, else the first folder of each file name, tells the split; else all is
`train`) or in folders named after splits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from speechtune.corpora.layout import BadRow, Found, Layout, Reading, Row, canonical_split
from speechtune.corpora.layouts.manifest import (
    first_audio_folders,
    split_values,
    splits_sharing,
    table_rows,
    text_column_of,
)

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.tsv")


def detect(folder: Path, names: frozenset[str]) -> list[Found]:
    """A folder with metadata, or with folders of splits that have it."""
    for name in METADATA:
        if name in names:
            table = folder / name
            splits = split_values(table) or first_audio_folders(table) or ["train"]
            return [Found(folder, dict.fromkeys(splits, (table,)), text_column=text_column_of((table,)))]
    found: dict[str, tuple[Path, ...]] = {}
    for name in sorted(names):
        split = canonical_split(name)
        if split in ("train", "validation", "test"):
            tables = [folder / name / metadata for metadata in METADATA if (folder / name / metadata).is_file()]
            if tables:
                found[split] = (tables[0],)
    ordered: dict[str, tuple[Path, ...]] = {
        split: found[split] for split in ("train", "validation", "test") if split in found
    }
    return [Found(folder, ordered, text_column=text_column_of(*ordered.values()))] if found else []


# metadata.csv of the Free Spoken Digit Dataset, in the form that this project's recipes use:
# file_name,transcription,speaker,split
# recordings/0_george_0.wav,zero,george,test
# recordings/0_george_1.wav,zero,george,test
def read(found: Found, split: str, reading: Reading) -> Iterator[Row | BadRow]:
    """Rows of the split."""
    for table in found.splits[split]:
        yield from table_rows(table, reading, split=split, sharing=splits_sharing(found, table), split_folders=True)


LAYOUT = Layout(
    name="audiofolder",
    version=1,
    names=re.compile(r"(?!)"),
    default_text_column="transcription",
    detect=detect,
    read=read,
    how_to_get="A folder of your own: audio files, and metadata.csv with the columns file_name,transcription.",
    licence="",
    searched=False,
)
