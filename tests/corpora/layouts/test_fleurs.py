from __future__ import annotations

import tarfile

import pytest
from standins.corpora import duration_of, write_audio

from speechtune.corpora import open_corpus

SENTENCES = {"train": ["Bir, iki.", "Üç!"], "dev": ["Dört?"], "test": ["Beş altı."]}


def write_fleurs(root, language="tr_tr", packed=()):
    folder = root / "data" / language
    for split, sentences in SENTENCES.items():
        lines = []
        for number, raw in enumerate(sentences):
            name = f"{hash((split, number)) & 0xFFFFFFFF}.wav"
            write_audio(folder / "audio" / split / name, raw, 16_000)
            plain = raw.lower().strip(".!?").replace(",", "")
            samples = round(duration_of(raw) * 16_000)
            spelt = " ".join(plain).replace("   ", " | ")
            lines.append(f"{number}\t{name}\t{raw}\t{plain}\t{spelt}\t{samples}\tFEMALE\n")
        (folder / f"{split}.tsv").write_text("".join(lines), encoding="utf-8")
        if split in packed:
            with tarfile.open(folder / "audio" / f"{split}.tar.gz", "w:gz") as tar:
                tar.add(folder / "audio" / split, split)
            for clip in (folder / "audio" / split).iterdir():
                clip.unlink()
            (folder / "audio" / split).rmdir()


def test_rows(tmp_path):
    write_fleurs(tmp_path)
    corpus = open_corpus("google/fleurs", "tr_tr", corpora_dir=tmp_path)
    assert (corpus.label, corpus.language, corpus.splits) == ("fleurs/tr_tr", "tr", ("train", "validation", "test"))
    table = corpus.read("train+dev")
    assert table.texts == ["bir iki", "üç", "dört"]
    assert corpus.read("train", text_column="raw_transcription").texts == ["Bir, iki.", "Üç!"]
    assert table.durations_s.tolist() == [pytest.approx(0.6), pytest.approx(0.6), pytest.approx(0.6)]
    assert table.column("gender") == ["female"] * 3


def test_audio_that_is_still_packed_is_unpacked_when_its_split_is_read(tmp_path):
    write_fleurs(tmp_path, packed=("dev",))
    corpus = open_corpus("google/fleurs", "tr_tr", corpora_dir=tmp_path)
    assert corpus.read("dev").texts == ["dört"]


def test_mandarin_has_the_usual_code(tmp_path):
    write_fleurs(tmp_path, "cmn_hans_cn")
    assert open_corpus("google/fleurs", corpora_dir=tmp_path).language == "zh"


def test_folder_of_tables_that_only_looks_alike_is_a_manifest(tmp_path):
    write_audio(tmp_path / "audio" / "a.wav", "x", 16_000)
    (tmp_path / "train.tsv").write_text("path\ttext\naudio/a.wav\tx\n")
    assert open_corpus(str(tmp_path)).layout.name == "manifest"
