from __future__ import annotations

import pytest
from standins.corpora import write_audio

from speechtune.corpora import open_corpus
from speechtune.errors import CorpusError


def test_split_column_of_the_root_metadata(tmp_path):
    for name in ("a", "b"):
        write_audio(tmp_path / f"{name}.wav", name, 8_000)
    (tmp_path / "metadata.csv").write_text("file_name,transcription,split\na.wav,one,train\nb.wav,two,test\n")
    corpus = open_corpus(str(tmp_path))
    assert (corpus.splits, corpus.default_text_column) == (("train", "test"), "transcription")
    assert corpus.read("test").texts == ["two"]


def test_first_folder_of_the_file_names_tells_the_split(tmp_path):
    rows = ["file_name,transcription"]
    for split in ("train", "dev", "test"):
        write_audio(tmp_path / split / "a.wav", split, 8_000)
        rows.append(f"{split}/a.wav,{split}")
    (tmp_path / "metadata.csv").write_text("\n".join(rows) + "\n")
    corpus = open_corpus(str(tmp_path))
    assert corpus.splits == ("train", "validation", "test")
    assert corpus.read("dev").texts == ["dev"]


def test_metadata_in_folders_of_splits(tmp_path):
    for split in ("train", "test"):
        write_audio(tmp_path / split / "a.wav", split, 8_000)
        (tmp_path / split / "metadata.jsonl").write_text(f'{{"file_name": "a.wav", "transcription": "{split}"}}\n')
    corpus = open_corpus(str(tmp_path))
    assert corpus.splits == ("train", "test")
    assert corpus.read("train").texts == ["train"]


def test_other_folders_beside_the_usual_splits_are_splits_too(tmp_path):
    for split in ("pseudo", "dev", "train"):
        write_audio(tmp_path / split / "a.wav", split, 8_000)
        (tmp_path / split / "metadata.csv").write_text(f"file_name,transcription\na.wav,{split}\n")
    corpus = open_corpus(str(tmp_path))
    assert corpus.splits == ("train", "validation", "pseudo")
    assert corpus.read("train+pseudo").texts == ["train", "pseudo"]


def test_without_any_split_all_is_train(tmp_path):
    write_audio(tmp_path / "a.wav", "x", 8_000)
    (tmp_path / "metadata.csv").write_text("file_name,transcription\na.wav,one\n")
    corpus = open_corpus(str(tmp_path))
    assert corpus.splits == ("train",)
    with pytest.raises(CorpusError, match=r"no split 'test'.\nSplits: train."):
        corpus.read("test")


@pytest.mark.parametrize("name", ["../diary.wav", "{folder}/diary.wav"])
def test_file_names_outside_the_folder_need_an_option(name, tmp_path):
    name = name.format(folder=tmp_path)
    for path in ("diary.wav", "corpus/a.wav"):
        write_audio(tmp_path / path, "x", 8_000)
    (tmp_path / "corpus/metadata.csv").write_text(f"file_name,transcription\na.wav,one\n{name},two\n")
    table = open_corpus(str(tmp_path / "corpus")).read("train")
    assert table.texts == ["one"]
    assert [(row.file, row.reason) for row in table.skipped] == [("metadata.csv:3", "outside_audio")]
    assert open_corpus(str(tmp_path / "corpus"), allow_outside_audio=True).read("train").texts == ["one", "two"]
