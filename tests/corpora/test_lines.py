from __future__ import annotations

import codecs
import logging
import os

import pytest

from speechtune.corpora.layout import BadRow
from speechtune.corpora.lines import MAX_LINE_BYTES, csv_rows, json_rows, tsv_rows
from speechtune.errors import CorpusError


def write(tmp_path, data: bytes, name: str = "t.csv"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def test_quotes_have_no_meaning_in_tsv(tmp_path):
    path = write(tmp_path, b'path\tsentence\n1.mp3\t"Ah\n2.mp3\t""dedi" o\n', "t.tsv")
    assert list(tsv_rows(path)) == [
        (2, {"path": "1.mp3", "sentence": '"Ah'}),
        (3, {"path": "2.mp3", "sentence": '""dedi" o'}),
    ]


def test_each_bad_line_costs_only_itself(tmp_path):
    lines = [
        b"a\tb",
        b"1\t2",
        b"\xff\t2",
        b"3\x00\t4",
        b"5",
        b"6\t7\t8",
        b"x" * (MAX_LINE_BYTES + 5) + b"\t1",
        b"9\t10",
    ]
    rows = list(tsv_rows(write(tmp_path, b"\n".join(lines), "t.tsv")))
    assert [(number, row) for number, row in rows if isinstance(row, dict)] == [
        (2, {"a": "1", "b": "2"}),
        (8, {"a": "9", "b": "10"}),
    ]
    bad = {number: row.detail for number, row in rows if isinstance(row, BadRow)}
    assert bad == {
        3: "not UTF-8 at byte 0",
        4: "a NUL byte",
        5: "1 fields, the header has 2",
        6: "3 fields, the header has 2",
        7: f"a line of more than {MAX_LINE_BYTES} bytes",
    }
    assert all(row.file == f"t.tsv:{number}" for number, row in rows if isinstance(row, BadRow))


def test_windows_line_ends_byte_order_mark_and_empty_lines(tmp_path):
    path = write(tmp_path, "\ufeffaudio,text\r\n\r\na.wav,üç\r\n".encode())
    assert list(csv_rows(path)) == [(3, {"audio": "a.wav", "text": "üç"})]


def test_csv_quoted_field_with_commas_quotes_and_line_ends(tmp_path):
    path = write(tmp_path, b'audio,text\na.wav,"one, ""two""\nthree"\nb.wav,four\n')
    assert list(csv_rows(path)) == [
        (2, {"audio": "a.wav", "text": 'one, "two"\nthree'}),
        (4, {"audio": "b.wav", "text": "four"}),
    ]


def test_quote_that_is_never_closed_costs_its_own_line(tmp_path):
    path = write(tmp_path, b'audio,text\na.wav,"open\n' + b"".join(b"%d.wav,x\n" % n for n in range(500)))
    rows = list(csv_rows(path))
    assert [row.detail for _, row in rows if isinstance(row, BadRow)] == ["a quote that is never closed"]
    assert sum(isinstance(row, dict) for _, row in rows) == 500


def test_quote_inside_an_unquoted_field_is_a_letter(tmp_path):
    assert list(csv_rows(write(tmp_path, b'audio,text\na.wav,5" screen\n'))) == [
        (2, {"audio": "a.wav", "text": '5" screen'})
    ]


def test_semicolons_of_a_spreadsheet(tmp_path):
    assert list(csv_rows(write(tmp_path, b"audio;text\na.wav;1,5 kg\n"))) == [(2, {"audio": "a.wav", "text": "1,5 kg"})]


def test_json_lines(tmp_path):
    deep = b"[" * 100_000
    path = write(tmp_path, b'{"audio": "a.wav"}\n[1]\n{"audio": \n' + deep + b"\n", "t.jsonl")
    rows = list(json_rows(path))
    assert rows[0] == (1, {"audio": "a.wav"})
    assert rows[1][1].detail == "a JSON list, not an object"
    assert rows[2][1].detail.startswith("no JSON: ")
    assert rows[3][1].detail.startswith("no JSON: ")


def test_json_list(tmp_path):
    path = write(tmp_path, b'[{"audio": "a.wav"}, 3]', "t.json")
    assert [row for _, row in json_rows(path)] == [{"audio": "a.wav"}, BadRow("t.json:2", "a JSON int, not an object")]


def test_missing_and_empty_files_are_errors(tmp_path):
    with pytest.raises(CorpusError, match="No such file"):
        list(csv_rows(tmp_path / "no.csv"))
    with pytest.raises(CorpusError, match="the file is empty"):
        list(tsv_rows(write(tmp_path, b"", "t.tsv")))


def test_pipe_is_refused_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "t.csv")
    for rows in (csv_rows, tsv_rows, json_rows):
        with pytest.raises(CorpusError, match=r"t\.csv: not a regular file but a folder, pipe or device"):
            list(rows(tmp_path / "t.csv"))


