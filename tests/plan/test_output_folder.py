"""An output folder belongs to one run: the same command resumes, another is refused, the user's files stay."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from speechtune.errors import OutputError
from speechtune.options.table import Settings
from speechtune.plan.checkpoints import begin_checkpoint, finish_checkpoint
from speechtune.plan.hardware import Precision
from speechtune.plan.output_folder import (
    clear_results,
    drop_later_steps,
    inspect_folder,
    write_settings,
    write_skipped,
)
from speechtune.plan.plan import RunPlan
from speechtune.types import Skipped


def plan_for(folder: Path, **settings: Any) -> RunPlan:
    settings = {"model_name_or_path": "m", "dataset_name": "c", "train_split_name": "train+validation", **settings}
    precision = Precision(False, False, "highest", "float32", True)
    return RunPlan("train", "ctc", Settings(**settings), precision, "c", None, None, None, output_dir=folder)


def inspect(plan: RunPlan) -> tuple[bool, bool]:
    """Whether the run resumes, and whether results are cleared first."""
    return inspect_folder(plan.folder, plan.settings, plan.identity)


def begun(folder: Path, *, steps: tuple[int, ...] = (2,), **settings: Any) -> RunPlan:
    """A folder in which a run was begun, with checkpoints after `steps`."""
    folder.mkdir(exist_ok=True)
    plan = plan_for(folder, **settings)
    write_settings(plan)
    for step in steps:
        half = begin_checkpoint(folder, step)
        (half / "model.safetensors").write_bytes(b"x")
        finish_checkpoint(half, step)
    return plan


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- whose it is


def test_a_new_or_empty_folder_is_free(tmp_path: Path):
    assert inspect(plan_for(tmp_path / "new")) == (False, False)
    (tmp_path / ".DS_Store").write_bytes(b"")
    assert inspect(plan_for(tmp_path)) == (False, False)


def test_the_same_command_resumes(tmp_path: Path):
    assert inspect(begun(tmp_path)) == (True, False)


def test_a_run_that_was_killed_before_its_first_checkpoint_may_be_replaced_by_another(tmp_path: Path):
    assert inspect(begun(tmp_path, steps=())) == (False, False)
    assert inspect(plan_for(tmp_path, dataset_name="other")) == (False, False)


def test_a_finished_run_without_checkpoints_is_not_replaced_by_another(tmp_path: Path):
    begun(tmp_path, steps=())
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert inspect(plan_for(tmp_path)) == (False, False)
    with pytest.raises(OutputError, match="in use by another run, with --dataset_name c instead of other"):
        inspect(plan_for(tmp_path, dataset_name="other"))


def test_settings_of_an_older_version_are_compared_in_what_they_hold(tmp_path: Path):
    begun(tmp_path)
    row = json.loads((tmp_path / "settings.json").read_text())
    del row["identity"]["encoder_context"]
    (tmp_path / "settings.json").write_text(json.dumps(row))
    assert inspect(plan_for(tmp_path, encoder_context=8.0)) == (True, False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_name_or_path", "m2"),
        ("dataset_name", "c2"),
        ("dataset_config_name", "tr"),
        ("train_split_name", "train"),
        ("model_config", {"model_type": "hubert"}),
        ("encoder_context", 8.0),
    ],
)
def test_another_run_is_refused_by_what_differs(name: str, value: Any, tmp_path: Path):
    begun(tmp_path)
    before = names(tmp_path)
    with pytest.raises(OutputError, match=f"in use by another run, with --{name} ") as caught:
        inspect(plan_for(tmp_path, **{name: value}))
    assert f"instead of {value}" in str(caught.value) and "--overwrite_output_dir" in str(caught.value)
    assert names(tmp_path) == before


def test_other_corrections_are_another_run_and_the_same_ones_under_another_name_are_not(tmp_path: Path):
    files = [tmp_path / name for name in ("a.csv", "b.csv", "c.csv")]
    for file, text in zip(files, ("merhaba", "merhaba", "selam"), strict=True):
        file.write_text(f"id,text\nu1,{text}\n")
    run = tmp_path / "run"
    begun(run, corrections=str(files[0]))
    assert inspect(plan_for(run, corrections=str(files[1]))) == (True, False)
    for corrections in (str(files[2]), None):
        with pytest.raises(OutputError, match="in use by another run, with other --corrections"):
            inspect(plan_for(run, corrections=corrections))
    files[0].write_text("id,text\nu1,edited\n")
    with pytest.raises(OutputError, match="with other --corrections"):
        inspect(plan_for(run, corrections=str(files[0])))
    begun(tmp_path / "plain")
    with pytest.raises(OutputError, match="with no --corrections"):
        inspect(plan_for(tmp_path / "plain", corrections=str(files[0])))


def test_options_that_are_no_part_of_what_a_run_is_may_change(tmp_path: Path):
    begun(tmp_path)
    assert inspect(plan_for(tmp_path, max_skipped=0.5, hidden_dropout=0.3)) == (True, False)


def test_another_language_into_the_same_folder_keeps_the_adapters(tmp_path: Path):
    begun(tmp_path, target_language="tur")
    (tmp_path / "adapter.tur.safetensors").write_bytes(b"adapters")
    (tmp_path / "vocab.json").write_text("{}")
    plan = plan_for(tmp_path, target_language="swe")
    assert inspect(plan) == (False, True)
    clear_results(tmp_path)
    assert names(tmp_path) == ["adapter.tur.safetensors", "vocab.json"]


def test_files_of_others_are_refused_and_stay(tmp_path: Path):
    for name in ("thesis.tex", "a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=r"holds files that no run of speechtune wrote \(a.txt, b.txt, c.txt, ...\)"):
        inspect(plan_for(tmp_path))
    assert len(names(tmp_path)) == 4


def test_a_models_own_folder_may_be_trained_in_but_not_that_of_another_model(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    assert inspect(plan_for(tmp_path, model_name_or_path=str(tmp_path))) == (False, False)
    assert inspect(plan_for(tmp_path, tokenizer_name_or_path=f"{tmp_path}/.")) == (False, False)
    with pytest.raises(OutputError, match="holds files that no run"):
        inspect(plan_for(tmp_path))


@pytest.mark.parametrize("content", ["", "{", "[1]", "null"])
def test_settings_that_are_torn_do_not_pass_for_an_empty_folder(content: str, tmp_path: Path):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(OutputError, match=r"settings.json: (can't be read|a JSON object was expected)"):
        inspect(plan_for(tmp_path))


# ---- starting from scratch


def test_overwriting_takes_what_a_run_wrote_and_nothing_else(tmp_path: Path):
    begun(tmp_path, steps=(2, 4))
    ours = ["skipped.jsonl", "bad_steps.jsonl", "eval_results.json", "eval_results_x.json", "hypotheses_x.jsonl"]
    ours += ["train_results.json", "trainer_state.json", "report.html"]
    for name in [*ours, "notes.txt", "config.json"]:
        (tmp_path / name).write_text("x")
    (tmp_path / "audio").mkdir()
    assert inspect(plan_for(tmp_path, dataset_name="other", overwrite_output_dir=True)) == (False, True)
    clear_results(tmp_path)
    assert names(tmp_path) == ["audio", "config.json", "notes.txt"]


# ---- records


def test_settings_hold_what_was_given_and_no_token(tmp_path: Path):
    plan = replace(
        plan_for(tmp_path, dataset_name="köy", token="hf_secret"),
        given={"dataset_name": "köy", "learning_rate": 1e-4},
        training_arguments={"hub_token": "hf_secret", "learning_rate": 1e-4},
    )
    write_settings(plan, corpus={"language": None})
    text = (tmp_path / "settings.json").read_text("utf-8")
    row = json.loads(text)
    assert "hf_secret" not in text and "köy" in text
    assert row["options"] == {"dataset_name": "köy", "learning_rate": 1e-4}
    assert row["identity"] == plan.identity and row["corpus"] == {"language": None}
    assert row["plan"]["settings"]["max_skipped"] == 0.05


def test_each_utterance_is_listed_once_the_last_reason_counts(tmp_path: Path):
    rows = [
        Skipped("train", "a", "a.wav", "too_long", duration_s=30.0),
        Skipped("test", "a", "a.wav", "missing_file", "ü\u2028x", math.nan),
        Skipped("train", "a", "a.wav", "truncated", duration_s=3.0),
    ]
    write_skipped(tmp_path, iter(rows))
    lines = (tmp_path / "skipped.jsonl").read_text("utf-8").split("\n")
    found = [json.loads(line) for line in lines[:-1]]
    assert [(row["split"], row["reason"], row["duration_s"]) for row in found] == [
        ("train", "truncated", 3.0),
        ("test", "missing_file", None),
    ]
    assert lines[-1] == "" and found[1]["detail"] == "ü\u2028x"
    write_skipped(tmp_path, [])
    assert (tmp_path / "skipped.jsonl").read_bytes() == b""


def test_malformed_rows_without_an_id_are_listed_one_by_one(tmp_path: Path):
    write_skipped(tmp_path, [Skipped("train", "", f"train.tsv:{line}", "bad_row") for line in (3, 4, 9)])
    rows = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert [row["file"] for row in rows] == ["train.tsv:3", "train.tsv:4", "train.tsv:9"]


def bad_steps(folder: Path, *lines: str) -> Path:
    path = folder / "bad_steps.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    return path


def checkpoint_of(folder: Path, step: int) -> Path:
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return folder


def test_steps_after_the_checkpoint_are_forgotten(tmp_path: Path):
    path = bad_steps(tmp_path, *(json.dumps({"step": step, "text": "\u2028"}) for step in (1, 4, 5, 9)))
    drop_later_steps(path, checkpoint_of(tmp_path, 4))
    assert [json.loads(line)["step"] for line in path.read_text("utf-8").split("\n")[:-1]] == [1, 4]


def test_lines_that_a_kill_cut_short_are_forgotten(tmp_path: Path):
    path = bad_steps(tmp_path, '{"step": 1}', '{"step": 2, "utt', "7")
    drop_later_steps(path, checkpoint_of(tmp_path, 100))
    assert path.read_text() == '{"step": 1}\n'


def test_without_a_checkpoint_all_steps_are_taken_again(tmp_path: Path):
    path = bad_steps(tmp_path, '{"step": 1}')
    drop_later_steps(path, None)
    assert path.read_text() == ""
    drop_later_steps(tmp_path / "none.jsonl", None)
    assert not (tmp_path / "none.jsonl").exists()
