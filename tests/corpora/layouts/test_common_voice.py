from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest
from standins.corpora import write_audio

from speechtune.corpora import open_corpus
from speechtune.errors import CorpusError


def test_unpacked_folder_by_name_and_by_path(corpora, monkeypatch):
    monkeypatch.setenv("SPEECHTUNE_CORPORA", str(corpora))
    by_name = open_corpus("common_voice", "tr")
    by_path = open_corpus(str(corpora / "a/b/cv-corpus-6.1-2020-12-11/tr"))
    for corpus in (by_name, by_path):
        assert (corpus.name, corpus.config_name, corpus.language) == ("common_voice", "tr", "tr")
        assert corpus.splits == ("train", "validation", "test", "validated", "other", "invalidated")
        assert corpus.default_text_column == "sentence"
        assert len(corpus.read("train+validation")) == 18
    table = by_name.read("dev")
    assert table.columns[:3] == ("client_id", "path", "sentence")
    assert table[0].speaker == table.column("client_id")[0]
    assert len(table[0].speaker) == 128
    assert table[0].language == "tr"


def folder_with(root: Path, language: str, rows: list[str], name: str = "cv-corpus-17.0-2024-03-15") -> Path:
    folder = root / name / language
    write_audio(folder / "clips" / "a.mp3", "merhaba", 48_000)
    (folder / "train.tsv").write_text("client_id\tpath\tsentence\n" + "".join(rows), encoding="utf-8")
    return folder


def test_sentences_are_kept_as_they_are_quotes_and_all(tmp_path):
    folder = folder_with(
        tmp_path, "tr", ['s\ta.mp3\t"""Ah"", dedi.\n', 's\ta.mp3\tKapanmayan " tırnak\n', "s\ta.mp3\t\n"]
    )
    table = open_corpus(str(folder)).read("train")
    assert table.texts == ['"""Ah"", dedi.', 'Kapanmayan " tırnak', ""]


def test_durations_of_the_release_are_used_instead_of_headers(tmp_path):
    folder = folder_with(tmp_path, "tr", ["s\ta.mp3\tbir\n", "s\tb.mp3\tiki\n"])
    (folder / "clip_durations.tsv").write_text("clip\tduration[ms]\na.mp3\t4968\nb.mp3\t1000\n")
    table = open_corpus(str(folder)).read("train")
    assert table.durations_s.tolist() == [pytest.approx(4.968)]
    assert [(row.id, row.reason) for row in table.skipped] == [("b", "missing_file")]


def test_language_of_a_locale_with_a_region(tmp_path):
    assert open_corpus(str(folder_with(tmp_path, "sv-SE", ["s\ta.mp3\tja\n"]))).language == "sv"


def test_path_that_leaves_the_clips_folder_is_a_bad_row(tmp_path):
    folder = folder_with(tmp_path, "tr", ["s\t../../secret.mp3\tx\n", "s\ta.mp3\tbir\n"])
    table = open_corpus(str(folder)).read("train")
    assert [(row.file, row.reason) for row in table.skipped] == [("train.tsv:2", "bad_row")]


def test_unknown_config_lists_those_found_and_says_what_was_meant(tmp_path):
    for language in ("tr", "sv-SE"):
        folder_with(tmp_path, language, ["s\ta.mp3\tx\n"])
    with pytest.raises(CorpusError) as error:
        open_corpus("common_voice", "sw", corpora_dir=tmp_path)
    assert str(error.value).splitlines() == [
        f"common_voice: no configuration 'sw' under {tmp_path}/cv-corpus-17.0-2024-03-15.",
        "Found: sv-SE, tr.",
        "'sw' is Swahili; Swedish is 'sv-SE'.",
        "Try --dataset_config_name sv-SE",
    ]
    with pytest.raises(CorpusError, match="which configuration"):
        open_corpus("common_voice", corpora_dir=tmp_path)


def test_only_config_needs_no_name(tmp_path):
    folder_with(tmp_path, "tr", ["s\ta.mp3\tx\n"])
    assert open_corpus("common_voice", corpora_dir=tmp_path).config_name == "tr"


