"""Corrections: what a person wrote replaces the corpus' text, everywhere a table goes; the corpus stays as it is."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from standins.corpora import write_audio

from speechtune.corpora import open_corpus
from speechtune.corpora.corrections import Correction, apply_corrections, matched_rows, read_corrections
from speechtune.errors import CorpusError

TEXTS = ["bir", "iki", "üç", "dört"]


@pytest.fixture
def table(tmp_path: Path):
    lines = ["file_name,transcription,split"]
    for number, text in enumerate(TEXTS):
        write_audio(tmp_path / "clips" / f"{number}.wav", text * (number + 4), 16_000)
        lines.append(f"clips/{number}.wav,{text},train")
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return open_corpus(str(tmp_path)).read("train")


def written(tmp_path: Path, text: str) -> list[Correction]:
    (tmp_path / "fixed.csv").write_text(text, encoding="utf-8-sig")
    return read_corrections(tmp_path / "fixed.csv")


def test_texts_are_replaced_by_id_or_file_and_an_empty_one_removes(table, tmp_path):
    text = 'id,file,text\nclips/0,,"bir, iki"\n,clips/1.wav,\nclips/3,clips/3.wav, dört \n'
    found = apply_corrections(table, written(tmp_path, text))
    assert found.texts == ["bir, iki", "üç", "dört"] and found.ids == ["clips/0", "clips/2", "clips/3"]
    assert (found.num_corrected, [(row.id, row.reason) for row in found.removed]) == (1, [("clips/1", "removed")])
    assert found.skipped == list(found.removed)
    assert table.texts == TEXTS and found[0].text == "bir, iki"


def test_corrections_stay_with_their_rows_in_selections_and_workers(table, tmp_path):
    found = apply_corrections(table, written(tmp_path, "id,text\nclips/0,\nclips/2,drei\n"))
    assert found.select([2, 1]).texts == ["dört", "drei"] and found.select([1])[0].text == "drei"
    again = pickle.loads(pickle.dumps(found))
    assert again.texts == found.texts and again.removed == found.removed


def test_a_row_is_about_the_utterance_that_both_its_names_mean(table, tmp_path):
    text = "id;path;text\nclips/0;clips/1.wav;x\nclips/9;;x\n;lips/2.wav;x\n;./clips/2.wav;x\n"
    assert [(one.file, row) for one, row in matched_rows(table, written(tmp_path, text))] == [("./clips/2.wav", 2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,sentence\na,b\n", r"line 2: no text column(.|\n)*Columns: id, sentence"),
        ("name,text\na,b\n", "neither id nor file"),
        ("id,text\na,b\na,c\n", "line 3: another text for a than in a row above"),
        ("id,text\na,b,c\n", "line 2: 3 fields, the header has 2"),
        ("id,text\n", "no rows"),
    ],
)
def test_a_table_that_can_not_be_understood_is_one_message(tmp_path, text, message):
    with pytest.raises(CorpusError, match=message):
        written(tmp_path, text)


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CorpusError, match=r"nowhere.csv: can't be read"):
        read_corrections(tmp_path / "nowhere.csv")
