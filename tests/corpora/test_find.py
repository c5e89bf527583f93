from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from standins.corpora import write_audio

from speechtune.corpora import all_layouts, open_corpus
from speechtune.errors import CorpusError


def test_every_module_with_a_layout_is_found_and_known_corpora_come_first():
    names = [layout.name for layout in all_layouts()]
    assert names == [
        "common_voice", "fleurs", "librispeech_asr", "multilingual_librispeech", "timit_asr", "voxpopuli",
        "audiofolder", "manifest", "shards",
    ]  # fmt: skip
    assert all(layout.how_to_get for layout in all_layouts())
    assert all(layout.licence for layout in all_layouts() if layout.searched)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("common_voice", "common_voice"),
        ("mozilla-foundation/common_voice_11_0", "common_voice"),
        ("mozilla-foundation/common_voice_3_0", "common_voice"),
        ("timit_asr", "timit_asr"),
        ("librispeech_asr", "librispeech_asr"),
        ("openslr/librispeech_asr", "librispeech_asr"),
        ("multilingual_librispeech", "multilingual_librispeech"),
        ("facebook/multilingual_librispeech", "multilingual_librispeech"),
        ("google/fleurs", "fleurs"),
        ("facebook/voxpopuli", "voxpopuli"),
        ("someone/my_librispeech_asr", None),
        ("common_voices", None),
    ],
)
def test_names_that_mean_a_known_corpus(name, layout):
    known = [known.name for known in all_layouts() if known.names.fullmatch(name)]
    assert known == ([layout] if layout else [])


def test_all_corpora_side_by_side_in_one_folder(corpora, monkeypatch):
    monkeypatch.setenv("SPEECHTUNE_CORPORA", str(corpora))
    labels = [
        open_corpus(name, config).label
        for name, config in (
            ("common_voice", "tr"),
            ("mozilla-foundation/common_voice_11_0", "hi"),
            ("librispeech_asr", "clean"),
            ("multilingual_librispeech", "german"),
            ("timit_asr", None),
        )
    ]
    assert labels == [
        "common_voice/tr", "common_voice_11_0/hi", "librispeech_asr/clean", "multilingual_librispeech/german",
        "timit_asr",
    ]  # fmt: skip


def test_several_corpora_folders(corpora, tmp_path, monkeypatch):
    monkeypatch.setenv("SPEECHTUNE_CORPORA", f"{tmp_path}:{corpora}")
    assert open_corpus("common_voice", "it").found.root.is_relative_to(corpora)
    assert open_corpus("common_voice", "tr", corpora_dir=tmp_path).found.root.is_relative_to(corpora)


@pytest.mark.parametrize("name", ["typo", "x" * 5_000, "~nobody-of-this-name"])
def test_corpora_folder_that_is_not_there_is_an_error(name):
    with pytest.raises(CorpusError, match=r"no such folder \(--corpora_dir\)"):
        open_corpus("common_voice", "tr", corpora_dir=name)


def test_path_wins_over_a_known_name_and_a_folder_of_that_name_does_not_hide_it(corpora, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "common_voice").mkdir()
    assert open_corpus("common_voice", "tr", corpora_dir=corpora).label == "common_voice/tr"
    write_audio(tmp_path / "common_voice" / "a.wav", "x", 8_000)
    (tmp_path / "common_voice" / "train.csv").write_text("audio,text\na.wav,x\n")
    assert open_corpus("common_voice", corpora_dir=corpora).layout.name == "manifest"


def test_path_to_a_parent_folder(corpora):
    release = corpora / "a" / "b" / "cv-corpus-6.1-2020-12-11"
    assert open_corpus(str(release), "it").label == "common_voice/it"
    with pytest.raises(CorpusError, match="which configuration"):
        open_corpus(str(release))


