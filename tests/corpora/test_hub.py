"""The hub's library is used for real, on a local folder that it takes for a repository."""

from __future__ import annotations

import pickle
import socket

import pytest
from standins.corpora import write_audio

import speechtune.corpora.hub as hub
from speechtune.corpora import open_corpus
from speechtune.corpora.corpus import Corpus
from speechtune.corpora.hub import HubDataset, hub_corpus
from speechtune.errors import CorpusError


@pytest.fixture
def repository(tmp_path, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "repository"
    folder.mkdir()
    for split, number in (("train", 3), ("dev", 1)):
        for shard in range(number):
            keys = [f"{split}{shard}{n}" for n in range(4)]
            for key in keys:
                write_audio(tmp_path / f"{key}.wav", key, 8_000)
            audio = [{"bytes": (tmp_path / f"{key}.wav").read_bytes(), "path": f"{key}.wav"} for key in keys]
            table = pa.table({"audio": audio, "sentence": keys, "up_votes": list(range(4))})
            pq.write_table(table, folder / f"{split}-0000{shard}-of-0000{number}.parquet")
    (folder / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: audio\n    dtype: audio\n  - name: sentence\n    dtype: string\n"
        "  - name: up_votes\n    dtype: int64\n---\n"
    )
    return str(folder)


@pytest.fixture
def corpus(repository, tmp_path) -> Corpus:
    layout, found = hub_corpus(HubDataset(repository, cache_dir=str(tmp_path / "hf")))
    return Corpus("someone/words", layout, found, tmp_path / "cache")


TEXTS = [f"train{shard}{n}" for shard in range(3) for n in range(4)]


def test_table_of_a_downloaded_dataset(corpus):
    assert sorted(corpus.splits) == ["train", "validation"]
    assert corpus.default_text_column == "sentence"
    table = corpus.read("train")
    assert table.texts == TEXTS
    assert table.column("up_votes") == ["0", "1", "2", "3"] * 3
    assert table[5].audio[:4] == b"RIFF"
    assert table[5].duration_s == pytest.approx(0.6)
    assert pickle.loads(pickle.dumps(table))[5] == table[5]


def test_second_read_uses_the_index(corpus, monkeypatch):
    corpus.read("dev")
    monkeypatch.setattr(HubDataset, "load", lambda *_, **__: pytest.fail("asked again"))
    assert len(corpus.read("dev")) == 4


def test_stream_has_every_record_and_shares_are_disjoint(corpus):
    stream = corpus.stream("train")
    assert [u.text for u in stream] == TEXTS
    for consumers in (2, 3, 5):
        shares = [[u.text for u in stream.share(c, consumers)] for c in range(consumers)]
        assert sorted(text for share in shares for text in share) == TEXTS
    assert [u.text for u in pickle.loads(pickle.dumps(stream))] == TEXTS


def test_stream_names_a_missing_column(corpus):
    with pytest.raises(CorpusError, match="no column 'text'"):
        list(corpus.stream("train", text_column="text"))
    with pytest.raises(CorpusError, match="no column 'speech'"):
        list(corpus.stream("train", audio_column="speech"))


def test_workers_of_a_loader_get_their_share_once(corpus):
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info

    class Texts(IterableDataset):
        def __init__(self, stream):
            self.stream = stream

        def __iter__(self):
            info = get_worker_info()
            return (u.text for u in self.stream.share(info.id, info.num_workers))

    texts = [text for batch in DataLoader(Texts(corpus.stream("train")), batch_size=4, num_workers=2) for text in batch]
    assert sorted(texts) == TEXTS


def test_offline_name_that_is_not_here_says_where_it_looked(tmp_path):
    with pytest.raises(CorpusError) as error:
        open_corpus("nobody/nothing", corpora_dir=tmp_path)
    assert f"  {tmp_path}\n  the hub, nobody/nothing: the hub can't be reached" in str(error.value)


def test_unreachable_hub_is_noticed_at_once(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setattr(hub, "getproxies", dict)
        with pytest.raises(CorpusError, match="the hub can't be reached"):
            hub_corpus(HubDataset("nobody/nothing", cache_dir=str(tmp_path)))
    assert constants.HF_HUB_OFFLINE is False
