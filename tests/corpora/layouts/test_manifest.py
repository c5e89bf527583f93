from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from standins.corpora import write_audio

from speechtune.corpora import open_corpus
from speechtune.errors import CorpusError


@pytest.fixture
def clips(tmp_path):
    for name in ("a", "b", "c"):
        write_audio(tmp_path / "clips" / f"{name}.wav", name, 16_000)
    return tmp_path


def test_csv_tsv_and_jsonl_say_the_same(clips):
    rows = [("clips/a.wav", "bir", "s1"), ("clips/b.wav", "iki", "s2")]
    (clips / "m.csv").write_text("audio,text,speaker\n" + "".join(",".join(row) + "\n" for row in rows))
    (clips / "m.tsv").write_text("path\tsentence\tclient_id\n" + "".join("\t".join(row) + "\n" for row in rows))
    lines = [json.dumps({"audio_filepath": audio, "transcript": text, "spk": who}) + "\n" for audio, text, who in rows]
    (clips / "m.jsonl").write_text("".join(lines))
    (clips / "m.json").write_text(f"[{','.join(lines)}]")
    tables = [open_corpus(str(clips / name)).read("train") for name in ("m.csv", "m.tsv", "m.jsonl", "m.json")]
    for table in tables:
        assert [(u.audio, u.text, u.speaker, u.id) for u in map(table.__getitem__, range(2))] == [
            (str(clips / audio), text, who, audio.removesuffix(".wav")) for audio, text, who in rows
        ]


def test_default_text_column_is_the_one_that_is_there(clips):
    (clips / "m.csv").write_text("audio,transcription\nclips/a.wav,bir\n")
    corpus = open_corpus(str(clips / "m.csv"))
    assert corpus.default_text_column == "transcription"
    assert corpus.read("train").texts == ["bir"]


def test_paths_absolute_relative_and_with_any_letters(clips):
    odd = "odd ü 'name'; \U0001f600.wav"
    write_audio(clips / "clips" / odd, "x", 16_000)
    (clips / "train.jsonl").write_text(
        "".join(
            json.dumps({"audio": str(path), "text": "x"}) + "\n"
            for path in (clips / "clips/a.wav", f"clips/{odd}", "clips/../clips/b.wav")
        ),
        encoding="utf-8",
    )
    table = open_corpus(str(clips)).read("train")
    assert [table[i].audio for i in range(3)] == [str(clips / "clips" / name) for name in ("a.wav", odd, "b.wav")]


def test_split_column_selects_splits_in_order_of_appearance(clips):
    (clips / "m.csv").write_text("audio,text,split\nclips/a.wav,bir,test\nclips/b.wav,iki,train\nclips/c.wav,üç,dev\n")
    corpus = open_corpus(str(clips / "m.csv"))
    assert corpus.splits == ("test", "train", "validation")
    assert corpus.read("train+validation").texts == ["iki", "üç"]


def test_row_of_no_split_and_bad_lines_are_counted_once(clips):
    (clips / "m.csv").write_text(
        "audio,text,split\nclips/a.wav,bir,train\nclips/b.wav,iki,\n7\n,x,test\nclips/c.wav,üç,test\n"
    )
    corpus = open_corpus(str(clips / "m.csv"))
    assert [(row.file, row.detail) for row in corpus.read("train").skipped] == [
        ("m.csv:3", "it belongs to no split: "),
        ("m.csv:4", "1 fields, the header has 3"),
    ]
    assert [(row.file, row.detail) for row in corpus.read("test").skipped] == [("m.csv:5", "no audio in this row")]


def test_damaged_rows_are_counted_with_the_split_that_they_name(clips):
    (clips / "m.csv").write_bytes(
        "audio,text,split\nclips/a.wav,çay,train\n".encode()
        + b"clips/b.wav,caf\xe9,test\nclips/b.wav,a, b,test\nclips/c.wav,iki,test\n"
    )
    corpus = open_corpus(str(clips / "m.csv"))
    assert corpus.read("train").skipped == []
    assert [(row.file, row.detail) for row in corpus.read("test").skipped] == [
        ("m.csv:3", "not UTF-8 at byte 15"),
        ("m.csv:4", "4 fields, the header has 3"),
    ]


def test_latin1_table_is_read_whole(clips, caplog):
    rows = "".join(f"clips/a.wav,{'café' if n % 3 == 0 else 'plain'},test\n" for n in range(20))
    (clips / "m.csv").write_bytes(f"audio,text,split\n{rows}".encode("latin-1"))
    table = open_corpus(str(clips / "m.csv")).read("test")
    assert (len(table), table.texts[0], table.skipped) == (20, "café", [])
    assert [message for message in caplog.messages if "Windows-1252" in message] == [
        f"{clips}/m.csv: not UTF-8; read as Windows-1252. If its letters come out wrong, save it as UTF-8"
    ]


def test_json_list_with_an_upper_case_ending(clips):
    (clips / "TRAIN.JSON").write_text('[{"audio": "clips/a.wav", "text": "bir"}]')
    for place in (clips, clips / "TRAIN.JSON"):
        assert open_corpus(str(place)).read("train").texts == ["bir"]


