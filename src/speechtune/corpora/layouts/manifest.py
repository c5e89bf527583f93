"""A manifest: one table that names audio files and their transcripts, as CSV, TSV, JSON lines or a JSON list.

A file is a corpus of its own (its splits are the values of a `split` column, else what its name says, else `train`); a
folder with train.csv, dev.csv, test.csv (or .tsv, .jsonl, .json) is one with those splits. Audio paths are relative to
the manifest. Column names of Kaldi-, NeMo-, DeepSpeech- and Hugging Face-style tables are understood.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechtune.corpora.columns import ID_COLUMNS, TEXT_COLUMNS, as_text, first_present, known_facts
from speechtune.corpora.layout import BadRow, Found, Layout, Reading, Row, canonical_split
from speechtune.corpora.lines import count_lines, csv_rows, json_rows
from speechtune.errors import CorpusError

__all__ = [
    "AUDIO_COLUMNS",
    "SUFFIXES",
    "first_audio_folders",
    "split_values",
    "splits_sharing",
    "table_rows",
    "text_column_of",
]

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
AUDIO_COLUMNS = (
    "audio", "file_name", "audio_filepath", "audio_path", "path", "file", "wav", "wav_filename", "filename",
    "audio_file_name",
)  # fmt: skip
ENDING = re.compile(r"\.[A-Za-z0-9]{1,5}$")
NAMED_SPLIT = re.compile(r"(train|training|dev|valid|validation|val|test)(?:[-_.].*)?", re.IGNORECASE)


def detect(folder: Path, names: frozenset[str]) -> list[Found]:
    """A manifest file, or a folder of manifests named after splits."""
    if not names and folder.suffix.lower() in SUFFIXES and folder.is_file():
        return [Found(root=folder.parent, splits=_splits_of(folder), text_column=text_column_of((folder,)))]
    splits: dict[str, tuple[Path, ...]] = {}
    for name in sorted(names):
        stem, dot, suffix = name.rpartition(".")
        match = NAMED_SPLIT.fullmatch(stem)
        if match and dot + suffix.lower() in SUFFIXES:
            split = canonical_split(match[1])
            splits[split] = (*splits.get(split, ()), folder / name)
    ordered: dict[str, tuple[Path, ...]] = {
        split: splits[split] for split in ("train", "validation", "test") if split in splits
    }
    return [Found(root=folder, splits=ordered, text_column=text_column_of(*ordered.values()))] if splits else []


def _splits_of(path: Path) -> dict[str, tuple[Path, ...]]:
    values = split_values(path)
    if values:
        return dict.fromkeys(values, (path,))
    match = NAMED_SPLIT.fullmatch(path.stem)
    return {canonical_split(match[1]) if match else "train": (path,)}


def split_values(path: Path) -> list[str]:
    """Values of the `split` column in order of appearance, canonical; [] where there is no such column."""
    values: dict[str, None] = {}
    for _, fields in _raw_rows(path):
        if isinstance(fields, BadRow):
            continue
        if "split" not in fields and path.suffix.lower() in (".csv", ".tsv"):
            return []
        value = fields.get("split")
        if isinstance(value, str) and value:
            values[canonical_split(value)] = None
        if len(values) > 50:
            return []  # not a split but something else of that name
    return list(values)


def first_audio_folders(path: Path) -> list[str]:
    """Splits named by the first folder of each audio path (`train/0001.wav`); [] where one path begins otherwise."""
    values: dict[str, None] = {}
    for _, fields in _raw_rows(path):
        if isinstance(fields, BadRow) or not (column := first_present(fields, AUDIO_COLUMNS)):
            continue
        split = canonical_split((_audio_path(fields[column]) or "").partition("/")[0])
        if split not in ("train", "validation", "test"):
            return []
        values[split] = None
    return list(values)


def text_column_of(*tables: tuple[Path, ...]) -> str | None:
    """The likeliest transcript column of a table's first usable row; None where there is none."""
    for path in (path for paths in tables for path in paths):
        for _, fields in _raw_rows(path):
            if isinstance(fields, dict):
                return next((name for name in TEXT_COLUMNS if name in fields), None)
    return None


