from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import pytest
from standins.shards import audio_bytes, rows_of, write_parquet, write_tar

from speechtune.corpora import open_corpus
from speechtune.corpora.layout import Found, Reading
from speechtune.corpora.layouts import shards as layout
from speechtune.corpora.stream import UtteranceStream
from speechtune.errors import CorpusError


def stream_of(paths: list[Path]) -> UtteranceStream:
    found = Found(root=paths[0].parent, splits={"train": tuple(paths)})
    return UtteranceStream(layout.stream(found, ["train"], Reading(unpack=Path, cache=Path())))


@pytest.fixture(params=["tar", "tar.gz", "parquet"])
def shards(request, tmp_path) -> list[Path]:
    paths = []
    for shard in range(3):
        path = tmp_path / f"train-0000{shard}-of-00003.{request.param}"
        if request.param == "parquet":
            paths.append(write_parquet(path, rows_of(shard)))
        else:
            paths.append(write_tar(path, rows_of(shard), "w:gz" if request.param == "tar.gz" else "w"))
    return paths


ALL = [text for shard in range(3) for _, text in rows_of(shard)]


def test_stream_gives_every_record_in_order(shards):
    stream = stream_of(shards)
    utterances = list(stream)
    assert [u.text for u in utterances] == ALL
    assert all(isinstance(u.audio, bytes) and u.duration_s == pytest.approx(0.25) for u in utterances)
    assert len({u.id for u in utterances}) == len({u.audio_key for u in utterances}) == 21
    assert stream.skipped == []


@pytest.mark.parametrize("num_consumers", [1, 2, 3, 5, 8])
def test_shares_are_disjoint_and_complete(shards, num_consumers):
    stream = stream_of(shards)
    shares = [[u.text for u in stream.share(consumer, num_consumers)] for consumer in range(num_consumers)]
    assert sorted(text for share in shares for text in share) == sorted(ALL)
    assert min(len(share) for share in shares) >= 21 // num_consumers - 4


def test_readers_that_share_by_record_are_equally_far(shards):
    stream = stream_of(shards)
    shares = [[u.text for u in stream.share(reader, 2, by_record=True)] for reader in range(2)]
    assert sorted(text for share in shares for text in share) == sorted(ALL)
    assert [len(set(share) & set(ALL[:7])) for share in shares] == [4, 3]


def test_stream_travels_to_workers(shards):
    assert [u.text for u in pickle.loads(pickle.dumps(stream_of(shards).share(0, 3)))] == ALL[:7]


def test_folder_of_shards_is_a_corpus_with_random_access(shards):
    corpus = open_corpus(str(shards[0].parent))
    assert corpus.splits == ("train",)
    if shards[0].name.endswith(".gz"):
        with pytest.raises(CorpusError, match="can only be read as a stream"):
            corpus.read("train")
    else:
        table = corpus.read("train")
        assert table.texts == ALL
        assert [table[i] for i in (20, 3)] == [list(stream_of(shards))[i] for i in (20, 3)]
        assert pickle.loads(pickle.dumps(table.select([5])))[0].text == ALL[5]
    assert [u.text for u in corpus.stream("train")] == ALL


def test_single_parquet_file_and_its_columns(tmp_path):
    path = write_parquet(tmp_path / "test.parquet", rows_of(0))
    corpus = open_corpus(str(path))
    assert (corpus.splits, corpus.default_text_column) == (("test",), "sentence")
    assert corpus.read("test").speakers == [str(n) for n in range(7)]
    with pytest.raises(
        CorpusError, match=r"no column 'text'.\nColumns: sentence, speaker_id.\nTry --text_column_name sentence"
    ):
        list(corpus.stream("test", text_column="text"))
    with pytest.raises(CorpusError, match="no column 'speech'"):
        corpus.read("test", audio_column="speech")


def test_single_tar_is_a_shard_not_an_archive(tmp_path):
    path = write_tar(tmp_path / "speech.tar", rows_of(0), as_json=True)
    table = open_corpus(str(path)).read("speech")
    assert table.texts == [text for _, text in rows_of(0)]
    assert table[0].speaker == "s1"
    assert table[0].file == f"{path}:00000.flac"


