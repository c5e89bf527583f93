"""An audio folder as `datasets` defines it: metadata.csv or metadata.jsonl with `file_name` beside the audio.

The metadata is at the root (a `split` column, else the first folder of each file name, tells the split; else all is
`train`) or in folders named after splits: train, validation, test, and beside them any other that has metadata, such as
what `speechtune pseudo-label` wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from speechtune.corpora.layout import BadRow, Found, Layout, Reading, Row, canonical_split, ordered_splits
from speechtune.corpora.layouts.manifest import first_audio_folders, split_values, table_rows, text_column_of

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.tsv")


def detect(folder: Path, names: frozenset[str]) -> list[Found]:
    """Detect a folder with metadata, or with folders of splits that have it."""
    for name in METADATA:
        if name in names:
            table = folder / name
            splits = split_values(table) or first_audio_folders(table) or ["train"]
            return [Found(folder, dict.fromkeys(splits, (table,)), text_column=text_column_of((table,)))]
    places = {
        canonical_split(name): (table,)
        for name in sorted(names)
        for metadata in reversed(METADATA)
        if (table := folder / name / metadata).is_file()
    }
    usual = ordered_splits(places)
    found = {**usual, **places} if usual else {}
    return [Found(folder, found, text_column=text_column_of(*found.values()))] if found else []


# metadata.csv of the Free Spoken Digit Dataset, in the form that this project's recipes use:
# file_name,transcription,speaker,split
# recordings/0_george_0.wav,zero,george,test
# recordings/0_george_1.wav,zero,george,test
def read(found: Found, split: str, reading: Reading) -> Iterator[Row | BadRow]:
    """Yield the rows of the split."""
    for table in found.splits[split]:
        yield from table_rows(found, table, split, reading, split_folders=True)


LAYOUT = Layout(
    name="audiofolder",
    version=2,
    default_text_column="transcription",
    detect=detect,
    read=read,
    how_to_get="A folder of your own: audio files, and metadata.csv with the columns file_name,transcription.",
    searched=False,
)