# fsdd/metadata.csv; a NeMo manifest; a DeepSpeech table:
# recordings/0_george_0.wav,zero,george,test
# {"audio_filepath": "clips/1.wav", "duration": 3.1, "text": "so ist es"}
# /data/ldc93s1.wav,93638,she had your dark suit in greasy wash water all year
def read(found: Found, split: str, reading: Reading) -> Iterator[Row | BadRow]:
    """Rows of the split's tables.

    Raises:
        CorpusError: no column names the audio.
    """
    for path in found.splits[split]:
        yield from table_rows(path, reading, split=split, sharing=splits_sharing(found, path))


def splits_sharing(found: Found, table: Path) -> list[str]:
    """Splits whose rows lie in this table; a single one has all of them."""
    return [split for split, tables in found.splits.items() if table in tables]


def table_rows(
    path: Path, reading: Reading, *, split: str, sharing: list[str], split_folders: bool = False
) -> Iterator[Row | BadRow]:
    """Rows of one manifest.

    Args:
        path: .csv, .tsv, .jsonl or .json.
        reading: names the audio column; `audio` means whichever is there.
        split: the rows that are wanted.
        sharing: splits in this table; with several, the `split` column is asked. Lines that belong to none of them
            are counted with the first.
        split_folders: without a `split` column, the first folder of the audio's path tells the split.

    Raises:
        CorpusError: no column names the audio.
    """
    reading.seen(path)
    reading.expected += max(0, count_lines(path) - 1)
    candidates = AUDIO_COLUMNS if reading.audio_column == "audio" else (reading.audio_column,)
    checked = False
    for number, fields in _raw_rows(path):
        where = f"{path.name}:{number}"
        if isinstance(fields, BadRow):
            if split == sharing[0]:
                yield fields
            continue
        column = first_present(fields, candidates)
        if column is None:
            if not checked:
                raise CorpusError(_no_audio_column(path, reading.audio_column, fields))
            if split == sharing[0]:
                yield BadRow(where, "no audio in this row")
            continue
        checked = True
        if len(sharing) > 1:
            own = _split_of(fields, column, split_folders)
            if own not in sharing and split == sharing[0]:
                yield BadRow(where, f"it belongs to no split: {str(own)[:50]}")
            if own != split:
                continue
        yield _row(path, where, fields, column)


def _raw_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    if path.suffix.lower() in (".jsonl", ".json"):
        yield from json_rows(path)
    else:
        yield from csv_rows(path, "\t" if path.suffix.lower() == ".tsv" else None)


def _split_of(fields: dict[str, Any], column: str, split_folders: bool) -> str | None:
    value = fields.get("split")
    if isinstance(value, str):
        return canonical_split(value)
    if split_folders:
        return canonical_split(str(_audio_path(fields[column])).replace("\\", "/").partition("/")[0])
    return None


def _audio_path(value: Any) -> str | None:
    """The path in an audio column: text, or {"path": ...} as `datasets` writes it."""
    if isinstance(value, dict):
        value = value.get("path")
    return value if isinstance(value, str) and value else None


def _row(path: Path, where: str, fields: dict[str, Any], column: str) -> Row | BadRow:
    audio = _audio_path(fields[column])
    if audio is None or "\x00" in audio:
        return BadRow(where, f"column '{column}' is no path")
    columns = {name: as_text(value) for name, value in fields.items() if not name.startswith("#")}
    id_column = first_present(columns, ID_COLUMNS)
    return Row(
        id=(columns[id_column] or "") if id_column else ENDING.sub("", audio),
        audio=os.path.normpath(path.parent / os.path.expanduser(audio)),  # noqa: PTH111
        columns=columns,
        **known_facts(columns),
    )


def _no_audio_column(path: Path, wanted: str, fields: dict[str, Any]) -> str:
    what = "no column that names the audio" if wanted == "audio" else f"no column '{wanted}'"
    return (
        f"{path}: {what}.\nColumns: {', '.join(map(str, fields)) or 'none'}.\n"
        f"Name it with --audio_column_name, or call it one of: {', '.join(AUDIO_COLUMNS[:6])}."
    )


LAYOUT = Layout(
    name="manifest",
    version=1,
    names=re.compile(r"(?!)"),
    default_text_column="text",
    detect=detect,
    read=read,
    how_to_get="A table of your own: audio,text and, if you like, speaker,duration,language,split,id.",
    licence="",
    searched=False,
)
