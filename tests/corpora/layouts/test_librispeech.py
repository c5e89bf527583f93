from __future__ import annotations

import tarfile

import pytest
from standins.corpora import write_librispeech

from speechtune.corpora import open_corpus
from speechtune.errors import CorpusError


@pytest.fixture
def root(tmp_path):
    write_librispeech(tmp_path, subsets=("train-clean-100", "train-other-500", "dev-clean", "test-clean", "test-other"))
    return tmp_path


def test_configs_and_splits_are_the_hubs(root):
    splits = {name: open_corpus("librispeech_asr", name, corpora_dir=root).splits for name in ("clean", "other", "all")}
    assert splits == {
        "clean": ("train.100", "validation", "test"),
        "other": ("train.500", "test"),
        "all": ("train.clean.100", "train.other.500", "validation.clean", "test.clean", "test.other"),
    }


def test_rows(root):
    corpus = open_corpus("librispeech_asr", "clean", corpora_dir=root)
    table = corpus.read("train.100")
    first = table[0]
    assert (first.id, first.speaker, first.language) == ("100-120100-0000", "100", "en")
    assert first.text == "SHE HAD A DARK SUIT"
    assert first.audio == str(root / "LibriSpeech/train-clean-100/100/120100/100-120100-0000.flac")
    assert table.column("chapter_id")[0] == "120100"
    assert table.column("gender")[0] == "F"
    assert len(table) == 10


@pytest.mark.parametrize(
    ("config", "name", "split"),
    [
        ("clean", "train.clean.100", "train.100"),
        ("clean", "train-clean-100", "train.100"),
        ("clean", "dev", "validation"),
        ("clean", "dev.clean", "validation"),
        ("all", "train-clean-100", "train.clean.100"),
        ("all", "validation.clean", "validation.clean"),
        ("other", "test-other", "test"),
    ],
)
def test_other_names_of_splits(root, config, name, split):
    assert open_corpus("openslr/librispeech_asr", config, corpora_dir=root).read(name).split == split


def test_split_of_another_config_is_an_error(root):
    with pytest.raises(CorpusError, match=r"no split 'train.other.500'"):
        open_corpus("librispeech_asr", "clean", corpora_dir=root).read("train.other.500")


def test_archives_stay_packed_until_their_split_is_read(root, tmp_path):
    packed = tmp_path / "packed"
    packed.mkdir()
    for subset in ("train-clean-100", "dev-clean"):
        with tarfile.open(packed / f"{subset}.tar.gz", "w:gz") as tar:
            tar.add(root / "LibriSpeech" / subset, f"LibriSpeech/{subset}")
    (packed / "test-clean.tar.gz").write_bytes(b"torn")
    corpus = open_corpus("librispeech_asr", "clean", corpora_dir=packed)
    assert corpus.splits == ("train.100", "validation", "test")
    assert len(corpus.read("validation")) == 10
    with pytest.raises(CorpusError, match=r"test-clean\.tar\.gz: the archive is truncated or damaged"):
        corpus.read("test")


def test_flac_that_is_missing_is_skipped(root):
    (root / "LibriSpeech/dev-clean/120/120120/120-120120-0003.flac").unlink()
    table = open_corpus("librispeech_asr", "clean", corpora_dir=root).read("validation")
    assert [(row.id, row.reason) for row in table.skipped] == [("120-120120-0003", "missing_file")]


def test_line_without_an_id_is_a_bad_row(root):
    with (root / "LibriSpeech/dev-clean/120/120120/120-120120.trans.txt").open("ab") as file:
        file.write(b"HELLO\n\xff\xfe\n")
    table = open_corpus("librispeech_asr", "clean", corpora_dir=root).read("validation")
    assert [(row.file, row.reason) for row in table.skipped] == [
        ("120-120120.trans.txt:6", "bad_row"),
        ("120-120120.trans.txt:7", "bad_row"),
    ]
