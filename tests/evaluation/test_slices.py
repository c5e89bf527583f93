"""Groups of utterances: by length, speaker and what the corpus says of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from evaluations import hypothesis

from speechtune.evaluation.slices import MAX_GROUPS, duration_name, slices_of, with_columns
from speechtune.types import Hypothesis


def table(**columns: list[str | None]) -> Any:
    """What `with_columns` asks of a corpus' table of utterances u0, u1, ..."""
    num = len(next(iter(columns.values())))
    return SimpleNamespace(
        ids=[f"u{i}" for i in range(num)], columns=tuple(columns), text_column="sentence", column=columns.__getitem__
    )


def rows(num: int) -> list[Hypothesis]:
    return [hypothesis(f"u{i}", "a b", "a b", duration_s=1 + i, speaker=f"s{i % 2}") for i in range(num)]


def test_columns_that_tell_groups_apart_are_kept_and_the_others_are_not():
    corpus = table(
        sentence=["x", "y"] * 3,  # the transcript
        client_id=["a", "b"] * 3,  # the speaker
        path=[f"{i}.mp3" for i in range(6)],  # all different
        locale=["tr"] * 6,  # all the same
        gender=["male", "female", "", None, "male", "female"],
        age=["teens"] * 3 + ["twenties"] * 3,
    )
    found = with_columns(rows(6), corpus)
    assert found[0].columns == {"gender": "male", "age": "teens"}
    assert found[3].columns == {"age": "twenties"}
    groups = {(part.by, part.name): part.rows for part in slices_of(found)}
    assert groups["gender", "male"] == [0, 4] and groups["age", "twenties"] == [3, 4, 5]
    assert Hypothesis.from_json(found[0].as_json()) == found[0]
    assert "columns" not in rows(1)[0].as_json()


def test_utterances_are_matched_by_id():
    found = with_columns(rows(8)[::-1], table(accent=["x"] * 4 + ["y"] * 4))
    assert [row.columns["accent"] for row in found] == ["y"] * 4 + ["x"] * 4


def test_lengths_are_in_their_order_and_of_many_speakers_those_with_the_most_are_taken():
    many = [hypothesis(f"u{i}", "a", "a", duration_s=40 - i, speaker=f"s{min(i, 30)}") for i in range(40)]
    parts = slices_of(many)
    lengths = [part.name for part in parts if part.by == "length"]
    assert lengths[0] == "0 to 2 s" and lengths[-1] == "over 30 s"
    speakers = [part.name for part in parts if part.by == "speaker"]
    assert speakers[0] == "s30" and len(speakers) == MAX_GROUPS
    assert duration_name(4.0) == "4 to 6 s" and duration_name(float("nan")) is None
