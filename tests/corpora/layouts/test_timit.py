from __future__ import annotations

import json

import pytest
import soundfile as sf
from standins.corpora import write_timit

from speechtune.corpora import open_corpus


@pytest.mark.parametrize("upper", [True, False])
def test_upper_and_lower_case_copies_give_the_same_rows(tmp_path, upper):
    write_timit(tmp_path, upper=upper)
    corpus = open_corpus("timit_asr", "clean", corpora_dir=tmp_path)
    assert (corpus.splits, corpus.language, corpus.label) == (("train", "test"), "en", "timit_asr")
    table = corpus.read("train")
    assert table.ids[:3] == ["FCJF0_SA1", "FCJF0_SX127", "FCJF0_SX217"]
    assert table.speakers[0] == "FCJF0"
    assert table.texts[0] == "She had a dark suit."
    assert table.column("phones")[0] == "h# sh iy hv ae dcl d ax-h q h#"
    assert table.column("sentence_type")[:2] == ["SA", "SX"]
    assert table.column("dialect_region")[0] == "DR1"
    assert len(table) == 10
    assert table[0].duration_s == pytest.approx(1.1)


def test_phonetic_detail_has_sample_bounds(tmp_path):
    write_timit(tmp_path)
    detail = json.loads(open_corpus("timit_asr", corpora_dir=tmp_path).read("test").column("phonetic_detail")[0])
    assert detail["utterance"][:2] == ["h#", "sh"]
    assert detail["start"][0] == 0
    assert detail["stop"][0] == detail["start"][1]


def test_phones_as_the_transcript(tmp_path):
    write_timit(tmp_path)
    table = open_corpus("timit_asr", corpora_dir=tmp_path).read("test", text_column="phones")
    assert table.texts[0].split()[0] == "h#"


def test_copy_with_converted_files_beside_uses_each_sentence_once(tmp_path):
    write_timit(tmp_path)
    for wav in list((tmp_path / "TIMIT").rglob("*.WAV")):
        sf.write(f"{wav}.wav", [0.1] * 8000, 16_000)
        if "TEST" in str(wav):
            wav.unlink()
    corpus = open_corpus("timit_asr", corpora_dir=tmp_path)
    assert len(corpus.read("train")) == 10
    assert corpus.read("train")[0].audio.endswith("SA1.WAV")
    assert corpus.read("test")[0].audio.endswith("SA1.WAV.wav")


def test_sentence_without_a_transcript_is_a_bad_row(tmp_path):
    write_timit(tmp_path)
    folder = tmp_path / "TIMIT/TRAIN/DR1/FCJF0"
    (folder / "SA1.TXT").unlink()
    (folder / "SX127.PHN").write_text("0 zwei h#\n")
    table = open_corpus("timit_asr", corpora_dir=tmp_path).read("train")
    assert [(row.id, row.detail) for row in table.skipped] == [
        ("FCJF0_SA1", "no transcript: SA1.TXT is missing or empty"),
        ("FCJF0_SX127", "SX127.PHN: line 1 is not 'begin end label'"),
    ]
