"""Rows become the table that opens again with the same text, whatever stands in it; ids are made unique."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest

from speechtune.audio.packed import Packed, open_arrow
from speechtune.audio.probe import Probe
from speechtune.corpora import writer as writer_module
from speechtune.corpora.layout import BadRow, Row
from speechtune.corpora.table import Part, SplitTable
from speechtune.corpora.writer import MAX_COLUMNS, TableWriter

GOOD = Probe(key="k", duration_s=1.5)


def row(id: str, text: str | None = "bir", audio: Any = "/corpus/clips/a.wav", **more: Any) -> Row:
    columns = {"text": text, **more.pop("columns", {})}
    return Row(id=id, audio=audio, columns=columns, **more)


def written(writer: TableWriter, folder: Path) -> tuple[SplitTable, Part]:
    part = Part(str(folder / "t.arrow"), str(folder / "skipped.jsonl"), "train", "corpus")
    writer.write(Path(part.table), Path(part.skipped))
    return SplitTable([part], "text"), part


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
    assert math.isnan(second.duration_s) and new.num_rows == 2


def test_paths_inside_the_corpus_are_stored_without_it(new: TableWriter, tmp_path: Path):
    new.add(row("a"), GOOD)
    new.add(row("b", audio="/corpus2/a.wav"), GOOD)
    _, part = written(new, tmp_path)
    assert open_arrow(part.table)["#audio"].to_pylist() == ["clips/a.wav", "/corpus2/a.wav"]


def test_ids_that_come_again_are_numbered(new: TableWriter, tmp_path: Path):
    for id in ("a", "a", "a#2", "a", "b"):
        new.add(row(id), GOOD)
    table, _ = written(new, tmp_path)
    assert table.ids == ["a", "a#2", "a#2#2", "a#3", "b"]


def test_what_can_not_be_read_is_left_out_and_takes_no_id(new: TableWriter, tmp_path: Path):
    new.add(row("a"), Probe(reason="truncated", detail="is cut short"))
    new.add(row("a"), GOOD)
    new.leave_out(BadRow("t.tsv:3", "2 columns instead of 3", id="c"))
    table, part = written(new, tmp_path)
    assert table.ids == ["a"]
    skipped = [(said.split, said.id, said.file, said.reason, said.detail) for said in part.read_skipped()]
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
def test_text_with_half_a_surrogate_is_left_out_and_the_rest_is_written(broken: Row, new: TableWriter, tmp_path: Path):
    new.add(broken, GOOD)
    new.add(row("good"), GOOD)
    table, part = written(new, tmp_path)
    (lost,) = part.read_skipped()
    assert table.ids == ["good"] and (lost.reason, lost.detail) == ("bad_row", "text with half a surrogate pair")


def test_a_table_of_nothing_has_its_columns(new: TableWriter, tmp_path: Path):
    part = Part(str(tmp_path / "t.arrow"), str(tmp_path / "skipped.jsonl"), "train", "corpus")
    new.write(Path(part.table), Path(part.skipped))
    table = open_arrow(part.table)
    assert len(table) == 0 and {"#id", "#audio", "#duration_s", "#source"} <= set(table.column_names)
    assert part.read_skipped() == []


def test_columns_that_come_late_or_go_are_empty_elsewhere(
    new: TableWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writer_module, "CHUNK", 2)
    for number in range(7):
        extra = {"age": str(number)} if number in (3, 6) else {}
        new.add(row(f"{number}", speaker=f"s{number}", columns=extra), GOOD)
    table, _ = written(new, tmp_path)
    assert table.ids == [str(n) for n in range(7)] and table.speakers == [f"s{n}" for n in range(7)]
    assert table.column("age") == [None, None, None, "3", None, None, "6"]


def test_words_that_repeat_themselves_over_chunks_stay_what_they_are(
    new: TableWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writer_module, "CHUNK", 4)
    accents = ["x", "x", "x", "x", "y", "z", "ş", None, "x", "new", "", "q"]
    for number, accent in enumerate(accents):
        new.add(row(f"{number}", columns={"accent": accent}), GOOD)
    table, part = written(new, tmp_path)
    assert table.column("accent") == accents
    assert str(open_arrow(part.table)["accent"].type).startswith("dictionary")


def test_more_columns_than_allowed_are_cut_and_said_once(
    new: TableWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(writer_module, "CHUNK", 1)  # so that the columns seen are known at each row
    with caplog.at_level(logging.WARNING, "speechtune"):
        for number in range(MAX_COLUMNS + 20):
            new.add(row(f"{number}", columns={f"c{number}": "x"}), GOOD)
    table, _ = written(new, tmp_path)
    assert len(table) == MAX_COLUMNS + 20 and len(table.columns) == MAX_COLUMNS
    assert table.texts == ["bir"] * len(table) and table.column("c5")[5] == "x"
    assert len(caplog.messages) == 1 and f"more than {MAX_COLUMNS} columns" in caplog.messages[0]


def test_audio_inside_larger_files_keeps_its_place(new: TableWriter, tmp_path: Path):
    shard = tmp_path / "a.tar"
    shard.write_bytes(b"0123456789")
    for id, position in (("a", 2), ("b", 5)):
        new.add(row(id, audio=Packed("tar", str(shard), position, 3), file=f"{shard}:{id}.wav"), GOOD)
    table, part = written(new, tmp_path)
    assert [(table[n].audio, table[n].file) for n in (0, 1)] == [(b"234", f"{shard}:a.wav"), (b"567", f"{shard}:b.wav")]
    assert open_arrow(part.table)["#source"].to_pylist() == [0, 0]


def test_a_table_that_can_not_be_written_leaves_nothing(new: TableWriter, tmp_path: Path):
    new.add(row("a"), GOOD)
    with pytest.raises(OSError):
        new.write(tmp_path / "none" / "t.arrow", tmp_path / "none" / "skipped.jsonl")
    assert list(tmp_path.iterdir()) == []
