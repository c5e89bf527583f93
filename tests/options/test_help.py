"""`--help`: every option of a command, with its default, in the terminal's width."""

from __future__ import annotations

import re
from typing import Any

import pytest

from speechtune.options.help import option_help
from speechtune.options.option import own_options
from speechtune.options.training_arguments import training_options

COMMANDS = ["train", "plan", "script", "evaluate", "doctor", "vocab", "lm tune"]


def help_of(command: Any, monkeypatch: pytest.MonkeyPatch, columns: int = 100, **how: Any) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    return option_help(command, prog=f"speechtune {command}", **how)


def named(text: str) -> list[str]:
    return re.findall(r"^  --(\w+)", text, re.M)


def entry(text: str, name: str) -> str:
    """All lines of an option as one."""
    match = re.search(rf"^  --{name}\b.*(?:\n {{34}}.*)*", text, re.M)
    assert match, name
    return " ".join(match[0].split())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_of_a_command_are_listed_once_each_and_no_others(command: str, monkeypatch: pytest.MonkeyPatch):
    ours = {option.name for option in own_options().values() if option.belongs_to(command)}
    found = named(help_of(command, monkeypatch))
    assert len(found) == len(set(found)) and set(found) == ours | {"output_dir"}


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_everything_lists_the_options_of_training_too(command: str, monkeypatch: pytest.MonkeyPatch):
    found = named(help_of(command, monkeypatch, everything=True))
    assert len(found) == len(set(found)) and set(training_options()) <= set(found)
    assert not {"learning_rate", "seed"} & set(named(help_of(command, monkeypatch)))


def test_commands_that_train_nothing_have_no_more_to_list(monkeypatch: pytest.MonkeyPatch):
    assert help_of("vocab", monkeypatch, everything=True) == help_of("vocab", monkeypatch)
    assert "--help_all" not in help_of("doctor", monkeypatch)
    assert "To list them: --help_all" in " ".join(help_of("train", monkeypatch).split())
    assert "--help_all" in help_of("train", monkeypatch)


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize(("columns", "width"), [(20, 60), (60, 60), (83, 83), (110, 110), (300, 110)])
def test_no_line_is_wider_than_the_terminal(
    columns: int, width: int, everything: bool, monkeypatch: pytest.MonkeyPatch
):
    body = help_of("train", monkeypatch, columns, everything=everything).split("\n", 1)[1]
    too_long = [line for line in body.splitlines() if len(line) > width]
    assert [line for line in too_long if line[33:34] == " " and " " in line[34:].strip()] == []  # one word alone may be


def test_groups_are_together_and_begin_with_the_output(monkeypatch: pytest.MonkeyPatch):
    titles = re.findall(r"^(\S.*):$", help_of("train", monkeypatch, everything=True), re.M)
    assert titles[0] == "Output" and len(titles) == len(set(titles))
    assert titles.index("Model") < titles.index("Corpus") < titles.index("Scores")


def test_entries_say_what_they_take_and_their_default(monkeypatch: pytest.MonkeyPatch):
    text = help_of("train", monkeypatch)
    assert entry(text, "max_train_samples") == "--max_train_samples N train on the first N utterances"
    assert entry(text, "max_skipped").startswith("--max_skipped X stop if")
    assert entry(text, "layerdrop").endswith(" layer (CTC)")
    assert entry(text, "shuffle_buffer_size").endswith("(streams; default: 500)")
    assert entry(text, "max_skipped").endswith("(default: 0.05)")
    assert entry(text, "strict").startswith("--strict stop at the first") and "default" not in entry(text, "strict")
    assert entry(text, "do_lower_case").startswith("--do_lower_case [BOOL] ")
    assert entry(text, "task").startswith("--task transcribe|translate ")
    assert entry(text, "eval_metrics").startswith("--eval_metrics wer|cer|per|wer_as_written... ")
    assert entry(text, "eval_metrics").endswith("(default: wer)")
    assert entry(text, "chars_to_ignore").startswith("--chars_to_ignore WORD... ")


def test_the_usage_is_of_the_name_that_was_called():
    assert option_help("script", prog="run_x.py").startswith("usage: run_x.py --model_name_or_path MODEL ")
