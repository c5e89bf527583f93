"""An output folder belongs to one run: the same command goes on, another is refused, the user's files stay."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from speechtune.errors import OutputError
from speechtune.options.table import Options, Settings
from speechtune.training.checkpoint import begin_checkpoint, finish_checkpoint
from speechtune.training.output_folder import (
    claim_output_folder,
    forget_later_steps,
    identity_of,
    write_settings,
    write_skipped,
)
from speechtune.types import Skipped


def options_for(folder: Path, **config: Any) -> Options:
    config = {"model_name_or_path": "m", "dataset_name": "c", **config}
    return Options(Settings(**config), {"output_dir": str(folder)}, given=frozenset(config))


def claim(options: Options) -> bool:
    return claim_output_folder(options, identity_of(options))


def begun(folder: Path, *, steps: tuple[int, ...] = (2,), **config: Any) -> Options:
    """A folder in which a run was begun, with checkpoints after `steps`."""
    folder.mkdir(exist_ok=True)
    options = options_for(folder, **config)
    write_settings(options)
    for step in steps:
        half = begin_checkpoint(folder, step)
        (half / "model.safetensors").write_bytes(b"x")
        finish_checkpoint(half, step)
    return options


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- whose it is


def test_a_new_or_empty_folder_is_free(tmp_path: Path):
    assert claim(options_for(tmp_path / "new")) is False
    (tmp_path / ".DS_Store").write_bytes(b"")
    assert claim(options_for(tmp_path)) is False


def test_the_same_command_goes_on(tmp_path: Path):
    assert claim(begun(tmp_path)) is True


def test_a_run_without_a_checkpoint_begins_anew_and_may_be_another(tmp_path: Path):
    assert claim(begun(tmp_path, steps=())) is False
    assert claim(options_for(tmp_path, dataset_name="other")) is False


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_name_or_path", "m2"),
        ("dataset_name", "c2"),
        ("dataset_config_name", "tr"),
        ("train_split_name", "train"),
        ("model_config", {"model_type": "hubert"}),
    ],
)
def test_another_run_is_refused_by_what_differs(name: str, value: Any, tmp_path: Path):
    begun(tmp_path)
    before = names(tmp_path)
    with pytest.raises(OutputError, match=f"in use by another run, with --{name} ") as caught:
        claim(options_for(tmp_path, **{name: value}))
    assert f"instead of {value}" in str(caught.value) and "--overwrite_output_dir" in str(caught.value)
    assert names(tmp_path) == before


def test_options_that_are_no_part_of_what_a_run_is_may_change(tmp_path: Path):
    begun(tmp_path)
    assert claim(options_for(tmp_path, max_skipped=0.5, hidden_dropout=0.3)) is True


def test_another_language_into_the_same_folder_keeps_the_adapters(tmp_path: Path):
    begun(tmp_path, target_language="tur")
    (tmp_path / "adapter.tur.safetensors").write_bytes(b"adapters")
    (tmp_path / "vocab.json").write_text("{}")
    assert claim(options_for(tmp_path, target_language="swe")) is False
    assert names(tmp_path) == ["adapter.tur.safetensors", "vocab.json"]


def test_files_of_others_are_refused_and_stay(tmp_path: Path):
    for name in ("thesis.tex", "a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=r"holds files that no run of speechtune wrote \(a.txt, b.txt, c.txt, ...\)"):
        claim(options_for(tmp_path))
    assert len(names(tmp_path)) == 4


def test_a_models_own_folder_may_be_trained_in_but_not_that_of_another_model(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    assert claim(options_for(tmp_path, model_name_or_path=str(tmp_path))) is False
    assert claim(options_for(tmp_path, tokenizer_name_or_path=f"{tmp_path}/.")) is False
    with pytest.raises(OutputError, match="holds files that no run"):
        claim(options_for(tmp_path))


@pytest.mark.parametrize("content", ["", "{", "[1]", "null"])
def test_settings_that_are_torn_do_not_hide_that_something_lies_there(content: str, tmp_path: Path):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(OutputError, match=r"settings.json, ...\)"):
        claim(options_for(tmp_path))


def test_what_a_kill_left_is_gone_before_the_run_goes_on(tmp_path: Path):
    options = begun(tmp_path)
    begin_checkpoint(tmp_path, 4)
    assert claim(options) is True and names(tmp_path) == ["checkpoint-2", "settings.json"]


# ---- starting anew


def test_overwriting_takes_what_a_run_wrote_and_nothing_else(tmp_path: Path):
    begun(tmp_path, steps=(2, 4))
    ours = ["skipped.jsonl", "bad_steps.jsonl", "eval_results.json", "eval_results_x.json", "hypotheses_x.jsonl"]
    ours += ["train_results.json", "trainer_state.json", "report.html"]
    for name in [*ours, "notes.txt", "config.json"]:
        (tmp_path / name).write_text("x")
    (tmp_path / "audio").mkdir()
    assert claim(options_for(tmp_path, dataset_name="other", overwrite_output_dir=True)) is False
    assert names(tmp_path) == ["audio", "config.json", "notes.txt"]


# ---- records


def test_settings_hold_what_was_given_and_no_token(tmp_path: Path):
    options = Options(
        Settings(model_name_or_path="m", dataset_name="köy", token="hf_secret"),
        {"output_dir": str(tmp_path), "hub_token": "hf_secret", "learning_rate": 1e-4},
        given=frozenset({"dataset_name", "token"}),
    )
    write_settings(options, corpus={"language": None})
    text = (tmp_path / "settings.json").read_text("utf-8")
    row = json.loads(text)
    assert "hf_secret" not in text and "köy" in text
    assert row["options"] == {"dataset_name": "köy", "learning_rate": 1e-4, "output_dir": str(tmp_path)}
    assert row["identity"] == identity_of(options) and row["corpus"] == {"language": None}


def test_each_utterance_is_left_out_once_the_last_reason_counts(tmp_path: Path):
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


def bad_steps(folder: Path, *lines: str) -> Path:
    path = folder / "bad_steps.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    return path


def checkpoint_of(folder: Path, step: int) -> Path:
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return folder


def test_steps_after_the_checkpoint_are_forgotten(tmp_path: Path):
    path = bad_steps(tmp_path, *(json.dumps({"step": step, "text": "\u2028"}) for step in (1, 4, 5, 9)))
    forget_later_steps(path, checkpoint_of(tmp_path, 4))
    assert [json.loads(line)["step"] for line in path.read_text("utf-8").splitlines()] == [1, 4]


def test_lines_that_a_kill_cut_short_are_forgotten(tmp_path: Path):
    path = bad_steps(tmp_path, '{"step": 1}', '{"step": 2, "utt', "7", '{"step": "x"}', "{}")
    forget_later_steps(path, checkpoint_of(tmp_path, 100))
    assert path.read_text() == '{"step": 1}\n'


def test_without_a_checkpoint_all_steps_are_taken_again(tmp_path: Path):
    path = bad_steps(tmp_path, '{"step": 1}')
    forget_later_steps(path, None)
    assert path.read_text() == ""
    forget_later_steps(tmp_path / "none.jsonl", None)
    assert not (tmp_path / "none.jsonl").exists()
