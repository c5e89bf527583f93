"""Shards: a folder of train-00000-of-00002.tar (WebDataset) or .parquet files with the audio inside.

`open_corpus(folder).read(...)` gives random access like any other corpus; `ShardStream` reads them in order, for
corpora that are too large to index or lie on slow disks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from speechtune.corpora.cache import fingerprint, stamp
from speechtune.corpora.columns import TEXT_COLUMNS
from speechtune.corpora.layout import BadRow, Found, Layout, Reading, Row, canonical_split, names_in
from speechtune.corpora.parquet_shard import arrow_copy, open_parquet, packed_rows, parquet_rows
from speechtune.corpora.stream import UtteranceStream
from speechtune.corpora.tar_shard import packed_tar_rows, tar_rows
from speechtune.errors import CorpusError

__all__ = ["ShardStream", "check_shards"]

TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
SHARD = re.compile(
    r"(?P<split>.*?)[-_.]?(?P<number>\d+)?(?:-of-(?P<count>\d+))?(?:-[0-9a-f]{8,})?"
    r"\.(?:parquet|tar|tar\.gz|tgz|tar\.bz2|tar\.xz)"
)


def detect(folder: Path, names: frozenset[str]) -> list[Found]:
    """A folder with shards, or whose folders have them: `data`, or one a configuration."""
    if not names:  # a single file
        if folder.suffix == ".parquet" or (folder.suffix == ".tar" and _is_shard(folder)):
            return [_found(folder.parent, _splits([folder]))]
        return []
    own = [folder / name for name in sorted(names) if SHARD.fullmatch(name)]
    if own and (own[0].suffix == ".parquet" or _is_shard(own[0])):
        return [_found(folder, _splits(own))]
    found: list[Found] = []
    for name in sorted(names)[:1000]:
        below = folder / name
        if name.startswith(".") or not below.is_dir():
            continue
        shards = [below / own for own in names_in(below) if SHARD.fullmatch(own)]
        if shards and (shards[0].suffix == ".parquet" or _is_shard(shards[0])):
            found.append(_found(below, _splits(shards), None if name == "data" else name))
    return found


def _found(root: Path, splits: dict[str, tuple[Path, ...]], config: str | None = None) -> Found:
    first = next(iter(splits.values()))[0]
    return Found(root=root, splits=splits, config=config, text_column=_text_column(first))


def _splits(paths: Sequence[Path]) -> dict[str, tuple[Path, ...]]:
    """Shards by the split that their names begin with; a name that is only a number belongs to `train`."""
    splits: dict[str, tuple[Path, ...]] = {}
    for path in paths:
        match = SHARD.fullmatch(path.name)
        split = canonical_split(match["split"]) if match and match["split"] else "train"
        splits[split] = (*splits.get(split, ()), path)
    return splits


def _is_shard(path: Path) -> bool:
    """A tar whose first records have audio beside text; other archives hold corpora in folders."""
    try:
        for number, row in tar_rows(path):
            if isinstance(row, Row):
                return bool(row.columns)
            if number > 3:
                return False
    except CorpusError:
        return bool(re.search(r"\d", path.stem))  # torn: say so when it is read, if its name is a shard's
    return False


def _text_column(path: Path) -> str | None:
    if path.suffix == ".parquet":
        try:
            names = open_parquet(path).schema_arrow.names
        except CorpusError:
            return None
        return next((name for name in TEXT_COLUMNS if name in names), None)
    return None


# The members of two records of a tar shard, and the columns of a Parquet shard of the hub:
# 000000.flac 000000.txt
# 000001.flac 000001.json   {"text": "merhaba", "speaker": "s1"}
# audio: struct<bytes: binary, path: string>, text: string, speaker_id: int64
def read(found: Found, split: str, reading: Reading) -> Iterator[Row | BadRow]:
    """Rows of all shards of the split; audio stays in a tar, and is copied once out of a Parquet file.

    Raises:
        CorpusError: a shard is torn, missing, or compressed.
    """
    check_shards(found.splits[split])
    for path in found.splits[split]:
        reading.seen(path)
        key = fingerprint(stamp(path))
        if path.suffix == ".parquet":
            copy = arrow_copy(path, reading.cache)
            yield from packed_rows(path, copy, audio_column=reading.audio_column, key=key)
        elif path.suffix == ".tar":
            yield from packed_tar_rows(path, audio_column=reading.audio_column, key=key)
        else:
            raise CorpusError(
                f"{path}: a compressed shard can only be read as a stream.\n"
                "Unpack it to .tar (speech is compressed already), or use --streaming."
            )


def check_shards(paths: Sequence[Path]) -> None:
    """Look at every shard before any is used: at its end, where a torn one shows, and for gaps in their numbers.

    Raises:
        CorpusError: names the shard and its last good record, or the shards that are missing.
    """
    if not paths:
        raise CorpusError("no shards were given.\nShards are files like train-00000-of-00002.tar or .parquet.")
    for path in paths:
        if not path.is_file():
            raise CorpusError(f"{path}: no such shard.")
        if path.suffix == ".parquet":
            open_parquet(path)
        elif path.suffix == ".tar" and not _ends_well(path):
            for _ in packed_tar_rows(path, audio_column="audio", key=""):
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


class ShardSource:
    """Records of shards in order (a `StreamSource`)."""

    def __init__(self, paths: Sequence[Path], audio_column: str) -> None:
        check_shards(paths)
        self._paths = list(paths)
        self._audio_column = audio_column

    @property
    def num_shards(self) -> int:
        return len(self._paths)

    def rows(self, shard: int, start: int, wanted: Callable[[int], bool]) -> Iterator[tuple[int, Row | BadRow]]:
        path = self._paths[shard]
        read_rows = parquet_rows if path.suffix == ".parquet" else tar_rows
        key = fingerprint(stamp(path))
        yield from read_rows(path, start=start, wanted=wanted, audio_column=self._audio_column, key=key)


class ShardStream(UtteranceStream):
    """Utterances of local shards, in order.

    Args:
        paths: .tar (also compressed) and .parquet files.
        text_column: of the transcript; None takes the likeliest.
        audio_column: of Parquet shards, or the ending of tar members.
        consumer: this reader's number, among
        num_consumers: readers that share the shards (ranks times workers).

    Raises:
        CorpusError: a shard is torn or missing; looked for at once, before anything is read.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        text_column: str | None = None,
        audio_column: str = "audio",
        *,
        consumer: int = 0,
        num_consumers: int = 1,
        label: str = "shards",
        split: str = "train",
    ) -> None:
        super().__init__(
            ShardSource([Path(path) for path in paths], audio_column),
            text_column=text_column,
            consumer=consumer,
            num_consumers=num_consumers,
            label=label,
            split=split,
        )


def stream(found: Found, splits: Sequence[str], reading: Reading) -> ShardSource:
    """The shards of these splits, one after the other."""
    return ShardSource([path for split in splits for path in found.splits[split]], reading.audio_column)


LAYOUT = Layout(
    name="shards",
    version=1,
    names=re.compile(r"(?!)"),
    default_text_column="text",
    detect=detect,
    read=read,
    how_to_get="Shards of your own: train-00000-of-00002.tar with 0001.wav and 0001.txt, or Parquet with audio bytes.",
    licence="",
    stream=stream,
    searched=False,
)
