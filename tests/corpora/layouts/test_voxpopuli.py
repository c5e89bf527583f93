from __future__ import annotations

import tarfile

from standins.corpora import write_audio

from speechtune.corpora import open_corpus

HEADER = "id\traw_text\tnormalized_text\tspeaker_id\tsplit\tgender\n"
ID = "20180206-0900-PLENARY-15-hr_20180206-16:10:06_5"


def test_release_layout_by_year(tmp_path):
    folder = tmp_path / "transcribed_data" / "hr"
    write_audio(folder / "2018" / f"{ID}.ogg", "text", 16_000)
    (folder / "asr_train.tsv").write_text(f"{HEADER}{ID}\tJedan.\tjedan\t119431\ttrain\tfemale\n")
    (folder / "asr_dev.tsv").write_text(HEADER)
    corpus = open_corpus("facebook/voxpopuli", "hr", corpora_dir=tmp_path)
    assert (corpus.label, corpus.language, corpus.splits) == ("voxpopuli/hr", "hr", ("train", "validation"))
    row = corpus.read("train")[0]
    assert (row.id, row.text, row.speaker) == (ID, "jedan", "119431")
    assert row.audio == str(folder / "2018" / f"{ID}.ogg")
    assert corpus.read("train", text_column="raw_text").texts == ["Jedan."]


def test_files_of_the_hub_with_audio_in_archives(tmp_path):
    folder = tmp_path / "data" / "hr"
    write_audio(tmp_path / f"{ID}.wav", "text", 16_000)
    (folder / "train").mkdir(parents=True)
    with tarfile.open(folder / "train" / "train_part_0.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / f"{ID}.wav", f"train_part_0/{ID}.wav")
    (folder / "asr_train.tsv").write_text(f"{HEADER}{ID}\tJedan.\tjedan\t119431\ttrain\tfemale\n")
    assert open_corpus("facebook/voxpopuli", "hr", corpora_dir=tmp_path).read("train").texts == ["jedan"]
