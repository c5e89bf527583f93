"""Shards: a folder of train-00000-of-00002.tar (WebDataset) or .parquet files with the audio inside."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from speechtune.corpora.cache import fingerprint, stamp
from speechtune.corpora.columns import likely_text_column
from speechtune.corpora.layout import BadRow, Found, Layout, Reading, Row, Shard, canonical_split, names_in
from speechtune.corpora.shard_files import arrow_copy, arrow_rows, open_parquet, parquet_rows, tar_rows
from speechtune.errors import CorpusError

SHARD = re.compile(
    r"(?P<split>.*?)[-_.]?(?P<number>\d+)?(?:-of-(?P<count>\d+))?(?:-[0-9a-f]{8,})?"
    r"\.(?:parquet|tar|tar\.gz|tgz|tar\.bz2|tar\.xz)"
)


def detect(folder: Path, names: frozenset[str]) -> list[Found]:
    """A folder with shards, or whose folders have them: `data`, or one a configuration."""
    if not names:  # a single file
        if folder.suffix in (".parquet", ".tar") and _is_shard(folder):
            return [_found(folder.parent, [folder])]
        return []
    own = [folder / name for name in sorted(names) if SHARD.fullmatch(name)]
    if own and _is_shard(own[0]):
        return [_found(folder, own)]
    found: list[Found] = []
    for name in sorted(names)[:1000]:
        below = folder / name
        if name.startswith(".") or not below.is_dir():
            continue
        shards = [below / own for own in names_in(below) if SHARD.fullmatch(own)]
        if shards and _is_shard(shards[0]):
            found.append(_found(below, shards, None if name == "data" else name))
    return found


def _is_shard(path: Path) -> bool:
    """A Parquet file, or a tar whose first records have audio beside text; other archives hold corpora in folders."""
    if path.suffix == ".parquet":
        return True
    try:
        for number, row in enumerate(tar_rows(path)):
            if isinstance(row, Row):
                return bool(row.columns)
            if number > 3:
                return False
    except CorpusError:
        return bool(re.search(r"\d", path.stem))  # torn: reading it will report that, if its name is a shard's
    return False


def _found(root: Path, paths: Sequence[Path], config: str | None = None) -> Found:
    """Shards by the split that their names begin with; a name that is only a number belongs to `train`."""
    splits: dict[str, tuple[Path, ...]] = {}
    for path in paths:
        match = SHARD.fullmatch(path.name)
        split = canonical_split(match["split"]) if match and match["split"] else "train"
        splits[split] = (*splits.get(split, ()), path)
    return Found(root=root, splits=splits, config=config, text_column=_text_column(paths[0]))


def _text_column(path: Path) -> str | None:
    if path.suffix != ".parquet":
        return None
    try:
        names = open_parquet(path).schema_arrow.names
    except CorpusError:
        return None
    return likely_text_column(names)


# The members of two records of a tar shard, and the columns of a Parquet shard of the hub:
# 000000.flac 000000.txt
# 000001.flac 000001.json   {"text": "merhaba", "speaker": "s1"}
# audio: struct<bytes: binary, path: string>, text: string, speaker_id: int64
def read(found: Found, split: str, reading: Reading) -> Iterator[Row | BadRow]:
    """Yield the rows of all shards of the split; audio stays in a tar, and is copied once out of a Parquet file.

    Raises:
        CorpusError: a shard is torn, missing, or compressed.
    """
    paths = found.splits[split]
    check_shards(paths)
    for path in paths:
        reading.seen(path)
        key = fingerprint(stamp(path))
        if path.suffix == ".parquet":
            arrow = arrow_copy(path, reading.cache)
            yield from arrow_rows(path, arrow, audio_column=reading.audio_column, key=key)
        elif path.suffix == ".tar":
            yield from tar_rows(path, audio_column=reading.audio_column, key=key)
        else:
            raise CorpusError(
                f"{path}: a compressed shard can only be read as a stream.\n"
                "Unpack it to .tar (speech is compressed already), or use --streaming."
            )


def check_shards(paths: Sequence[Path]) -> None:
    """Check every shard before any is used: its end, where a torn one shows, and gaps in the numbers.

    Raises:
        CorpusError: names the shard and its last good record, or the shards that are missing.
    """
    for path in paths:
        if not path.is_file():
            raise CorpusError(f"{path}: no such shard.")
        if path.suffix == ".parquet":
            open_parquet(path)
        elif path.suffix == ".tar" and not _ends_well(path):
            for _ in tar_rows(path):
                pass  # finds the last good record, and raises
    _check_numbers(paths)


def _ends_well(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1024))
        return size >= 1024 and size % 512 == 0 and not file.read().strip(b"\x00")


def _check_numbers(paths: Sequence[Path]) -> None:
    series: dict[tuple[Path, str, int], set[int]] = {}
    for path in paths:
        match = SHARD.fullmatch(path.name)
        if match and match["count"] and match["number"]:
            series.setdefault((path.parent, match["split"], int(match["count"])), set()).add(int(match["number"]))
    for (folder, split, count), numbers in series.items():
        missing = [number for number in range(min(count, 100_000)) if number not in numbers]
        if missing:
            shown = ", ".join(f"{number:05d}" for number in missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise CorpusError(
                f"{folder}: {len(missing)} of {count} shards of '{split}' are missing: {shown}.\nDownload them again."
            )


def stream(found: Found, splits: Sequence[str], reading: Reading) -> list[Shard]:
    """Return the shards of these splits, one after the other."""
    paths = [path for split in splits for path in found.splits[split]]
    check_shards(paths)
    return [
        functools.partial(
            parquet_rows if path.suffix == ".parquet" else tar_rows,
            path,
            audio_column=reading.audio_column,
            key=fingerprint(stamp(path)),
        )
        for path in paths
    ]


LAYOUT = Layout(
    name="shards",
    version=1,
    default_text_column="text",
    detect=detect,
    read=read,
    how_to_get="Shards of your own: train-00000-of-00002.tar with 0001.wav and 0001.txt, or Parquet with audio bytes.",
    stream=stream,
    searched=False,
)