def test_folder_of_something_else_says_what_it_holds_and_what_is_known(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(CorpusError) as error:
        open_corpus(str(tmp_path))
    assert str(error.value).startswith(f"{tmp_path}: no corpus is recognised here or up to 3 folders below.\n")
    assert "Names there: notes.txt." in str(error.value)
    assert "metadata.csv (file_name,transcription)" in str(error.value)


def write_recordings(folder: Path) -> Path:
    folder.mkdir(parents=True)
    write_audio(folder / "a.wav", "x", 8_000)
    (folder / "metadata.csv").write_text("file_name,transcription\na.wav,merhaba\n")
    return folder


@pytest.mark.parametrize("inside", [".", "my-recordings", "home/me/my-recordings"])
@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_archive_of_a_folder_of_recordings(inside, kind, tmp_path):
    write_recordings(tmp_path / "packed" / inside)
    (tmp_path / "packed" / "__MACOSX" / "my-recordings").mkdir(parents=True)
    (tmp_path / "packed" / "__MACOSX" / "my-recordings" / "metadata.csv").write_bytes(b"\0\5\26\7")
    archive = shutil.make_archive(str(tmp_path / "a"), kind, tmp_path / "packed")
    corpus = open_corpus(archive)
    assert (corpus.label, corpus.read("train").texts) == (Path(archive).name, ["merhaba"])


def test_parent_folder_of_the_one_corpus(tmp_path):
    write_recordings(tmp_path / "data" / "my-recordings")
    (tmp_path / "data" / "notes").mkdir()
    assert open_corpus(str(tmp_path / "data")).read("train").texts == ["merhaba"]


def test_parent_folder_of_several_corpora_names_them(tmp_path):
    for name in ("a", "b"):
        write_recordings(tmp_path / "data" / name)
    with pytest.raises(CorpusError, match=r"data: 2 corpora are in it: a, b\.\nGive the path of one of them\."):
        open_corpus(str(tmp_path / "data"))


@pytest.mark.parametrize("name", ["x" * 5_000, "/" + "x" * 5_000, "a/" * 2_500])
def test_name_that_is_too_long_is_one_message(name, tmp_path):
    with pytest.raises(CorpusError, match=r"^\S{60}\.\.\. \(\d+ characters\): File name too long\.\n.{30,100}$"):
        open_corpus(name, corpora_dir=tmp_path)


@pytest.mark.parametrize("name", ["~nobody-of-this-name/corpus", "a\0b.csv"])
def test_path_that_can_not_be_is_one_message(name):
    with pytest.raises(CorpusError, match="no such file or folder"):
        open_corpus(name)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere", "no.csv", "a/b/c"])
def test_path_that_is_not_there_is_not_asked_of_the_hub(name):
    with pytest.raises(CorpusError, match="no such file or folder"):
        open_corpus(name)


def test_file_that_is_no_corpus(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(CorpusError, match="not a corpus"):
        open_corpus(str(tmp_path / "a.txt"))


@pytest.fixture
def corpus(tmp_path):
    rows = ["audio,text,split"]
    for number in range(10):
        write_audio(tmp_path / f"{number}.wav", "x", 8_000)
        rows.append(f"{number}.wav,{number},{'train' if number < 7 else 'validation'}")
    (tmp_path / "metadata.csv").write_text("\n".join(rows) + "\n")
    return open_corpus(str(tmp_path))


@pytest.mark.parametrize(
    ("splits", "texts"),
    [
        ("train[:3]", "012"),
        ("train[5:]", "56"),
        ("train[-2:]", "56"),
        ("train[1:3] + dev", "12789"),
        ("train[:50%]", "0123"),
        ("train[50%:]+train[:50%]", "4560123"),
        ("valid", "789"),
        ("Validation", "789"),
    ],
)
def test_split_expressions(corpus, splits, texts):
    assert "".join(corpus.read(splits).texts) == texts


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ("tain", "no split 'tain'.\nSplits: train, validation.\nDid you mean train?"),
        ("test", "no split 'test'.\nSplits: train, validation."),
        ("train+train", "'train+train' takes split train twice"),
        ("dev+validation", "takes split validation twice"),
        ("train[1:2:3]", "'train[1:2:3]' names no split"),
        ("", "'' names no split"),
        ("train+", "'' names no split"),
    ],
)
def test_wrong_split_expressions_list_the_splits(corpus, splits, message):
    with pytest.raises(CorpusError) as error:
        corpus.read(splits)
    assert message in str(error.value)


def test_config_of_a_corpus_that_has_none_is_mentioned(tmp_path, caplog):
    write_audio(tmp_path / "a.wav", "x", 8_000)
    (tmp_path / "train.csv").write_text("audio,text\na.wav,x\n")
    with caplog.at_level(logging.INFO, logger="speechtune"):
        open_corpus(str(tmp_path), "tr")
    assert "has no configurations; 'tr' is not used" in caplog.text
