"""Damaged tables: rows that can't be used are each skipped and listed; a table that can't be read is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from damage import damaged
from reliability.tiny import read_rows
from standins.corpora import write_audio, write_librispeech, write_mls, write_timit

from fuzz.case import Case, Place
from fuzz.commands import any_command, evaluate, train
from fuzz.material import CORPUS, NUM_TEST, NUM_TRAIN

__all__ = ["make", "outside_names"]

Row = dict[str, Any]


def make(place: Place, rng: Random) -> Case:
    kind = rng.choices(("rows", "bytes", "layout", "special"), (5, 3, 3, 1))[0]
    if kind == "layout":
        return _damaged_layout(place, rng)
    if kind == "special":
        return _special_file(place, rng)
    corpus = place.folder / "corpus"
    shutil.copytree(place.material / CORPUS, corpus)
    split = rng.choice(("train", "test"))
    if kind == "rows":
        return _damaged_rows(corpus, split, place, rng)
    name = rng.choice(("train.jsonl", "train.csv", "train.tsv", "train.json"))
    path = _write_table(corpus, name, read_rows(corpus / "train.jsonl"))
    path.write_bytes(damaged(path.read_bytes(), rng))
    return Case([any_command(corpus, place, rng)], may_open=_user_named(place, path))


# ---- single rows of a manifest or an audio folder


def _damaged_rows(corpus: Path, split: str, place: Place, rng: Random) -> Case:
    """Damage some rows, each by itself, so that the number of rows stays known."""
    number = NUM_TRAIN if split == "train" else NUM_TEST
    rows = read_rows(corpus / f"{split}.jsonl")
    assert len(rows) == number
    is_folder = rng.random() < 0.4
    ending = rng.choice(("csv", "jsonl") if is_folder else ("jsonl", "csv", "tsv"))
    lines = [_line(row, ending) for row in rows]
    for index in rng.sample(range(number), rng.randint(1, number)):
        change = rng.choice((_BAD_JSON if ending == "jsonl" else _BAD_CELLS) + _BAD_ROWS)
        row = dict(rows[index])
        changed = change(row, ending, place, rng)
        lines[index] = changed if isinstance(changed, bytes) else _line(row, ending)
    if rng.random() < 0.2:
        copies = rng.randint(1, 5)
        lines += [lines[0]] * copies
        number += copies
    header = {"csv": b"audio,text\n", "tsv": b"audio\ttext\n"}.get(ending, b"")
    content = header + b"".join(line + b"\n" for line in lines)
    if is_folder:
        path = _as_audio_folder(corpus, split, ending, content)
    else:
        (corpus / f"{split}.jsonl").unlink()
        path = corpus / f"{split}.{ending}"
        path.write_bytes(content)
    command = train(corpus, place) if split == "train" else evaluate(corpus, place)
    may_open = () if is_folder else _user_named(place, path)
    return Case([command], rows=number, row_split=split, may_open=may_open)


def _as_audio_folder(corpus: Path, split: str, ending: str, content: bytes) -> Path:
    """Turn the corpus into one of `datasets`: a folder for each split, with its recordings and metadata."""
    for name in ("train", "test"):
        rows = read_rows(corpus / f"{name}.jsonl")
        (corpus / f"{name}.jsonl").unlink()
        lines = [json.dumps({"file_name": Path(row["audio"]).name, "text": row["text"]}) for row in rows]
        (corpus / name / "metadata.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    (corpus / split / "metadata.jsonl").unlink()
    path = corpus / split / f"metadata.{ending}"
    content = content.replace(b"audio,text", b"file_name,text", 1).replace(b'"audio"', b'"file_name"')
    path.write_bytes(content.replace(f"{split}/".encode(), b""))
    return path


def _line(row: Row, ending: str) -> bytes:
    if ending == "jsonl":
        return json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogateescape")
    cells = [str(value) for value in row.values()]
    if ending == "csv":
        cells = [f'"{cell.replace(chr(34), chr(34) * 2)}"' if set(cell) & set(',"\n\r') else cell for cell in cells]
    return ("," if ending == "csv" else "\t").join(cells).encode("utf-8", "surrogateescape")


def outside_names(place: Place) -> list[str]:
    """Names of recordings that a corpus has no business with."""
    return [
        *("../../outside/diary.wav", "train/../../../outside/diary.wav", "~/diary.wav", "/etc/passwd", "/dev/zero"),
        *("/proc/self/environ", "/proc/self/fd/0", "/dev/stdin", str(place.outside / "diary.wav"), "~root/diary.wav"),
        f"file://{place.outside}/diary.wav",
    ]


def _outside(row: Row, ending: str, place: Place, rng: Random) -> None:
    row["audio"] = rng.choice(outside_names(place))


def _odd_name(row: Row, ending: str, place: Place, rng: Random) -> None:
    names = [
        "",
        ".",
        "..",
        "nope.wav",
        "train",
        "x" * 5000,
        "a\x00b.wav",
        "train.jsonl",
        "-",
        "\udcff.wav",
        "a/" * 2000,
    ]
    row["audio"] = rng.choice(names)


def _odd_text(row: Row, ending: str, place: Place, rng: Random) -> None:
    texts = [
        "",
        " ",
        "\x1b[31mred",
        "\u202eevil",
        "nan",
        "0",
        "x" * 20_000,
        "\ufeffbir",
        "bir\tiki",
        "=cmd()",
        "\udcff",
    ]
    row["text"] = rng.choice(texts if ending != "tsv" else [text for text in texts if "\t" not in text])


def _special_recording(row: Row, ending: str, place: Place, rng: Random) -> None:
    """Replace the row's recording by something that is no file, or is no recording."""
    path = place.folder / "corpus" / row["audio"]
    path.unlink(missing_ok=True)
    kind = rng.choice(("fifo", "link", "loop", "folder", "empty", "bytes", "gone"))
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(rng.choice(("/dev/zero", str(place.folder / "nope"), "/proc/self/environ")))
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "gone":
        path.write_bytes(rng.randbytes(5000 if kind == "bytes" else 0))