def test_release_in_the_name_is_preferred_and_another_is_taken_with_a_warning(tmp_path, caplog):
    for release in ("cv-corpus-6.1-2020-12-11", "cv-corpus-11.0-2022-09-21", "cv-corpus-13.0-2023-03-09"):
        folder_with(tmp_path, "hi", ["s\ta.mp3\tx\n"], release)
    exact = open_corpus("mozilla-foundation/common_voice_11_0", "hi", corpora_dir=tmp_path)
    assert (exact.found.release, exact.label, caplog.text) == ("11.0", "common_voice_11_0/hi", "")
    other = open_corpus("mozilla-foundation/common_voice_3_0", "hi", corpora_dir=tmp_path)
    assert (other.found.release, other.label) == ("13.0", "common_voice_13_0/hi")
    assert "release 3.0 not found; using 13.0" in caplog.text
    assert open_corpus("common_voice", "hi", corpora_dir=tmp_path).found.release == "6.1"  # what the hub's name meant


def test_archive_is_unpacked_once_by_path_or_found_by_name(corpora, tmp_path):
    packed = tmp_path / "packed"
    packed.mkdir()
    archive = packed / "cv-corpus-6.1-2020-12-11-tr.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(corpora / "a/b/cv-corpus-6.1-2020-12-11/tr", "cv-corpus-6.1-2020-12-11/tr")
    by_path = open_corpus(str(archive))
    assert len(by_path.read("test")) == 8
    by_name = open_corpus("common_voice", "tr", corpora_dir=packed)
    assert by_name.found.root == by_path.found.root
    with pytest.raises(CorpusError, match=r"no configuration 'de'|not found"):
        open_corpus("common_voice", "de", corpora_dir=packed)


def pack(folder: Path, release: str, language: str) -> None:
    root = folder / "plain"
    folder_with(root, language, [f"s\ta.mp3\t{release}\n"], f"cv-corpus-{release}-2020-01-01")
    with tarfile.open(folder / f"cv-corpus-{release}-2020-01-01-{language}.tar.gz", "w:gz") as tar:
        tar.add(root, ".")
    shutil.rmtree(root)


def test_archives_of_several_releases_and_languages(tmp_path):
    for release, language in (("9.0", "tr"), ("11.0", "tr"), ("11.0", "sv-SE")):
        pack(tmp_path, release, language)
    wanted = {"mozilla-foundation/common_voice_9_0": "9.0", "mozilla-foundation/common_voice_11_0": "11.0"}
    for name, release in {**wanted, "common_voice": "11.0"}.items():
        assert open_corpus(name, "tr", corpora_dir=tmp_path).read("train").texts == [release]
    assert open_corpus(str(tmp_path), "sv-SE").read("train").texts == ["11.0"]
    for place in ("common_voice", str(tmp_path)):
        with pytest.raises(CorpusError, match=r"archives of several configurations: sv-SE, tr\."):
            open_corpus(place, corpora_dir=tmp_path)


def test_archive_of_the_release_asked_for_wins_over_an_unpacked_older_one(tmp_path, caplog):
    folder_with(tmp_path, "tr", ["s\ta.mp3\told\n"], "cv-corpus-6.1-2020-12-11")
    pack(tmp_path, "11.0", "tr")
    assert open_corpus("common_voice_11_0", "tr", corpora_dir=tmp_path).read("train").texts == ["11.0"]
    assert open_corpus("common_voice", "tr", corpora_dir=tmp_path).read("train").texts == ["old"]
    assert caplog.text == ""


def test_nothing_found_says_where_it_looked_and_how_to_get_it(tmp_path):
    with pytest.raises(CorpusError) as error:
        open_corpus("common_voice", "tr", corpora_dir=tmp_path)
    text = str(error.value)
    assert text.startswith("common_voice/tr: not found.\nLooked at:\n")
    assert f"  {tmp_path}\n" in text
    assert "commonvoice.mozilla.org" in text
    assert "--corpora_dir or $SPEECHTUNE_CORPORA" in text
