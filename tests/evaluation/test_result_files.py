"""Result files as `Trainer.save_metrics` writes them; a protocol's hash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evaluations import hypothesis, write

from speechtune.errors import OutputError
from speechtune.evaluation.result_files import protocol_hash, write_train_results


def test_all_results_are_the_union_of_training_and_evaluation(tmp_path: Path):
    write_train_results(tmp_path, {"train_loss": 1.5, "epoch": 2.0, "note": "no number"})
    write(tmp_path, hypothesis("a", "bir iki", "bir"), epoch=3.0, protocol={"name": "default"})
    write(tmp_path, hypothesis("a", "bir", "bir"), suffix="_other")
    found = json.loads((tmp_path / "all_results.json").read_text())
    assert (found["train_loss"], found["eval_wer"], found["epoch"]) == (1.5, 0.5, 3.0)
    assert list(found) == sorted(found) and not {"note", "protocol", "scores"} & found.keys()
    assert json.loads((tmp_path / "train_results.json").read_text())["epoch"] == 2.0


def test_the_hash_of_a_protocol_covers_every_value_and_no_order():
    protocol = {"normalizer": "lower", "filters": {}, "generation": {"num_beams": 1}, "language": "tr"}
    assert protocol_hash(protocol) == protocol_hash(dict(reversed(protocol.items())))
    others = [{**protocol, "language": "az"}, {**protocol, "generation": {"num_beams": 5}}, {**protocol, "task": None}]
    assert len({protocol_hash(p) for p in (protocol, *others)}) == 4
    assert len(protocol_hash(protocol)) == 12


def test_a_file_that_is_damaged_is_one_message(tmp_path: Path):
    (tmp_path / "all_results.json").write_text("{")
    with pytest.raises(OutputError, match=r"all_results.json: can't be read(.|\n)*Remove it"):
        write_train_results(tmp_path, {})
