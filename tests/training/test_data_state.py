"""What a run has been trained on comes back from a checkpoint as it was written; another version is a message."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechtune.data.batching import BatchSettings, EpochPart
from speechtune.errors import OutputError
from speechtune.training.data_state import DATA_STATE, DataState, rows_fingerprint, vocabulary_fingerprint
from speechtune.types import Skipped

STATE = DataState(
    epoch=3,
    done=[
        EpochPart(BatchSettings(utterances_per_step=16), 112),
        EpochPart(BatchSettings(seconds_per_step=96.5, order="random", seed=7), 2),
    ],
    seconds=8123.4375,
    batches=12,
    readers=3,
    parts=4,
    rows="0f31",
    vocabulary="77aa",
    bad_steps=2,
    skipped=[Skipped("train", "ü\u2028", "a.tar:ü", "truncated", "is cut short", 1.5)],
    evaluation_due="best",
)


def test_a_state_comes_back_as_it_was(tmp_path: Path):
    STATE.write(tmp_path / DATA_STATE)
    assert DataState.read(tmp_path) == STATE


def test_the_state_of_a_run_just_begun_comes_back(tmp_path: Path):
    DataState().write(tmp_path / DATA_STATE)
    assert DataState.read(tmp_path) == DataState()


def test_an_unknown_duration_is_null_in_the_file_and_unknown_again(tmp_path: Path):
    row = Skipped("train", "a", "a.wav", "missing_file")
    DataState(skipped=[row]).write(tmp_path / DATA_STATE)
    text = (tmp_path / DATA_STATE).read_text()
    assert "NaN" not in text and json.loads(text)["skipped"][0]["duration_s"] is None
    (back,) = DataState.read(tmp_path).skipped
    assert math.isnan(back.duration_s) and replace(back, duration_s=0) == replace(row, duration_s=0)


@settings(max_examples=40, deadline=None)
@given(seconds=st.floats(0, 1e9), epoch=st.integers(0, 10**6), text=st.text(st.characters(codec="utf-8")))
def test_any_numbers_and_text_come_back(tmp_path_factory, seconds: float, epoch: int, text: str):
    folder = tmp_path_factory.mktemp("checkpoint")
    state = DataState(epoch=epoch, seconds=seconds, skipped=[Skipped(text, text, text, text, text, 0.5)])
    state.write(folder / DATA_STATE)
    assert DataState.read(folder) == state


# ---- what is not a state of this version


def without(*names: str, **more: Any) -> dict[str, Any]:
    row = {**vars(STATE), "done": [part.as_json() for part in STATE.done], "skipped": []}
    return {name: value for name, value in row.items() if name not in names} | more


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        json.dumps(without("done")),
        json.dumps(without(of_a_later_version=1)),
        json.dumps(without(done=[{"settings": {"utterances_per_step": 1}}])),
        json.dumps(without(done=[{"settings": {"no_such": 1}, "num_steps": 1}])),
        json.dumps(without(skipped=[{"id": "a"}])),
    ],
)
def test_a_damaged_state_or_one_of_another_version_is_a_message(content: str, tmp_path: Path):
    (tmp_path / DATA_STATE).write_text(content)
    with pytest.raises(OutputError) as caught:
        DataState.read(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: training can't resume from here: data_state.json is missing or")
    assert "--model_name_or_path" in str(caught.value)


def test_a_checkpoint_of_someone_else_is_a_message(tmp_path: Path):
    with pytest.raises(OutputError, match="training can't resume from here"):
        DataState.read(tmp_path / "none")


# ---- fingerprints


def split(durations_s: list[float], ids: list[int], ends: list[int]) -> Any:
    table = SimpleNamespace(durations_s=np.array(durations_s, np.float32))
    return SimpleNamespace(table=table, label_ids=np.array(ids, np.int32), label_ends=np.array(ends, np.int64))


def test_rows_have_the_same_fingerprint_only_if_durations_labels_and_order_are_the_same():
    same = rows_fingerprint(split([1, 2], [5, 6, 7], [1, 3]))
    assert rows_fingerprint(split([1, 2], [5, 6, 7], [1, 3])) == same and len(same) == 16
    others = [
        split([2, 1], [5, 6, 7], [1, 3]),
        split([1, 2.001], [5, 6, 7], [1, 3]),
        split([1, 2], [5, 6, 8], [1, 3]),
        split([1, 2], [5, 6, 7], [2, 3]),
        split([], [], []),
    ]
    assert len({same, *(rows_fingerprint(other) for other in others)}) == 6


def vocabulary(tokens: dict[str, int]) -> str:
    return vocabulary_fingerprint(SimpleNamespace(get_vocab=lambda: tokens))


def test_a_vocabulary_has_the_same_fingerprint_whatever_the_order_of_its_tokens():
    assert vocabulary({"a": 0, "ş": 1}) == vocabulary({"ş": 1, "a": 0}) != vocabulary({"a": 1, "ş": 0})
    assert vocabulary({"a": 0, "s": 1}) != vocabulary({"a": 0, "ş": 1})