# Quotes


def test_quote_that_is_never_closed_does_not_take_the_rows_after_it(tmp_path):
    lines = [b"audio,text", b'a.wav,"open', b'b.wav,"two"', b'c.wav,5" screen', b'd.wav,"', b"e.wav,six", b'f.wav,"7"']
    rows = list(csv_rows(write(tmp_path, b"\n".join(lines))))
    assert [row["text"] for _, row in rows if isinstance(row, dict)] == ["two", '5" screen', "six", "7"]
    assert [row.file for _, row in rows if isinstance(row, BadRow)] == ["t.csv:2", "t.csv:5"]


def test_quoted_text_over_several_lines_that_hold_delimiters(tmp_path):
    path = write(tmp_path, b'audio,text,speaker\na.wav,"one\ntwo, three\nfour, ""five"", six",s1\nb.wav,x,s2\n')
    assert [row for _, row in csv_rows(path)] == [
        {"audio": "a.wav", "text": 'one\ntwo, three\nfour, "five", six', "speaker": "s1"},
        {"audio": "b.wav", "text": "x", "speaker": "s2"},
    ]


# Encodings


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "latin-1"])
def test_encodings_that_can_be_told_apart(encoding, tmp_path, caplog):
    text = "audio,text\na.wav,déjà vu à Zürich\nb.wav,plain\nc.wav,¿Qué? «señor»\n"
    mark = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}.get(encoding, b"")
    with caplog.at_level(logging.INFO, "speechtune"):
        rows = [row for _, row in csv_rows(write(tmp_path, mark + text.encode(encoding)))]
    assert [row["text"] for row in rows] == ["déjà vu à Zürich", "plain", "¿Qué? «señor»"]
    named = {"utf-8-sig": [], "cp1252": ["Windows-1252"], "latin-1": ["Windows-1252"]}.get(encoding, ["UTF-16"])
    assert [name for message in caplog.messages for name in ("Windows-1252", "UTF-16") if name in message] == named


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1254", "çok güzel ışık"),
        ("cp1250", "žluťoučký kůň"),
        ("cp1250", "zażółć gęślą jaźń"),
        ("cp1251", "привет"),
        ("cp1253", "καλημέρα"),
    ],
)
def test_encodings_that_can_not_be_told_apart_are_damaged_rows(encoding, text, tmp_path):
    path = write(tmp_path, f"audio,text\na.wav,{text}\nb.wav,plain\n".encode(encoding))
    rows = list(csv_rows(path))
    assert rows[0][1].detail.startswith("not UTF-8 at byte")
    assert rows[1] == (3, {"audio": "b.wav", "text": "plain"})


def test_one_damaged_byte_in_a_utf8_table_costs_only_its_row(tmp_path):
    path = write(tmp_path, "audio,text\na.wav,çay\n".encode() + b"b.wav,caf\xe9\n")
    assert [type(row) for _, row in csv_rows(path)] == [dict, BadRow]


def test_json_list_in_a_file_with_an_upper_case_ending(tmp_path):
    path = write(tmp_path, b'\xef\xbb\xbf [{"audio": "a.wav"}]', "T.JSON")
    assert [row for _, row in json_rows(path)] == [{"audio": "a.wav"}]