def _broken_json(row: Row, ending: str, place: Place, rng: Random) -> bytes:
    text = json.dumps(row)
    return rng.choice(
        (
            *(b"not json", b"[]", b"3", b"null", b'"text"', b"{}", b'{"audio": ', b"\xff\xfe\xfd", b'{"a": "\xff"}'),
            *(b"[" * 100_000, text[:-1].encode(), text.encode() + b"}", b'{"text": "\\ud800", "audio": 1}', b"\x00"),
            b'{"audio": "train/000.wav", "text": ' + b"9" * 5000 + b"}",
        )
    )


def _odd_values(row: Row, ending: str, place: Place, rng: Random) -> None:
    key = rng.choice(("audio", "text", "duration", "speaker", "id"))
    row[key] = rng.choice(
        (None, 3, 2.5, -1, True, [], {}, ["a"], {"path": None}, {"bytes": "x"}, 10**400, float("inf"))
    )


def _bad_cells(row: Row, ending: str, place: Place, rng: Random) -> bytes:
    comma = b"," if ending == "csv" else b"\t"
    name = row["audio"].encode()
    cells = [
        *(name, name + comma + b"bir" + comma + b"more", comma, comma * 50, b"\xff\xfe" + comma + b"bir"),
        *(name + comma + b"b\xffr", name + comma + b'b"ir"x', name + comma + b"x" * 200_000, b"\x00" + comma + b"bir"),
    ]
    return rng.choice([*cells, name + comma + b'"never closed'])


_BAD_ROWS: tuple[Callable[[Row, str, Place, Random], bytes | None], ...]
_BAD_ROWS = (_outside, _odd_name, _odd_text, _special_recording, _special_recording)
_BAD_JSON, _BAD_CELLS = (_broken_json, _odd_values), (_bad_cells,)


# ---- whole tables


def _write_table(corpus: Path, name: str, rows: list[Row]) -> Path:
    """Write the training split as another table."""
    (corpus / "train.jsonl").unlink()
    ending = name.rpartition(".")[2]
    if ending == "json":
        content = json.dumps(rows, indent=1).encode()
    else:
        header = {"csv": b"audio,text\n", "tsv": b"audio\ttext\n"}.get(ending, b"")
        content = header + b"".join(_line(row, ending) + b"\n" for row in rows)
    (corpus / name).write_bytes(content)
    return corpus / name


def _user_named(place: Place, table: Path) -> tuple[Path, ...]:
    """A manifest of the user's own may name recordings by absolute paths."""
    content = table.read_bytes()
    return (place.outside,) if f"{place.outside}/diary.wav".encode() in content else ()


def _common_voice(root: Path) -> None:
    for number in range(6):
        write_audio(root / "tr" / "clips" / f"{number}.mp3", "x", 48_000)
    for split, numbers in (("train", range(4)), ("test", range(4, 6))):
        rows = "".join(f"s{n}\t{n}.mp3\tcümle {n}\t2\n" for n in numbers)
        (root / "tr" / f"{split}.tsv").write_text(f"client_id\tpath\tsentence\tup_votes\n{rows}", encoding="utf-8")


LAYOUTS: dict[str, tuple[Callable[[Path], None], str, tuple[str, ...]]] = {
    "common_voice": (_common_voice, "train.tsv", ("--dataset_config_name", "tr")),
    "librispeech": (
        partial(write_librispeech, subsets=("train-clean-100", "test-clean")),
        "*.trans.txt",
        ("--dataset_config_name", "clean", "--train_split_name", "train.100"),
    ),
    "mls": (partial(write_mls, language="german"), "transcripts.txt", ()),
    "timit": (write_timit, "*.TXT", ()),
}


def _damaged_layout(place: Place, rng: Random) -> Case:
    """Damage one file of a corpus in its publisher's layout."""
    write, victims, more = LAYOUTS[rng.choice(list(LAYOUTS))]
    corpus = place.folder / "corpus"
    write(corpus)
    victim = rng.choice(sorted(corpus.rglob(victims)))
    victim.write_bytes(damaged(victim.read_bytes(), rng))
    return Case([any_command(corpus, place, rng, *more)])


def _special_file(place: Place, rng: Random) -> Case:
    """A table that is no file, is endless, or has another encoding."""
    corpus = place.folder / "corpus"
    shutil.copytree(place.material / CORPUS, corpus)
    if rng.random() < 0.5:
        (corpus / "train.jsonl").unlink()
        path = corpus / rng.choice(("train.csv", "metadata.csv", "train.jsonl", "train.json", "train.parquet"))
    else:
        path = corpus / "train.jsonl"
        path.unlink()
    kind = rng.choice(("fifo", "folder", "zero", "loop", "utf-16", "empty", "nul", "one line"))
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("zero", "loop"):
        path.symlink_to("/dev/zero" if kind == "zero" else path)
    elif kind == "utf-16":
        path.write_text("audio,text\ntrain/000.wav,bir\n", encoding="utf-16")
    else:
        path.write_bytes({"empty": b"", "nul": b"\0" * 100_000, "one line": b"x" * 30_000_000}[kind])
    target = path if rng.random() < 0.4 else corpus
    return Case([any_command(target, place, rng)])