def test_splits_and_configurations_of_folders(tmp_path):
    for config in ("tr", "de"):
        (tmp_path / config).mkdir()
        write_parquet(tmp_path / config / "train-00000-of-00001-0123456789abcdef.parquet", rows_of(0, 2))
        write_parquet(tmp_path / config / "validation-00000-of-00001.parquet", rows_of(1, 2))
    for config in ("tr", "de"):
        corpus = open_corpus(str(tmp_path), config)
        assert (corpus.config_name, corpus.splits) == (config, ("train", "validation"))
        assert corpus.read("dev").texts == ["text 1 0", "text 1 1"]


def test_torn_tar_names_shard_and_last_good_record_before_anything_is_read(tmp_path):
    good = write_tar(tmp_path / "train-0.tar", rows_of(0))
    torn = write_tar(tmp_path / "train-1.tar", rows_of(1))
    data = torn.read_bytes()
    with tarfile.open(torn) as tar:
        start = [info.offset for info in tar.getmembers()][8]  # the fifth record's audio
    for cut in (start + 600, start + 100, start):
        torn.write_bytes(data[:cut])
        with pytest.raises(CorpusError) as error:
            stream_of([good, torn])
        assert str(error.value).startswith(f"{torn}: the shard is torn after record ")
        assert "'10003' (4 good records)" in str(error.value) or "'10002' (3 good records)" in str(error.value)
    torn.write_bytes(b"")
    with pytest.raises(CorpusError, match="torn at its beginning"):
        stream_of([good, torn])
    with pytest.raises(CorpusError, match="torn at its beginning"):
        open_corpus(str(tmp_path)).read("train")


def test_torn_compressed_tar_names_the_last_good_record_when_it_is_met(tmp_path):
    path = write_tar(tmp_path / "train-0.tar.gz", rows_of(0), "w:gz")
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(CorpusError, match=r"train-0.tar.gz: the shard is torn after record '0000\d'"):
        list(stream_of([path]))


def test_torn_parquet(tmp_path):
    path = write_parquet(tmp_path / "train-0.parquet", rows_of(0, 60))
    data = path.read_bytes()
    path.write_bytes(data[:-500])
    with pytest.raises(CorpusError, match=r"train-0\.parquet: the shard is torn at its beginning"):
        stream_of([path])
    middle = data[: len(data) // 2] + bytes(2000) + data[len(data) // 2 + 2000 :]
    path.write_bytes(middle)
    try:
        utterances = stream_of([path])
        assert len(list(utterances)) + len(utterances.skipped) == 60
        assert utterances.skipped  # or the damage lies within one recording
    except CorpusError as error:
        assert "the shard is torn after record 'row " in str(error)


def test_missing_shard_of_a_series_is_named(tmp_path):
    for number in (0, 2):
        write_tar(tmp_path / f"train-0000{number}-of-00004.tar", rows_of(number))
    with pytest.raises(CorpusError, match="2 of 4 shards of 'train' are missing: 00001, 00003"):
        open_corpus(str(tmp_path)).stream("train")


def test_unusable_records_are_skipped_and_named(tmp_path):
    with tarfile.open(tmp_path / "train-0.tar", "w") as tar:
        for name, data in [
            ("a.flac", audio_bytes("a")), ("a.txt", b"bir"),
            ("b.txt", b"no audio"),
            ("c.flac", b"no audio either"), ("c.txt", b"x"),
            ("d.flac", audio_bytes("d")), ("d.txt", b"\xff\xfe"),
            ("e.flac", audio_bytes("e")), ("e.json", b"[1]"),
            ("f.flac", audio_bytes("f")), ("f.txt", b"son"),
        ]:  # fmt: skip
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    stream = stream_of([tmp_path / "train-0.tar"])
    assert [u.text for u in stream] == ["bir", "son"]
    reasons = [(row.id.rpartition("/")[2], row.reason) for row in stream.skipped]
    assert reasons == [("b", "bad_row"), ("c", "undecodable"), ("d", "bad_row"), ("e", "bad_row")]
    table = open_corpus(str(tmp_path)).read("train")
    assert [(row.id.rpartition("/")[2], row.reason) for row in table.skipped] == reasons


def test_stream_has_no_parts_of_splits(shards):
    with pytest.raises(CorpusError, match="a stream has no parts of splits"):
        open_corpus(str(shards[0].parent)).stream("train[:3]")
