"""Hostile and damaged archives and shards: nothing is written or read outside, nothing is unpacked without bounds."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from damage import damaged
from reliability.tiny import read_rows
from standins.shards import audio_bytes, write_tar

from fuzz.case import Case, Place
from fuzz.commands import any_command, evaluate, train
from fuzz.kinds.tables import outside_names
from fuzz.material import CORPUS, NUM_TEST

__all__ = ["make"]

TARS = {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz", "tar.bz2": "w:bz2"}


def make(place: Place, rng: Random) -> Case:
    if rng.random() < 0.4:
        return _shards(place, rng)
    ending = rng.choice((*TARS, "zip"))
    files = _corpus_files(place, rng)
    is_hostile = rng.random() < 0.6
    path = place.folder / f"corpus.{ending}"
    members = rng.sample(_HOSTILE, rng.randint(1, 2)) if is_hostile else []
    (_write_zip if ending == "zip" else _write_tar)(path, files, members, place, rng)
    if not is_hostile or rng.random() < 0.2:
        path.write_bytes(damaged(path.read_bytes(), rng))
    return Case([any_command(path, place, rng)], check=lambda: _escaped(place))


def _escaped(place: Place) -> list[str]:
    """Return files that were written beside the case's own."""
    own = {place.folder.name, place.outside.name}
    found = [path.name for path in place.folder.parent.iterdir() if path.name not in own]
    return [f"written outside: {', '.join(found)}"] if found else []


def _corpus_files(place: Place, rng: Random) -> dict[str, bytes]:
    """The corpus as an audio folder, below up to two folders; some rows name recordings outside."""
    root = rng.choice(("", "corpus/", "a/corpus/"))
    files = {}
    for split in ("train", "test"):
        lines = []
        for row in read_rows(place.material / CORPUS / f"{split}.jsonl"):
            files[root + row["audio"]] = (place.material / CORPUS / row["audio"]).read_bytes()
            name = Path(row["audio"]).name
            if rng.random() < 0.1:
                name = rng.choice(outside_names(place))
            lines.append(json.dumps({"file_name": name, "text": row["text"]}))
        files[f"{root}{split}/metadata.jsonl"] = "\n".join(lines).encode()
    return files


# ---- members that no honest archive has: (name, content, link target, type)

Member = tuple[str, bytes, str, bytes]


def _names(place: Place, rng: Random) -> list[Member]:
    name = rng.choice(
        ("../escaped.txt", "../../escaped.txt", str(place.folder.parent / "escaped.txt"), "a/../../x", "C:\\x")
    )
    return [(name, b"escaped", "", tarfile.REGTYPE)]


def _links(place: Place, rng: Random) -> list[Member]:
    target = rng.choice(
        ("/etc/passwd", "../../outside/diary.wav", str(place.outside / "diary.wav"), "train", "link.wav")
    )
    kind = rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE))
    return [("train/link.wav", b"", target, kind), ("train/link.wav/x", b"through", "", tarfile.REGTYPE)]


def _devices(place: Place, rng: Random) -> list[Member]:
    return [("train/device.wav", b"", "", rng.choice((tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)))]


def _deep(place: Place, rng: Random) -> list[Member]:
    return [("d/" * rng.choice((100, 2000)) + "x.wav", b"deep", "", tarfile.REGTYPE)]


def _bomb(place: Place, rng: Random) -> list[Member]:
    size = 20_000_000 if place.quick else rng.choice((100_000_000, 600_000_000))
    return [("train/bomb.wav", bytes(size), "", tarfile.REGTYPE)]


def _many(place: Place, rng: Random) -> list[Member]:
    return [(f"train/{number}.txt", b"", "", tarfile.REGTYPE) for number in range(5_000)]


def _twice(place: Place, rng: Random) -> list[Member]:
    return [("train/000.wav", b"second", "", tarfile.REGTYPE), ("train", b"a file", "", tarfile.REGTYPE)]


