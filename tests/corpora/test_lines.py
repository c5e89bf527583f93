from __future__ import annotations

import pytest

from speechtune.corpora.layout import BadRow
from speechtune.corpora.lines import MAX_LINE_BYTES, csv_rows, json_rows, tsv_rows
from speechtune.errors import CorpusError


def write(tmp_path, data: bytes, name: str = "t.csv"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def test_tsv_quotes_mean_nothing(tmp_path):
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


def test_utf16_and_missing_files_are_errors_that_say_what_to_do(tmp_path):
    with pytest.raises(CorpusError, match=r"UTF-16 text.\nSave it as UTF-8"):
        list(csv_rows(write(tmp_path, "audio,text\n".encode("utf-16"))))
    with pytest.raises(CorpusError, match="No such file"):
        list(csv_rows(tmp_path / "no.csv"))
    with pytest.raises(CorpusError, match="the file is empty"):
        list(tsv_rows(write(tmp_path, b"", "t.tsv")))
