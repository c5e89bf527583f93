from __future__ import annotations

import json
import logging
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from standins.corpora import write_audio

import speechtune.audio.probe as headers
from speechtune.audio.packed import Packed, open_arrow
from speechtune.audio.probe import Probe
from speechtune.corpora import index as index_module
from speechtune.corpora import open_corpus
from speechtune.corpora.index import MAX_COLUMNS, TableWriter
from speechtune.corpora.layout import BadRow, Row
from speechtune.corpora.table import IndexedSplit, SplitTable
from speechtune.errors import CorpusError


def write_manifest(folder: Path, number: int = 4) -> Path:
    lines = ["audio,text"]
    for index in range(number):
        write_audio(folder / "clips" / f"{index}.wav", f"text {index}", 8_000)
        lines.append(f"clips/{index}.wav,text {index}")
    (folder / "train.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def index_files() -> list[Path]:
    return sorted(Path(os.environ["SPEECHTUNE_CACHE"]).glob("index/*/index.json"))


def forbid_headers(monkeypatch):
    def probe(task):
        raise AssertionError(f"looked at {task.audio}")

    monkeypatch.setattr(headers, "probe", probe)


def test_second_start_looks_at_no_clip(tmp_path, monkeypatch):
    write_manifest(tmp_path)
    first = open_corpus(str(tmp_path)).read("train")
    forbid_headers(monkeypatch)
    second = open_corpus(str(tmp_path)).read("train")
    assert [second[i] for i in range(4)] == [first[i] for i in range(4)]


def test_changed_table_is_indexed_again(tmp_path):
    write_manifest(tmp_path)
    assert len(open_corpus(str(tmp_path)).read("train")) == 4
    with (tmp_path / "train.csv").open("a") as file:
        file.write("clips/0.wav,once more\n")
    assert open_corpus(str(tmp_path)).read("train").texts[-1] == "once more"


def test_removed_and_added_clips_are_noticed(tmp_path):
    write_manifest(tmp_path)
    open_corpus(str(tmp_path)).read("train")
    data = (tmp_path / "clips/1.wav").read_bytes()
    (tmp_path / "clips/1.wav").unlink()
    assert len(open_corpus(str(tmp_path)).read("train")) == 3
    (tmp_path / "clips/1.wav").write_bytes(data)
    assert len(open_corpus(str(tmp_path)).read("train")) == 4


def test_overwrite_cache_looks_again(tmp_path, monkeypatch):
    write_manifest(tmp_path)
    open_corpus(str(tmp_path)).read("train")
    time.sleep(0.02)  # file times are coarse
    again = open_corpus(str(tmp_path), overwrite_cache=True)
    assert len(again.read("train")) == 4
    forbid_headers(monkeypatch)
    assert len(again.read("train")) == 4  # built after the corpus was opened: once a run is enough


def test_unreadable_clips_are_skipped_with_a_reason_that_the_index_keeps(tmp_path):
    write_manifest(tmp_path)
    (tmp_path / "clips/0.wav").unlink()
    (tmp_path / "clips/1.wav").write_bytes(b"")
    (tmp_path / "clips/2.wav").write_bytes(b"not audio at all, whatever the name says")
    for _ in range(2):
        table = open_corpus(str(tmp_path)).read("train")
        assert table.texts == ["text 3"]
        assert [(row.id, row.reason) for row in table.skipped] == [
            ("clips/0", "missing_file"),
            ("clips/1", "empty"),
            ("clips/2", "undecodable"),
        ]
        assert table.skipped[0].file == str(tmp_path / "clips/0.wav")
        assert table.skipped[0].split == "train"


def test_corpus_without_a_readable_clip_is_an_error_that_names_the_first(tmp_path):
    write_manifest(tmp_path, 2)
    for clip in (tmp_path / "clips").iterdir():
        clip.unlink()
    with pytest.raises(CorpusError) as error:
        open_corpus(str(tmp_path)).read("train")
    assert "none of its 2 utterances can be used" in str(error.value)
    assert f"First: {tmp_path}/clips/0.wav: no such file (train.csv:2)." in str(error.value)


def test_known_duration_spares_the_header_but_not_the_presence(tmp_path):
    write_audio(tmp_path / "a.wav", "bir", 8_000)
    (tmp_path / "train.csv").write_text("audio,text,duration\na.wav,bir,12.5\nb.wav,iki,3\n", encoding="utf-8")
    table = open_corpus(str(tmp_path)).read("train")
    assert table.durations_s.tolist() == [12.5]
    assert table.skipped[0].reason == "missing_file"


@pytest.mark.parametrize("nonsense", ["-1", "nan", "inf", "1e30", "soon", "0"])
def test_duration_that_makes_no_sense_is_read_from_the_header(tmp_path, nonsense):
    write_audio(tmp_path / "a.wav", "bir", 8_000)
    (tmp_path / "train.csv").write_text(f"audio,text,duration\na.wav,bir,{nonsense}\n", encoding="utf-8")
    assert open_corpus(str(tmp_path)).read("train").durations_s.tolist() == [pytest.approx(0.6)]


def test_torn_index_is_built_again(tmp_path):
    write_manifest(tmp_path)
    open_corpus(str(tmp_path)).read("train")
    (index,) = index_files()
    table = index.parent / json.loads(index.read_text())["files"][0]
    for damage in (b"", table.read_bytes()[:50]):
        open_arrow.cache_clear()
        table.unlink()
        table.write_bytes(damage)
        assert len(open_corpus(str(tmp_path)).read("train")) == 4
    index.write_text("{")
    assert len(open_corpus(str(tmp_path)).read("train")) == 4


def test_left_behind_files_of_a_killed_run_are_removed(tmp_path):
    write_manifest(tmp_path)
    open_corpus(str(tmp_path)).read("train")
    (index,) = index_files()
    (index.parent / "tmp-1-abc").write_text("half")
    time.sleep(0.02)
    open_corpus(str(tmp_path), overwrite_cache=True).read("train")
    assert not list(index.parent.glob("tmp-*"))


def test_unwritable_cache_says_what_to_do(tmp_path, monkeypatch):
    write_manifest(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPEECHTUNE_CACHE", str(tmp_path / "file"))
    with pytest.raises(CorpusError, match=r"can't be written[\s\S]*--cache_dir or \$SPEECHTUNE_CACHE"):
        open_corpus(str(tmp_path)).read("train")


INDEX = """
import sys
import speechtune.audio.probe as headers
headers.SERIAL_BELOW = 50
from speechtune.corpora import open_corpus
table = open_corpus(sys.argv[1]).read("train")
print(len(table), float(table.durations_s.sum()))
"""


def run_index(folder: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", INDEX, str(folder)], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    write_audio(tmp_path / "clips" / "0.wav", "bir", 8_000)
    lines = ["audio,text"]
    for index in range(600):
        if index:
            os.link(tmp_path / "clips/0.wav", tmp_path / f"clips/{index}.wav")
        lines.append(f"clips/{index}.wav,bir")
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def test_kill_at_any_moment_leaves_the_old_index_or_none(many):
    for delay_s in (0.35, 0.5, 0.7):
        process = run_index(many)
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
    table = open_corpus(str(many)).read("train")
    assert len(table) == 600
    assert float(table.durations_s.sum()) == pytest.approx(360.0, abs=0.01)


def test_processes_at_once_share_one_index(many):
    processes = [run_index(many) for _ in range(2)]
    answers = {process.communicate()[0] for process in processes}
    assert len(answers) == 1
    assert answers.pop().startswith("600 ")
    assert [process.returncode for process in processes] == [0, 0]
    (index,) = index_files()
    assert len(list(index.parent.glob("table-*.arrow"))) == 1


# What the index writes

GOOD = Probe(key="k", duration_s=1.5)


def row(id: str, text: str | None = "bir", audio: Any = "/corpus/clips/a.wav", **more: Any) -> Row:
    columns = {"text": text, **more.pop("columns", {})}
    return Row(id=id, audio=audio, columns=columns, **more)


def written(writer: TableWriter, folder: Path) -> tuple[SplitTable, IndexedSplit]:
    index = writer.write(folder, "corpus", [])
    return SplitTable([index], "text"), index


@pytest.fixture
def new(tmp_path: Path) -> TableWriter:
    return TableWriter("train", Path("/corpus"))


def test_rows_come_back_as_utterances(new: TableWriter, tmp_path: Path):
    new.add(row("a", "ş\u2028\0 \U0001f600", speaker="s1", language="tr"), GOOD)
    new.add(row("b", None, "/elsewhere/b.wav"), Probe(key="k2", duration_s=math.nan))
    table, _ = written(new, tmp_path)
    first, second = table[0], table[1]
    assert (first.id, first.text, first.audio, first.audio_key) == (
        "a",
        "ş\u2028\0 \U0001f600",
        "/corpus/clips/a.wav",
        "k",
    )
    assert (first.duration_s, first.speaker, first.language) == (1.5, "s1", "tr")
    assert (second.text, second.audio, second.speaker) == ("", "/elsewhere/b.wav", None)
    assert math.isnan(second.duration_s) and len(table) == 2


def test_paths_inside_the_corpus_are_stored_relative_to_it(new: TableWriter, tmp_path: Path):
    new.add(row("a"), GOOD)
    new.add(row("b", audio="/corpus2/a.wav"), GOOD)
    _, index = written(new, tmp_path)
    assert open_arrow(index.table)["#audio"].to_pylist() == [b"clips/a.wav", b"/corpus2/a.wav"]


def test_repeated_ids_are_numbered(new: TableWriter, tmp_path: Path):
    for id in ("a", "a", "a#2", "a", "b"):
        new.add(row(id), GOOD)
    table, _ = written(new, tmp_path)
    assert table.ids == ["a", "a#2", "a#2#2", "a#3", "b"]


def test_unreadable_rows_are_skipped_and_take_no_id(new: TableWriter, tmp_path: Path):
    new.add(row("a"), Probe(reason="truncated", detail="is cut short"))
    new.add(row("a"), GOOD)
    new.skip(BadRow("t.tsv:3", "2 columns instead of 3", id="c"))
    table, index = written(new, tmp_path)
    assert table.ids == ["a"]
    skipped = [(said.split, said.id, said.file, said.reason, said.detail) for said in index.read_skipped()]
    assert skipped == [
        ("train", "a", "/corpus/clips/a.wav", "truncated", "is cut short"),
        ("train", "c", "t.tsv:3", "bad_row", "2 columns instead of 3"),
    ]


@pytest.mark.parametrize(
    "broken",
    [
        row("a\ud800"),
        row("a", "\udcff"),
        row("a", columns={"\ud800": "x"}),
        row("a", speaker="\ud800"),
    ],
)
def test_row_with_half_a_surrogate_is_skipped_and_the_rest_is_written(broken: Row, new: TableWriter, tmp_path: Path):
    new.add(broken, GOOD)
    new.add(row("good"), GOOD)
    table, index = written(new, tmp_path)
    (lost,) = index.read_skipped()
    assert table.ids == ["good"] and (lost.reason, lost.detail) == ("bad_row", "text with half a surrogate pair")


def test_table_without_rows_has_its_columns(new: TableWriter, tmp_path: Path):
    index = new.write(tmp_path, "corpus", [])
    table = open_arrow(index.table)
    assert len(table) == 0 and {"#id", "#audio", "#duration_s", "#folder"} <= set(table.column_names)
    assert index.read_skipped() == []


def test_column_of_some_rows_is_empty_in_the_others(new: TableWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(index_module, "CHUNK", 2)
    for number in range(7):
        extra = {"age": str(number)} if number in (3, 6) else {}
        new.add(row(f"{number}", speaker=f"s{number}", columns=extra), GOOD)
    table, _ = written(new, tmp_path)
    assert table.ids == [str(n) for n in range(7)] and table.speakers == [f"s{n}" for n in range(7)]
    assert table.column("age") == [None, None, None, "3", None, None, "6"]


def test_repeated_words_are_the_same_in_every_chunk(new: TableWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(index_module, "CHUNK", 4)
    accents = ["x", "x", "x", "x", "y", "z", "ş", None, "x", "new", "", "q"]
    for number, accent in enumerate(accents):
        new.add(row(f"{number}", columns={"accent": accent}), GOOD)
    table, index = written(new, tmp_path)
    assert table.column("accent") == accents
    assert str(open_arrow(index.table)["accent"].type).startswith("dictionary")


def test_columns_over_the_limit_are_ignored_with_one_warning(
    new: TableWriter, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING, "speechtune"):
        for number in range(MAX_COLUMNS + 20):
            new.add(row(f"{number}", columns={f"c{number}": "x"}), GOOD)
    table, _ = written(new, tmp_path)
    assert len(table) == MAX_COLUMNS + 20 and len(table.columns) == MAX_COLUMNS
    assert table.texts == ["bir"] * len(table) and table.column("c5")[5] == "x"
    assert len(caplog.messages) == 1 and f"more than {MAX_COLUMNS} columns" in caplog.messages[0]


def test_audio_inside_larger_files_is_found_again(new: TableWriter, tmp_path: Path):
    shard = tmp_path / "a.tar"
    shard.write_bytes(b"0123456789")
    for id, position in (("a", 2), ("b", 5)):
        new.add(row(id, audio=Packed("tar", str(shard), position, 3), file=f"{shard}:{id}.wav"), GOOD)
    table, index = written(new, tmp_path)
    assert [(table[n].audio, table[n].file) for n in (0, 1)] == [(b"234", f"{shard}:a.wav"), (b"567", f"{shard}:b.wav")]
    assert open_arrow(index.table)["#folder"].to_pylist() == [os.fsencode(shard)] * 2


def test_table_that_can_not_be_written_leaves_nothing(new: TableWriter, tmp_path: Path):
    new.add(row("a"), GOOD)
    with pytest.raises(OSError):
        new.write(tmp_path / "none", "corpus", [])
    assert list(tmp_path.iterdir()) == []


# Rows that are skipped, listed one by one


def keys(table: SplitTable) -> set[tuple[str, str, str]]:
    return {(row.split, row.id, row.file) for row in table.skipped}


def test_every_damaged_row_is_listed_by_table_and_line(tmp_path):
    write_manifest(tmp_path)
    with (tmp_path / "train.csv").open("ab") as file:
        file.write(b'clips/0.wav\nclips/0.wav,a,b\nclips/0.wav,"open\nclips/0.wav,\xff\nclips/0.wav,g\x00d\n')
    table = open_corpus(str(tmp_path)).read("train")
    assert [(row.file, row.reason) for row in table.skipped] == [(f"train.csv:{n}", "bad_row") for n in range(6, 11)]
    assert len(keys(table)) == 5


def test_missing_files_of_one_name_are_listed_one_by_one(tmp_path):
    write_manifest(tmp_path)
    with (tmp_path / "train.csv").open("a") as file:
        file.write("clips/no.wav,bir\n" * 3)
    table = open_corpus(str(tmp_path)).read("train")
    assert [(row.id, row.reason) for row in table.skipped] == [
        ("clips/no", "missing_file"),
        ("clips/no#2", "missing_file"),
        ("clips/no#3", "missing_file"),
    ]
    assert [row.detail for row in table.skipped] == [
        f"{tmp_path}/clips/no.wav: no such file (train.csv:{line})" for line in (6, 7, 8)
    ]


# The index is checked before it is used


def test_any_flipped_bit_of_the_index_is_noticed(tmp_path, caplog):
    write_manifest(tmp_path)
    (tmp_path / "clips/3.wav").unlink()
    expected = open_corpus(str(tmp_path)).read("train")
    rows, skipped = [expected[i] for i in range(3)], expected.skipped
    (index,) = index_files()
    files = [path for path in sorted(index.parent.iterdir()) if path.name != "lock"]
    assert len(files) == 3
    rng = random.Random(0)
    for number in range(90):
        path = files[number % 3]
        data = bytearray(path.read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        open_arrow.cache_clear()
        path.unlink()
        path.write_bytes(data)
        table = open_corpus(str(tmp_path)).read("train")
        assert [table[i] for i in range(len(table))] == rows
        assert repr(table.skipped) == repr(skipped)
    assert any("is damaged; building it again" in message for message in caplog.messages)


# Durations that a table claims


def test_recording_longer_than_its_table_says_is_skipped(tmp_path):
    write_audio(tmp_path / "a.wav", "x" * 300, 16_000)  # 16.5 s
    (tmp_path / "train.csv").write_text("audio,text,duration\na.wav,bir,2.0\na.wav,bir,16.5\n", encoding="utf-8")
    table = open_corpus(str(tmp_path)).read("train")
    assert table.durations_s.tolist() == [16.5]
    assert [(row.reason, row.detail) for row in table.skipped] == [
        ("wrong_duration", "the table says 2 s, the audio has 16.5 s (train.csv:2)")
    ]


def test_recording_shorter_than_its_table_says_has_its_own_duration(tmp_path):
    write_audio(tmp_path / "a.wav", "bir", 8_000)
    (tmp_path / "train.csv").write_text("audio,text,duration\na.wav,bir,600\n", encoding="utf-8")  # milliseconds
    assert open_corpus(str(tmp_path)).read("train").durations_s.tolist() == [pytest.approx(0.6)]


# Names of files and folders


def test_folder_whose_name_is_not_utf8(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    write_manifest(tmp_path / "plain").rename(folder)
    for _ in range(2):
        table = open_corpus(str(folder)).read("train")
        assert table.texts == [f"text {n}" for n in range(4)]
        assert table[1].audio == str(folder / "clips/1.wav")
