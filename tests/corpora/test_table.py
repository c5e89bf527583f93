from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from standins.corpora import write_audio

from speechtune.corpora import open_corpus
from speechtune.corpora.table import SplitTable
from speechtune.errors import CorpusError
from speechtune.types import Utterance

TEXTS = ["bir", "iki", "üç", "dört", "beş"]


@pytest.fixture
def corpus(tmp_path: Path):
    lines = ["file_name,transcription,speaker,split"]
    for number, text in enumerate(TEXTS):
        write_audio(tmp_path / "clips" / f"{number}.wav", text * (number + 4), 16_000)
        lines.append(f"clips/{number}.wav,{text},s{number % 2},{'train' if number < 3 else 'test'}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return open_corpus(str(tmp_path))


def test_row_becomes_an_utterance_with_its_path_and_header_duration(corpus, tmp_path):
    table = corpus.read("train")
    assert len(table) == 3
    utterance = table[2]
    assert utterance == Utterance(
        id="clips/2",
        audio=str(tmp_path / "clips/2.wav"),
        audio_key=utterance.audio_key,
        text="üç",
        duration_s=pytest.approx(0.66),
        file=str(tmp_path / "clips/2.wav"),
        speaker="s0",
        language=None,
    )
    assert len(utterance.audio_key) == 32
    assert table[-1] == utterance


def test_whole_columns(corpus):
    table = corpus.read("train+test")
    assert table.texts == TEXTS
    assert table.ids == [f"clips/{number}" for number in range(5)]
    assert table.speakers == ["s0", "s1", "s0", "s1", "s0"]
    assert table.columns == ("file_name", "transcription", "speaker", "split")
    assert table.column("split") == ["train"] * 3 + ["test"] * 2
    assert table.durations_s.dtype == np.float32
    assert table.durations_s.shape == (5,)
    assert table.split == "train+test"
    assert table.skipped == []


def test_select_keeps_the_given_order_and_composes(corpus):
    table = corpus.read("train+test").select([4, 0, 3]).select(np.array([2, 0]))
    assert table.texts == ["dört", "beş"]
    assert [table[0].text, table[1].text] == ["dört", "beş"]
    assert table.durations_s.tolist() == [corpus.read("train+test").durations_s[i] for i in (3, 4)]


def test_row_number_out_of_range_is_an_index_error(corpus):
    with pytest.raises(IndexError, match="row 3 of 3"):
        corpus.read("train")[3]


def test_pickle_carries_paths_not_rows(corpus):
    table = corpus.read("train+test").select(np.arange(4))
    data = pickle.dumps(table)
    assert len(data) < 2_000
    assert pickle.loads(data)[3] == table[3]


def test_concat_of_selections(corpus):
    train, test = corpus.read("train"), corpus.read("test")
    table = SplitTable.concat([train.select([2]), test, train.select([0, 1])])
    assert table.texts == ["üç", "dört", "beş", "bir", "iki"]


def test_ids_stay_unique_when_splits_share_them(tmp_path):
    for split in ("train", "validation"):
        write_audio(tmp_path / split / "a.wav", "merhaba", 16_000)
        (tmp_path / split / "metadata.csv").write_text("file_name,transcription\na.wav,merhaba\n", encoding="utf-8")
    table = open_corpus(str(tmp_path)).read("train+validation")
    assert table.ids == ["a", "validation/1/a"]
    assert [table[0].id, table[1].id] == table.ids
    assert len(set(table.ids)) == len(table)


def test_same_id_twice_in_a_split_is_numbered(tmp_path):
    write_audio(tmp_path / "a.wav", "merhaba", 16_000)
    (tmp_path / "train.csv").write_text("audio,text\na.wav,one\na.wav,two\n", encoding="utf-8")
    assert open_corpus(str(tmp_path)).read("train").ids == ["a", "a#2"]


def test_missing_column_names_those_that_exist_and_the_likely_one(corpus):
    with pytest.raises(CorpusError) as error:
        corpus.read("train", text_column="sentence")
    assert str(error.value).splitlines()[1:] == [
        "Columns: file_name, transcription, speaker, split.",
        "Try --text_column_name transcription",
    ]
    assert "split train: no column 'sentence'." in str(error.value)


def test_another_text_column_of_the_same_rows(corpus):
    assert corpus.read("train", text_column="speaker").texts == ["s0", "s1", "s0"]
