"""The table of the report: whole rows up to its size, texts that can't become markup."""

from __future__ import annotations

import json
from typing import Any

from evaluations import hypothesis

from speechtune.evaluation.edits import EditOp
from speechtune.reporting.audio import Clips
from speechtune.reporting.table import COLUMNS, cut, page_json, table_rows

LARGE = 1 << 20


def cells(*args: Any, **options: Any) -> list[dict[str, Any]]:
    texts = table_rows(*args, Clips(0), options.pop("max_bytes", LARGE), **options)
    return [dict(zip(COLUMNS, json.loads(text), strict=True)) for text in texts]


def test_a_row_holds_the_alignment_and_its_counts():
    (row,) = cells([hypothesis("u", "a b c d e", "a x c d e f", duration_s=2.345, speaker="s")])
    assert row["parts"] == ["a", ["b", "x"], "c d e", ["", "f"]] and row["hidden"] == 0
    assert (row["errors"], row["wer"], row["seconds"], row["speaker"], row["id"]) == (2, "40.0 %", 2.3, "s", "u")
    assert row["clip"] is None and row["before"] is None


def test_unknown_values_are_empty_and_an_endless_text_is_cut_and_counted():
    (row,) = cells([hypothesis("u", "", "la " * 5_000)])
    assert (row["seconds"], row["speaker"], row["wer"]) == (None, "", "no reference")
    assert 4_000 < row["hidden"] < 5_000


def test_errors_before_training_are_those_of_the_same_utterance():
    rows = [hypothesis("u", "a b", "a b"), hypothesis("v", "a b", "a x")]
    found = cells(rows, before={"v": hypothesis("v", "a b", "x x")})
    assert [(row["errors"], row["before"]) for row in found] == [(0, None), (1, 2)]


def test_the_table_is_cut_at_its_bytes_but_never_empty():
    rows = [hypothesis(f"{n}", f"söz {n}", "x") for n in range(50)]
    size = sum(len(text.encode()) + 1 for text in table_rows(rows, Clips(0), LARGE))
    assert len(cells(rows, max_bytes=1)) == 1
    assert 1 < len(cells(rows, max_bytes=size // 2)) < 50
    assert len(cells(rows, max_bytes=size)) == 50


def test_text_of_strangers_cannot_end_the_script_that_holds_it():
    alien = "</script><script>alert(1)</script><!--\u202e\x00"
    texts = table_rows([hypothesis(alien, alien, "x", speaker=alien)], Clips(0), LARGE)
    data, audio = page_json({"e1": texts}, Clips(0))
    assert "<" not in data and audio == "[]"
    row = dict(zip(COLUMNS, json.loads(data)["tables"]["e1"][0], strict=True))
    assert row["id"] == "</script><script>alert(1)</script><!--[U+202E][U+0000]"


def test_hidden_words_are_counted_by_the_longer_side():
    parts = [
        EditOp("hit", "bir iki", "bir iki"),
        EditOp("substitution", "üç", "x"),
        EditOp("deletion", "dört", ""),
    ]
    parts.append(EditOp("hit", "beş altı yedi", "beş altı yedi"))
    assert cut(parts, 1000) == (parts, 0)
    kept, hidden = cut(parts, 8)  # the first takes 7 and the space after it
    assert kept == parts[:1] and hidden == 1 + 1 + 3
    assert cut(parts, 0) == ([], 2 + 1 + 1 + 3) and cut([], 0) == ([], 0)


def test_a_single_part_that_is_too_long_is_shortened():
    (part,), hidden = cut([EditOp("substitution", "a" * 100, "b" * 5)], 10)
    assert len(part.reference) <= 10 and part.hypothesis == "b" * 5 and hidden == 0
