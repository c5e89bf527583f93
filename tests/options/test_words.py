"""Words of a command line and lines of a file find their options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from speechtune.errors import OptionError
from speechtune.options.option import Option
from speechtune.options.options_file import read_options_file
from speechtune.options.words import Given, nearest, split_words

TABLE = {
    option.name: option
    for option in (
        Option("learning_rate", "float"),
        Option("num_train_epochs", "float"),
        Option("max_steps", "int"),
        Option("fp16", "bool"),
        Option("fsdp", "str | None", bare=True),
        Option("chars_to_ignore", "list[str] | None"),
        Option("dataset_config_name", "str | None"),
        Option("lr_scheduler_kwargs", "dict | str | None"),
        Option("group_by_length", "bool", group="old"),
    )
}


def given(*argv: str) -> list[tuple[str, Any]]:
    words = split_words(argv, TABLE)
    assert not words.mistakes
    return [(entry.name, entry.raw) for entry in words.given]


def mistakes(*argv: str) -> list[str]:
    return split_words(argv, TABLE).mistakes


def test_a_value_follows_after_a_space_or_an_equals_sign():
    assert given("--max_steps", "5", "--learning_rate=3e-4") == [("max_steps", "5"), ("learning_rate", "3e-4")]


def test_a_value_keeps_its_own_equals_signs():
    assert given("--dataset_config_name=a=b") == [("dataset_config_name", "a=b")]


def test_hyphens_stand_for_underscores():
    assert given("--max-steps", "5") == [("max_steps", "5")]


def test_a_negative_number_is_a_value():
    assert given("--max_steps", "-1") == [("max_steps", "-1")]


def test_a_switch_stands_alone_or_takes_a_value():
    assert given("--fp16", "--fp16", "False", "--fp16=true") == [("fp16", True), ("fp16", "False"), ("fp16", "true")]
    assert given("--fsdp") == [("fsdp", True)]
    assert given("--fsdp", "full_shard auto_wrap") == [("fsdp", "full_shard auto_wrap")]


def test_no_in_front_turns_a_switch_off():
    assert given("--no_fp16", "--no-fp16") == [("fp16", False), ("fp16", False)]
    assert mistakes("--no_fp16", "true") == ["--no_fp16 takes no value, found 'true'"]


def test_a_list_takes_all_words_up_to_the_next_option_dashes_among_them():
    words = [",", "?", "-", "--", "---", "-1", "“", "�", "--5"]
    assert given("--chars_to_ignore", *words, "--fp16") == [("chars_to_ignore", words), ("fp16", True)]


def test_a_repeated_option_is_kept_in_order_for_the_last_to_win():
    assert given("--max_steps", "1", "--max_steps", "2") == [("max_steps", "1"), ("max_steps", "2")]


def test_an_option_without_its_value_is_named_with_what_it_takes():
    assert mistakes("--max_steps", "--fp16") == ["--max_steps needs a value: a whole number"]
    assert mistakes("--chars_to_ignore") == ["--chars_to_ignore needs a value: one or more words"]


def test_an_unknown_option_names_the_nearest_and_takes_its_words_along():
    words = split_words(["--learning_rat", "3e-4", "5", "--fp16"], TABLE)
    assert words.mistakes == ["--learning_rat: no such option. Nearest: --learning_rate"]
    assert [entry.name for entry in words.given] == ["fp16"]
    assert words.positionals == []


def test_one_dash_is_not_two():
    assert mistakes("-max_steps", "3") == ["-max_steps: no such option. Nearest: --max_steps"]


def test_an_abbreviation_is_not_guessed():
    assert mistakes("--max_step", "3") == ["--max_step: no such option. Nearest: --max_steps"]


def test_words_that_belong_to_no_option_are_kept_apart():
    assert split_words(["a.yaml", "--max_steps", "3", "b", " "], TABLE).positionals == ["a.yaml", "b", " "]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("lr", "Nearest: --learning_rate"),
        ("epochs", "Nearest: --num_train_epochs"),
        ("maxsteps", "Nearest: --max_steps"),
        ("xyz", "Nearest: --"),
    ],
)
def test_the_nearest_name_counts_initials_and_parts(name: str, line: str):
    assert nearest(name, TABLE, prefix="--").startswith(line)


def test_nothing_is_near_where_there_is_nothing():
    assert nearest("a", []) == ""


def write(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_yaml_words_stay_what_they_are_in_the_file(tmp_path: Path):
    path = write(
        tmp_path,
        "learning_rate: 3e-4\ndataset_config_name: no  # Norwegian, not False\nfp16: true\n"
        'chars_to_ignore: [",", "-", \'"\']\nmax_steps:\n'
        "lr_scheduler_kwargs:\n  num_cycles: 2\n  eta: 1e-3\n  to: abc\n",
    )
    entries, info, wrong = read_options_file(path, TABLE)
    assert {entry.name: entry.raw for entry in entries} == {
        "learning_rate": "3e-4",
        "dataset_config_name": "no",
        "fp16": "true",
        "chars_to_ignore": [",", "-", '"'],
        "max_steps": None,
        "lr_scheduler_kwargs": {"num_cycles": 2, "eta": 1e-3, "to": "abc"},
    }
    assert (info, wrong) == ({}, [])
    assert entries[0] == Given("learning_rate", "3e-4", f"{path}, line 1: learning_rate")


def test_a_recipes_own_block_is_not_options(tmp_path: Path):
    path = write(tmp_path, "recipe:\n  title: Digits\n  expected: {wer: 0.1}\nmax-steps: 3\n")
    entries, info, wrong = read_options_file(path, TABLE)
    assert [entry.name for entry in entries] == ["max_steps"]
    assert info == {"title": "Digits", "expected": {"wer": 0.1}}
    assert not wrong


@pytest.mark.parametrize(
    ("name", "text"), [("a.yaml", "fp16: 1\n\nmax_stps: 3\n"), ("a.json", '{"fp16": 1,\n\n"max_stps": 3}')]
)
def test_an_unknown_key_is_named_with_file_line_and_nearest(tmp_path: Path, name: str, text: str):
    path = write(tmp_path, text, name)
    assert read_options_file(path, TABLE)[2] == [f"{path}, line 3: max_stps: no such option. Nearest: max_steps"]


def test_json_values_keep_their_types(tmp_path: Path):
    path = write(tmp_path, '{"max_steps": 3, "fp16": false, "lr_scheduler_kwargs": {"a": [1, {"b": null}]}}', "a.json")
    assert [entry.raw for entry in read_options_file(path, TABLE)[0]] == [3, False, {"a": [1, {"b": None}]}]


@pytest.mark.parametrize(("name", "text"), [("a.yaml", "fp16: 1\nfp16: 0\n"), ("a.json", '{"fp16": 1,\n"fp16": 0}')])
def test_a_key_given_twice_is_named(tmp_path: Path, name: str, text: str):
    (mistake,) = read_options_file(write(tmp_path, text, name), TABLE)[2]
    assert mistake.endswith("fp16 is given twice")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "a: [1\n", r"a.yaml, line 2: not YAML: "),
        ("a.yaml", "- a\n", r"a.yaml: expected options, one a line"),
        ("a.yaml", "just words", r"a.yaml: expected options, one a line"),
        ("a.json", '{"a": \n1,}', r"a.json, line 2: not JSON: "),
        ("a.json", "[1]", r"a.json: expected an object of options"),
        ("a.yaml", "a: " + "[" * 1_100, r"a.yaml"),
        ("a.json", '{"a": ' + "[" * 200_000, r"a.json"),
        ("a.yaml", "a: &x\n  b: *x\n", r"a.yaml"),
        ("a.yaml", "a: \x00", r"a.yaml"),
    ],
)
def test_a_file_that_is_not_options_gets_one_message(tmp_path: Path, name: str, text: str, message: str):
    with pytest.raises(OptionError, match=message):
        read_options_file(write(tmp_path, text, name), TABLE)


def test_an_empty_file_has_no_options(tmp_path: Path):
    assert read_options_file(write(tmp_path, "# nothing\n"), TABLE) == ([], {}, [])


def test_a_file_that_is_not_there_names_the_nearest_beside_it(tmp_path: Path):
    write(tmp_path, "", "digits.yaml")
    with pytest.raises(OptionError, match=r"digit.yaml: no such file of options. Nearest: digits.yaml"):
        read_options_file(tmp_path / "digit.yaml", TABLE)
    with pytest.raises(OptionError, match=r"There is no .json file in"):
        read_options_file(tmp_path / "digit.json", TABLE)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_a_file_that_cannot_be_read_gets_one_message(tmp_path: Path, content: bytes | None):
    path = tmp_path / "a.yaml"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(OptionError, match="can't be read as a file of options"):
        read_options_file(path, TABLE)
