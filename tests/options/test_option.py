"""Words become values by the annotations, ours and those of TrainingArguments."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import pytest

from speechtune.options.option import Option, own_options
from speechtune.options.training_arguments import training_options


@pytest.mark.parametrize(
    ("annotation", "word", "value"),
    [
        ("int", "500", 500),
        ("int", "-1", -1),
        ("int", "1e4", 10000),
        ("int | None", "none", None),
        ("float", "3e-4", 3e-4),
        ("float", "-0.5", -0.5),
        ("bool", "False", False),
        ("bool", "yes", True),
        ("bool | None", "None", None),
        ("Optional[bool]", "0", False),
        ("str | None", "None", "None"),
        ("str", "no", "no"),
        ("str", "11", "11"),
        ("float | Literal['auto'] | None", "auto", "auto"),
        ("float | Literal['auto'] | None", "40", 40.0),
        ("dict | str | None", '{"a": 1}', {"a": 1}),
        ("dict | str | None", "settings.json", "settings.json"),
        ("dict[str, bool] | None", '{"rope": true}', {"rope": True}),
        ("list[str]", "a", ["a"]),
        ("list[str] | None", ["a", "b"], ["a", "b"]),
        ("tuple[str, ...] | None", [",", "-"], (",", "-")),
        ("None | str | list[str]", ["none"], "none"),
        ("None | str | list[str]", ["a", "b"], ["a", "b"]),
        ("str | None | Literal[False]", "False", False),
        ("str | bool", "all", "all"),
        ("str | bool", "true", True),
        ("str | bool", "no", "no"),
        ("Union[str, Path, GenerationConfig, None]", "folder", "folder"),
        ("IntervalStrategy | str", "steps", "steps"),
    ],
)
def test_a_word_becomes_what_the_annotation_says(annotation: str, word: Any, value: Any):
    converted = Option("name", annotation).convert(word)
    assert converted == value and type(converted) is type(value)


@pytest.mark.parametrize(
    ("annotation", "given", "value"),
    [
        ("float", 1, 1.0),
        ("int", 2.0, 2),
        ("str | None", 11, "11"),
        ("str | None", None, None),
        ("bool", True, True),
        ("dict | None", {"a": 1}, {"a": 1}),
        ("tuple[str, ...]", [], ()),
    ],
)
def test_values_of_a_json_file_are_taken_as_they_are_meant(annotation: str, given: Any, value: Any):
    converted = Option("name", annotation).convert(given)
    assert converted == value and type(converted) is type(value)


@pytest.mark.parametrize(
    ("option", "given", "message"),
    [
        (Option("n", "int"), "many", "expected a whole number, found 'many'"),
        (Option("n", "int"), "1.5", "expected a whole number, found '1.5'"),
        (Option("n", "int"), True, "expected a whole number, found True"),
        (Option("n", "int"), None, "expected a whole number, found None"),
        (Option("n", "int"), "inf", "expected a whole number, found 'inf'"),
        (Option("n", "float"), "nan", "expected a number, found 'nan'"),
        (Option("n", "float", limits=(0, 1)), "1.1", "expected a number from 0 to 1, found '1.1'"),
        (Option("n", "int", limits=(1, 5000)), "0", "expected a whole number from 1 to 5,000, found '0'"),
        (Option("n", "float"), "-inf", "expected a number, found '-inf'"),
        (Option("n", "float"), float("inf"), "expected a number, found inf"),
        (Option("n", "int"), "5" * 5000, f"expected a whole number, found '{'5' * 96}..."),
        (
            Option("n", "str"),
            "caf\udce9",
            "expected a word, found 'caf\\udce9' (a character of it is no text in UTF-8)",
        ),
        (Option("n", "str"), "a\0", "expected a word, found 'a\\x00' (a character of it is no text in UTF-8)"),
        (Option("n", "str", secret=True), ["hf_a", "hf_b"], "expected a word"),
        (Option("n", "bool"), "maybe", "expected true or false, found 'maybe'"),
        (Option("n", "Literal['a', 'b']"), "c", "expected one of a, b, found 'c'"),
        (Option("n", "tuple[Literal['a', 'b'], ...]"), ["a", "c"], "expected one of a, b, found 'a c'"),
        (Option("n", "float | Literal['auto'] | None"), "fast", "expected a number or auto, found 'fast'"),
        (Option("n", "str"), ["a", "b"], "expected a word, found 'a b'"),
        (Option("n", "str", choices=("fork", "spawn")), "x", "expected one of fork, spawn, found 'x'"),
        (training_options()["eval_strategy"], "step", "expected one of no, steps, epoch, found 'step'"),
        (Option("n", "dict[str, bool] | None"), "[1]", "expected a JSON object such as {\"key\": 1}, found '[1]'"),
    ],
)
def test_a_wrong_value_is_shown_beside_what_is_expected(option: Option, given: Any, message: str):
    with pytest.raises(ValueError) as caught:
        option.convert(given)
    assert str(caught.value) == message


def test_broken_json_says_where_it_breaks():
    with pytest.raises(ValueError, match=r"or a file's path, found '\{a: 1\}' \(Expecting property name .* column 2"):
        Option("fsdp_config", "dict | str | None").convert("{a: 1}")
    with pytest.raises(ValueError, match=r"expected a JSON object such as .*, found 'linear'"):
        Option("lr_scheduler_kwargs", "dict | str | None").convert("linear")


def test_numbers_inside_an_object_have_a_range_too():
    option = own_options()["model_config"]
    with pytest.raises(ValueError, match=r"num_hidden_layers is 10000000\)"):
        option.convert('{"model_type": "wav2vec2", "num_hidden_layers": 10000000}')
    with pytest.raises(ValueError, match=r"eta is inf"):
        Option("lr_scheduler_kwargs", "dict | str | None").convert({"a": [{"eta": float("inf")}]})
    with pytest.raises(ValueError, match="no text in UTF-8"):
        option.convert({"model_type": ["\ud800"]})


def test_every_number_has_a_range():
    numbers = [option for option in (own_options() | training_options()).values() if option.is_number]
    assert len(numbers) > 50
    assert [option.name for option in numbers if option.limits is None] == []


def test_reading_training_arguments_imports_neither_transformers_nor_torch(run_python: Any):
    loaded = run_python(
        "import sys\nfrom speechtune.options.training_arguments import training_options\n"
        "assert len(training_options()) > 100\n"
        "print([name for name in ('transformers', 'torch', 'numpy') if name in sys.modules])"
    )
    assert loaded == "[]\n"


@pytest.fixture
def run_python() -> Any:
    import subprocess

    def run(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return done.stdout

    return run


@pytest.fixture(scope="module")
def imported() -> dict[str, dataclasses.Field[Any]]:
    from transformers import Seq2SeqTrainingArguments

    return {field.name: field for field in dataclasses.fields(Seq2SeqTrainingArguments)}


def test_the_options_read_from_source_are_those_of_the_imported_dataclass(imported: dict[str, Any]):
    assert list(training_options()) == list(imported)


def test_their_defaults_are_those_of_the_imported_dataclass(imported: dict[str, Any]):
    computed = []
    for name, field in imported.items():
        has_factory = field.default_factory is not dataclasses.MISSING
        default = field.default_factory() if has_factory else field.default
        if training_options()[name].default is ...:
            computed.append(name)
        else:
            assert training_options()[name].default == default, name
    assert computed == ["optim"]


def test_their_types_are_those_of_the_imported_dataclass(imported: dict[str, Any]):
    for name, field in imported.items():
        if name == "parallelism_config":  # a class of accelerate's, which words can give only as a JSON object
            continue
        text = field.type.__name__ if isinstance(field.type, type) else str(field.type)
        option = training_options()[name]
        for kind in ("bool", "int", "float", "dict", "list"):
            is_kind = any(part.strip().startswith(kind) for part in text.replace("Optional[", "|").split("|"))
            assert (kind in option.kinds) == is_kind, (name, text)
        assert ("none" in option.kinds) == ("None" in text), (name, text)


def test_every_default_of_training_arguments_comes_back_from_its_own_text():
    for name, option in training_options().items():
        if option.default not in (None, ..., "", []):
            assert option.convert(str(option.default)) == option.default, name


def test_no_option_of_ours_hides_one_of_training_arguments():
    assert not set(own_options()) & set(training_options())
