from __future__ import annotations

import pytest
from standins.corpora import write_mls

from speechtune.corpora import open_corpus


@pytest.fixture
def corpus(tmp_path):
    write_mls(tmp_path)
    return open_corpus("facebook/multilingual_librispeech", "german", corpora_dir=tmp_path)


def test_splits_and_language(corpus):
    assert corpus.splits == ("train", "validation", "test", "9_hours", "1_hours", "10_hours")
    assert (corpus.label, corpus.language) == ("multilingual_librispeech/german", "de")


def test_limited_supervision_and_its_older_names(corpus):
    assert corpus.read("train.9h").ids == [f"100{n % 2}_5000_{n:06d}" for n in range(4)]
    assert corpus.read("1_hours").ids == [f"100{n % 2}_5000_{n:06d}" for n in range(4, 10)]
    assert corpus.read("10_hours").ids == corpus.read("train.9h+train.1h").ids


def test_row_and_duration_from_segments(corpus, tmp_path):
    row = corpus.read("dev")[1]
    assert row.audio == str(tmp_path / "mls_german/dev/audio/1011/5001/1011_5001_000001.flac")
    assert (row.speaker, row.language) == ("1011", "de")
    assert row.duration_s == pytest.approx(0.99, abs=0.5)


def test_transcript_is_another_name_of_text(corpus):
    assert corpus.read("test", text_column="transcript").texts == corpus.read("test", text_column="text").texts


def test_opus_edition(tmp_path):
    write_mls(tmp_path)
    folder = tmp_path / "mls_german"
    folder.rename(tmp_path / "mls_german_opus")
    for flac in (tmp_path / "mls_german_opus/dev/audio").rglob("*.flac"):
        flac.rename(flac.with_suffix(".opus"))
    corpus = open_corpus("multilingual_librispeech", "german", corpora_dir=tmp_path)
    assert corpus.read("dev")[0].audio.endswith("1010_5001_000000.opus")


def test_broken_lines_cost_only_themselves(tmp_path):
    write_mls(tmp_path)
    with (tmp_path / "mls_german/dev/transcripts.txt").open("a") as file:
        file.write("no tab here\n1010_5001\ttext\n")
    (tmp_path / "mls_german/dev/segments.txt").write_text("1010_5001_000000\tu\tx\ty\n\n")
    table = open_corpus(str(tmp_path / "mls_german")).read("dev")
    assert len(table) == 8
    assert [row.file for row in table.skipped] == ["transcripts.txt:9", "transcripts.txt:10"]
