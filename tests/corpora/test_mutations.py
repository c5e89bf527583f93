"""Damaged tables, archives and shards: an error of ours or rows that are counted, never a traceback or a hang."""

from __future__ import annotations

import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from damage import damaged
from standins.corpora import write_audio, write_librispeech, write_mls, write_timit
from standins.shards import rows_of, write_parquet, write_tar

from speechtune.corpora import open_corpus
from speechtune.corpora.archive import unpack
from speechtune.errors import CorpusError


def manifest(name: str, content: str) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        for number in range(4):
            write_audio(root / f"{number}.wav", "x", 8_000)
        (root / name).write_text(content, encoding="utf-8")
        return root / name

    return write


def written(writer: Callable[[Path], None], victim: str) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        writer(root)
        return next(iter(sorted(root.rglob(victim))))

    return write


def common_voice(root: Path) -> Path:
    for number in range(3):
        write_audio(root / "tr" / "clips" / f"{number}.mp3", "x", 48_000)
    rows = "".join(f"s{n}\t{n}.mp3\tcümle {n}\t2\n" for n in range(3))
    (root / "tr" / "train.tsv").write_text(f"client_id\tpath\tsentence\tup_votes\n{rows}", encoding="utf-8")
    return root / "tr" / "train.tsv"


CORPORA: dict[str, Callable[[Path], Path]] = {
    "csv": manifest("train.csv", 'audio,text,split\n0.wav,bir,train\n1.wav,"i, ki",train\n2.wav,üç,train\n'),
    "tsv": manifest("train.tsv", "path\tsentence\n0.wav\tbir\n1.wav\tiki\n2.wav\tüç\n"),
    "jsonl": manifest(
        "train.jsonl",
        '{"audio": "0.wav", "text": "bir"}\n{"audio": {"path": "1.wav"}, "text": "i"}\n{"audio": "2.wav", "text": 3}\n',
    ),
    "audiofolder": manifest("metadata.csv", "file_name,transcription,split\n0.wav,bir,train\n1.wav,iki,test\n"),
    "common_voice": common_voice,
    "librispeech": written(lambda root: write_librispeech(root, subsets=("dev-clean",)), "*.trans.txt"),
    "mls": written(write_mls, "transcripts.txt"),
    "timit": written(write_timit, "SA1.TXT"),
}


@pytest.mark.parametrize("kind", CORPORA)
def test_mutated_tables(kind, tmp_path_factory):
    root = tmp_path_factory.mktemp(kind)
    victim = CORPORA[kind](root)
    original = victim.read_bytes()
    rng = random.Random(kind)
    outcomes = {"rows": 0, "errors": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(40):
            victim.write_bytes(damaged(original, rng))
            try:
                config = "clean" if kind == "librispeech" else None
                corpus = open_corpus(str(root), config)
                for split in corpus.splits[:2]:
                    table = corpus.read(split)
                    assert all(table[i].text is not None for i in range(len(table)))
                    assert all(row.reason and row.file for row in table.skipped)
                outcomes["rows"] += 1
            except CorpusError as error:
                assert str(error)
                outcomes["errors"] += 1
    assert outcomes["rows"] > 3


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "zip"])
def test_mutated_archives(ending, tmp_path):
    write_librispeech(tmp_path / "c", subsets=("dev-clean",))
    kind = {"tar": "tar", "tar.gz": "gztar", "zip": "zip"}[ending]
    original = Path(shutil.make_archive(str(tmp_path / "x"), kind, tmp_path / "c", ".")).read_bytes()
    rng = random.Random(ending)
    for number in range(20):
        path = tmp_path / f"{number}.{ending}"
        path.write_bytes(damaged(original, rng))
        try:
            files = unpack(path, tmp_path / "cache")
            assert all(file.is_relative_to(files) for file in files.rglob("*"))
        except CorpusError as error:
            assert path.name in str(error)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["c", "cache"]


@pytest.mark.parametrize("ending", ["tar", "parquet"])
def test_mutated_shards(ending, tmp_path):
    path = tmp_path / "s" / f"train-0.{ending}"
    path.parent.mkdir()
    original = (write_tar if ending == "tar" else write_parquet)(path, rows_of(0)).read_bytes()
    rng = random.Random(ending)
    for _ in range(20):
        path.write_bytes(damaged(original, rng))
        try:
            corpus = open_corpus(str(path.parent))
            assert len(list(corpus.stream("train"))) <= 8
            table = corpus.read("train")
            assert len(table) + len(table.skipped) <= 8
        except CorpusError as error:
            assert str(error)
