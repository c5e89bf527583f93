"""A manifest: one table that names audio files and their transcripts, as CSV, TSV, JSON lines or a JSON list.

A file is a corpus of its own (its splits are the values of a `split` column, else what its name says, else `train`); a
folder with train.csv, dev.csv, test.csv (or .tsv, .jsonl, .json) is one with those splits. Audio paths are relative to
the manifest. Column names of Kaldi-, NeMo-, DeepSpeech- and Hugging Face-style tables are understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechtune.corpora.columns import ID_COLUMNS, as_text, first_present, known_facts, likely_text_column
from speechtune.corpora.layout import BadRow, Found, Layout, Reading, Row, canonical_split, ordered_splits
from speechtune.corpora.lines import csv_rows, json_rows
from speechtune.errors import AudioError, CorpusError

__all__ = ["AUDIO_COLUMNS", "SUFFIXES", "first_audio_folders", "split_values", "table_rows", "text_column_of"]

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
AUDIO_COLUMNS = (
    "audio", "file_name", "audio_filepath", "audio_path", "path", "file", "wav", "wav_filename", "filename",
    "audio_file_name",
)  # fmt: skip
ENDING = re.compile(r"\.[A-Za-z0-9]{1,5}$")
NAMED_SPLIT = re.compile(r"(train|training|dev|valid|validation|val|test)(?:[-_.].*)?", re.IGNORECASE)
MAX_SPLITS = 50  # a `split` column with more values is something else


def detect(folder: Path, names: frozenset[str]) -> list[Found]:
    """Detect a manifest file, or a folder of manifests named after splits."""
    if not names and folder.suffix.lower() in SUFFIXES and folder.is_file():
        return [Found(root=folder.parent, splits=_splits_of(folder), text_column=text_column_of((folder,)))]
    splits: dict[str, tuple[Path, ...]] = {}
    for name in sorted(names):
        stem, dot, suffix = name.rpartition(".")
        match = NAMED_SPLIT.fullmatch(stem)
        if match and dot + suffix.lower() in SUFFIXES:
            split = canonical_split(match[1])
            splits[split] = (*splits.get(split, ()), folder / name)
    splits = ordered_splits(splits)
    return [Found(root=folder, splits=splits, text_column=text_column_of(*splits.values()))] if splits else []


def _splits_of(path: Path) -> dict[str, tuple[Path, ...]]:
    if values := split_values(path):
        return dict.fromkeys(values, (path,))
    match = NAMED_SPLIT.fullmatch(path.stem)
    return {canonical_split(match[1]) if match else "train": (path,)}


def split_values(path: Path) -> list[str]:
    """Return the values of the `split` column in order of appearance, canonical; [] if there is no such column."""
    values: dict[str, None] = {}
    for _, fields in _raw_rows(path):
        if isinstance(fields, BadRow):
            continue
        if "split" not in fields and path.suffix.lower() in (".csv", ".tsv"):
            return []
        value = fields.get("split")
        if isinstance(value, str) and value:
            values[canonical_split(value)] = None
        if len(values) > MAX_SPLITS:
            return []
    return list(values)


def first_audio_folders(path: Path) -> list[str]:
    """Return the splits named by the first folder of each audio path (`train/1.wav`); [] if one path has none."""
    values: dict[str, None] = {}
    for _, fields in _raw_rows(path):
        if isinstance(fields, BadRow) or not (column := first_present(fields, AUDIO_COLUMNS)):
            continue
        split = _first_folder(_audio_name(fields[column]) or "")
        if split not in ("train", "validation", "test"):
            return []
        values[split] = None
    return list(values)


def text_column_of(*tables: tuple[Path, ...]) -> str | None:
    """Return the likeliest transcript column of the first usable row; None if there is none."""
    for path in (path for paths in tables for path in paths):
        for _, fields in _raw_rows(path):
            if isinstance(fields, dict):
                return likely_text_column(fields)
    return None


# fsdd/metadata.csv; a NeMo manifest; a DeepSpeech table:
# recordings/0_george_0.wav,zero,george,test
# {"audio_filepath": "clips/1.wav", "duration": 3.1, "text": "so ist es"}
# /data/ldc93s1.wav,93638,she had your dark suit in greasy wash water all year
def read(found: Found, split: str, reading: Reading) -> Iterator[Row | BadRow]:
    """Yield the rows of the split's tables.

    Raises:
        CorpusError: no column names the audio.
    """
    for path in found.splits[split]:
        yield from table_rows(found, path, split, reading, absolute_paths=True)


def table_rows(
    found: Found,
    path: Path,
    split: str,
    reading: Reading,
    *,
    absolute_paths: bool = False,
    split_folders: bool = False,
) -> Iterator[Row | BadRow]:
    """Yield the rows of one manifest that belong to a split.

    If several splits share the table, its `split` column tells them apart. Damaged lines are counted with the split
    that their text names, or with the first one.

    Args:
        reading: names the audio column; `audio` means whichever is there.
        absolute_paths: audio may be anywhere if its path is absolute.
        split_folders: without a `split` column, the first folder of the audio's path tells the split.

    Raises:
        CorpusError: no column names the audio.
    """
    candidates = AUDIO_COLUMNS if reading.audio_column == "audio" else (reading.audio_column,)
    sharing = [name for name, tables in found.splits.items() if path in tables]
    column_known = False
    for number, fields in _raw_rows(reading.table(path)):
        line = f"{path.name}:{number}"
        if isinstance(fields, BadRow):
            if split == _split_of_text(fields.text, sharing, split_folders):
                yield fields
            continue
        column = first_present(fields, candidates)
        if column is None and not column_known:
            raise CorpusError(_no_audio_column(path, reading.audio_column, fields))
        column_known = True
        own = _split_of(fields, column, split_folders) if len(sharing) > 1 else split
        if own not in sharing:
            if split == sharing[0]:
                yield BadRow(line, f"it belongs to no split: {str(own)[:50]}")
        elif own == split:
            yield _row(found.root, path, line, fields, column, reading, absolute_paths)


def _raw_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    if path.suffix.lower() in (".jsonl", ".json"):
        yield from json_rows(path)
    else:
        yield from csv_rows(path, "\t" if path.suffix.lower() == ".tsv" else None)


def _split_of(fields: dict[str, Any], column: str | None, split_folders: bool) -> str | None:
    value = fields.get("split")
    if isinstance(value, str):
        return canonical_split(value)
    if split_folders and column:
        return _first_folder(_audio_name(fields[column]) or "")
    return None


def _split_of_text(text: str, sharing: list[str], split_folders: bool) -> str:
    """Return the split that a damaged line names in one of its fields; the first where it names none or several."""
    fields = [field.strip() for field in re.split(r'[,;|\t"{}:]+', text)]
    named = {_first_folder(field) if split_folders else canonical_split(field) for field in fields} & set(sharing)
    return named.pop() if len(named) == 1 else sharing[0]


def _first_folder(name: str) -> str:
    return canonical_split(name.replace("\\", "/").partition("/")[0])


def _audio_name(value: Any) -> str | None:
    """Return the path in an audio column: text, or {"path": ...} as `datasets` writes it."""
    if isinstance(value, dict):
        value = value.get("path")
    return value if isinstance(value, str) and value else None


def _row(
    root: Path, table: Path, line: str, fields: dict[str, Any], column: str | None, reading: Reading, absolute: bool
) -> Row | BadRow:
    if column is None:
        return BadRow(line, "no audio in this row")
    name = _audio_name(fields[column])
    if name is None or "\x00" in name:
        return BadRow(line, f"column '{column}' is no path")
    columns = {name: as_text(value) for name, value in fields.items() if not name.startswith("#")}
    id_column = first_present(columns, ID_COLUMNS)
    id = (columns[id_column] or "") if id_column else ENDING.sub("", name)
    try:
        audio = reading.audio_path(name, table.parent, root, absolute=absolute)
    except AudioError as error:
        return BadRow(line, str(error), error.reason, id=id)
    return Row(id=id, audio=audio, columns=columns, line=line, **known_facts(columns))


def _no_audio_column(path: Path, wanted: str, fields: dict[str, Any]) -> str:
    what = "no column that names the audio" if wanted == "audio" else f"no column '{wanted}'"
    return (
        f"{path}: {what}.\nColumns: {', '.join(map(str, fields)) or 'none'}.\n"
        f"Name it with --audio_column_name, or call it one of: {', '.join(AUDIO_COLUMNS[:6])}."
    )


LAYOUT = Layout(
    name="manifest",
    version=2,
    default_text_column="text",
    detect=detect,
    read=read,
    how_to_get="A table of your own: audio,text and, if you like, speaker,duration,language,split,id.",
    searched=False,
)