def _odd(place: Place, rng: Random) -> list[Member]:
    names = (
        "\x1b[31m.wav",
        "a\nb.wav",
        "x" * 300 + ".wav",
        ".",
        "",
        "train/\udcff.wav",
        "con",
        " ",
        "~/x",
        "train/-rf",
    )
    return [(name, b"odd", "", tarfile.REGTYPE) for name in rng.sample(names, 3)]


_HOSTILE: tuple[Callable[[Place, Random], list[Member]], ...]
_HOSTILE = (_names, _links, _devices, _deep, _bomb, _many, _twice, _odd)


def _write_tar(path: Path, files: dict[str, bytes], hostile: list[Any], place: Place, rng: Random) -> None:
    mode: Any = TARS[path.name.partition(".")[2]]
    members = [(name, data, "", tarfile.REGTYPE) for name, data in files.items()]
    for kind in hostile:
        at = rng.randrange(len(members) + 1)
        members[at:at] = kind(place, rng)
    preset: Any = {"preset": 0} if mode == "w:xz" else {}
    with tarfile.open(path, mode, **preset) as tar:
        for name, data, link, kind in members:
            info = tarfile.TarInfo(name)
            info.size, info.linkname, info.type = len(data) if kind == tarfile.REGTYPE else 0, link, kind
            tar.addfile(info, io.BytesIO(data))


def _write_zip(path: Path, files: dict[str, bytes], hostile: list[Any], place: Place, rng: Random) -> None:
    members = [(name, data, "", tarfile.REGTYPE) for name, data in files.items()]
    for kind in hostile:
        members += kind(place, rng)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data, link, kind in members:
            info = zipfile.ZipInfo(name.encode("utf-8", "replace").decode())
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o120777 if kind == tarfile.SYMTYPE else 0o100644) << 16
            archive.writestr(info, link if kind == tarfile.SYMTYPE else data)


# ---- shards


def _shards(place: Place, rng: Random) -> Case:
    folder = place.folder / "shards"
    folder.mkdir()
    kind = rng.choice(("tar", "parquet"))
    numbers = {"train": 8, "test": NUM_TEST}
    for split, number in numbers.items():
        rows = [(f"{split}{index}", f"text {index}") for index in range(number)]
        path = folder / f"{split}-00000-of-00001.{kind}"
        write_tar(path, rows) if kind == "tar" else _write_parquet(path, rows, place, rng)
    is_damaged = rng.random() < 0.5
    if is_damaged:
        victim = rng.choice(sorted(folder.iterdir()))
        victim.write_bytes(damaged(victim.read_bytes(), rng))
    if rng.random() < 0.3:
        more = ("--streaming", "true", "--max_steps", "2")
        return Case([train(folder, place, *more)])
    if is_damaged or rng.random() < 0.5:
        return Case([any_command(folder, place, rng)])
    split = rng.choice(list(numbers))
    words = train(folder, place) if split == "train" else evaluate(folder, place)
    return Case([words], rows=numbers[split], row_split=split)


def _write_parquet(path: Path, rows: list[tuple[str, str]], place: Place, rng: Random) -> None:
    """Some rows hold no audio but name a file outside, or hold nothing at all."""
    audio: list[Any] = []
    texts: list[Any] = []
    for key, text in rows:
        entry: Any = {"bytes": audio_bytes(key), "path": f"{key}.flac"}
        if rng.random() < 0.15:
            entry = {"bytes": None, "path": rng.choice(outside_names(place))}
        elif rng.random() < 0.1:
            entry = rng.choice(
                (None, {"bytes": b"", "path": None}, {"bytes": None, "path": None}, {"bytes": b"x", "path": ""})
            )
        audio.append(entry)
        texts.append(text if rng.random() < 0.9 else rng.choice((None, "", "\x1b[31m")))
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"audio": pa.array(audio, struct), "sentence": texts}), path, row_group_size=3)