def test_pipe_in_the_place_of_a_table_is_refused(clips):
    os.mkfifo(clips / "train.csv")
    with pytest.raises(CorpusError, match=r"train\.csv: not a regular file"):
        open_corpus(str(clips)).read("train")


# Audio outside the corpus


def diary(folder: Path) -> Path:
    write_audio(folder / "diary.wav", "diary", 16_000)
    return folder / "diary.wav"


@pytest.mark.parametrize("name", ["../diary.wav", "clips/../../diary.wav", "~/diary.wav"])
def test_names_that_leave_the_folder_need_an_option(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    private = diary(tmp_path)
    write_audio(tmp_path / "corpus" / "a.wav", "a", 16_000)
    (tmp_path / "corpus" / "train.csv").write_text(f"audio,text\na.wav,bir\n{name},gizli\n")
    table = open_corpus(str(tmp_path / "corpus")).read("train")
    assert table.texts == ["bir"]
    assert [(row.file, row.reason) for row in table.skipped] == [("train.csv:3", "outside_audio")]
    assert table.skipped[0].detail == f"{name!r} is outside {tmp_path / 'corpus'} (--allow_outside_audio)"
    table = open_corpus(str(tmp_path / "corpus"), allow_outside_audio=True).read("train")
    assert table[1].audio == str(private)


def test_device_or_pipe_is_never_audio(clips):
    os.mkfifo(clips / "pipe.wav")
    (clips / "m.csv").write_text(
        "audio,text\nclips/a.wav,bir\npipe.wav,x\n/dev/zero,x\n/proc/self/environ,x\n/proc/version,x\n"
    )
    table = open_corpus(str(clips / "m.csv"), allow_outside_audio=True).read("train")
    assert table.texts == ["bir"]
    assert [row.reason for row in table.skipped] == ["not_a_file"] * 4


@pytest.mark.parametrize("table", ["train.csv", "metadata.csv"])
@pytest.mark.parametrize("name", ["{private}", "../../diary.wav", "~/diary.wav", "/etc/passwd"])
def test_archive_reads_only_its_members(table, name, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    name = name.format(private=diary(tmp_path))
    write_audio(tmp_path / "c" / "audio" / "a.wav", "a", 16_000)
    (tmp_path / "c" / table).write_text(f"file_name,text\naudio/a.wav,bir\n{name},gizli\n")
    archive = shutil.make_archive(str(tmp_path / "packed"), "gztar", tmp_path / "c", ".")
    read = open_corpus(archive, allow_outside_audio=True).read("train")
    assert read.texts == ["bir"]
    assert [(row.file, row.reason) for row in read.skipped] == [(f"{table}:3", "outside_audio")]


def test_file_name_tells_the_split(clips):
    (clips / "test.csv").write_text("audio,text\nclips/a.wav,bir\n")
    assert open_corpus(str(clips / "test.csv")).splits == ("test",)


def test_folder_of_manifests(clips):
    for name, clip in (("train.csv", "a"), ("dev.tsv", "b"), ("test.jsonl", "c")):
        row = {"csv": f"audio,text\nclips/{clip}.wav,{clip}\n", "tsv": f"audio\ttext\nclips/{clip}.wav\t{clip}\n"}
        (clips / name).write_text(row.get(name[-3:], json.dumps({"audio": f"clips/{clip}.wav", "text": clip}) + "\n"))
    corpus = open_corpus(str(clips))
    assert corpus.splits == ("train", "validation", "test")
    assert corpus.name == clips.name
    assert corpus.read("train+dev+test").texts == ["a", "b", "c"]


def test_duration_and_language_columns(clips):
    (clips / "m.csv").write_text("audio,text,duration,language\nclips/a.wav,bir,7.5,tr\n")
    utterance = open_corpus(str(clips / "m.csv")).read("train")[0]
    assert (utterance.duration_s, utterance.language) == (7.5, "tr")


def test_audio_column_by_name(clips):
    (clips / "m.csv").write_text("near,far,text\nclips/a.wav,clips/b.wav,bir\n")
    corpus = open_corpus(str(clips / "m.csv"))
    assert corpus.read("train", audio_column="far")[0].audio == str(clips / "clips/b.wav")
    with pytest.raises(CorpusError) as error:
        corpus.read("train")
    assert str(error.value).splitlines() == [
        f"{clips}/m.csv: no column that names the audio.",
        "Columns: near, far, text.",
        "Name it with --audio_column_name, or call it one of: audio, file_name, audio_filepath, audio_path, path, file.",  # noqa: E501
    ]


def test_header_without_rows_is_an_error(clips):
    (clips / "m.csv").write_text("audio,text\n")
    with pytest.raises(CorpusError, match="it has no rows"):
        open_corpus(str(clips / "m.csv")).read("train")


def test_numbers_and_truth_values_become_text(clips):
    (clips / "m.jsonl").write_text(
        '{"audio": "clips/a.wav", "text": 42, "ok": true, "score": 0.5, "list": [1], "none": null}\n'
    )
    table = open_corpus(str(clips / "m.jsonl")).read("train")
    assert table.texts == ["42"]
    assert [table.column(name) for name in ("ok", "score", "list", "none")] == [["true"], ["0.5"], [None], [None]]
