"""Command lines of the original scripts, of every age, and of `speechtune train`, into `Options`.

Names that transformers dropped or renamed since version 3 are taken still, by the table in `old_names.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechtune.errors import OptionError
from speechtune.options.option import Option, own_options, training_options
from speechtune.options.renamed import OLD_NAMES
from speechtune.options.table import SECRET_OPTIONS, Command, Kind, Options, Settings
from speechtune.options.words import Given, Words, read_options_file, split_words

__all__ = ["parse_options"]


# The one that is given on the command line puts aside the other one of a recipe.
_RIVALS = (
    ("model_name_or_path", "model_config"),
    ("batch_seconds", "per_device_train_batch_size"),
    ("max_steps", "num_train_epochs"),
)
_REQUIRED: dict[Command, tuple[str, ...]] = {
    "train": ("model_name_or_path", "dataset_name", "output_dir"),
    "plan": ("model_name_or_path", "dataset_name", "output_dir"),
    "script": ("model_name_or_path", "dataset_name", "output_dir"),
    "evaluate": ("model_name_or_path", "dataset_name"),
    "doctor": ("dataset_name",),
    "vocab": ("dataset_name", "output_dir"),
}
_SWEDISH = {"swe", "sv", "swedish"}


def parse_options(
    argv: Sequence[str], *, command: Command = "train", kind: Kind | None = None, prog: str = "speechtune train"
) -> Options:
    """What a command line asks for.

    A word that ends in .json, .yaml or .yml is a file of options; those on the command line count for more.

    Args:
        argv: the words behind the program's name.
        command: "script" trains only with `--do_train` and evaluates only with `--do_eval`, as the originals do.
        kind: of the script called; None where the model will tell.
        prog: the command's name, for messages.

    Raises:
        OptionError: one message with all that is wrong: unknown options (and the nearest), values of a wrong type,
            required ones that are missing, options that contradict each other.
    """
    table = _table()
    words = split_words(argv, table)
    mistakes = words.mistakes
    recipe = _take_positionals(words, command)
    in_file, info, file_mistakes = read_options_file(recipe, table) if recipe is not None else ([], {}, [])
    mistakes += file_mistakes
    hint = [f"`{prog} --help` lists the options."] if mistakes else []
    in_file = [given for given in in_file if _knows(command, given.name)]
    on_line = {given.name for given in words.given}
    aside = {b if a in on_line else a for a, b in _RIVALS if (a in on_line) != (b in on_line)}
    values = _convert([given for given in in_file if given.name not in aside], table, mistakes)
    values |= _convert(words.given, table, mistakes)
    mistakes += [
        f"--{name} is not an option of `{prog}`, but of `speechtune {_owner(name)}`."
        for name in sorted(on_line)
        if not _knows(command, name)
    ]
    if values.get("fp16") and values.get("bf16"):
        mistakes.append("--fp16 and --bf16 contradict each other: give one of them.")
    notes = _translate(values, table)
    _imply(command, values)
    mistakes += _missing(command, kind, values) + _contradictions(command, kind, values)
    if mistakes:
        raise OptionError("\n".join(mistakes + hint))

    own = {name: value for name, value in values.items() if name in own_options()}
    options = Options(
        Settings(**own),
        {name: value for name, value in values.items() if name not in own},
        frozenset(own),
        (*notes, *_remarks(values, kind)),
        command,
        kind,
        recipe,
        info,
    )
    return options if kind is None else options.for_family("seq2seq" if kind == "seq2seq" else "ctc")


def _table() -> dict[str, Option]:
    today = training_options() | own_options()
    old = {
        name: replace(Option(name, entry.annotation) if entry.annotation else today[entry.to], name=name, group="old")
        for name, entry in OLD_NAMES.items()
        if entry.annotation or entry.to in today
    }
    return old | today


def _take_positionals(words: Words, command: Command) -> Path | None:
    """The file of options among the words that belong to no option; `speechtune evaluate` takes a model too."""
    recipe = None
    for word in words.positionals:
        if recipe is None and word.endswith((".json", ".yaml", ".yml")):
            recipe = Path(word)
        elif command == "evaluate" and all(given.name != "model_name_or_path" for given in words.given):
            words.given.append(Given("model_name_or_path", word, "the model"))
        elif not word.strip():
            words.mistakes.append("a word of spaces: does a line of the command end in a backslash and a space?")
        else:
            words.mistakes.append(
                f"{word!r} belongs to no option. Did you mean a name in front of it, or quotes around it?"
            )
    return recipe


def _knows(command: Command, name: str) -> bool:
    name = OLD_NAMES[name].to or name if name in OLD_NAMES else name
    if name in own_options():
        return own_options()[name].belongs_to(command)
    return command in ("train", "plan", "script", "evaluate") or name == "output_dir"


def _owner(name: str) -> str:
    """A command that takes option `name`."""
    return next((command for command in _REQUIRED if _knows(command, name)), "train")


def _convert(given: Sequence[Given], table: Mapping[str, Option], mistakes: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for entry in given:
        _convert_into(values, entry, table[entry.name], mistakes)
    return values


def _convert_into(values: dict[str, Any], entry: Given, option: Option, mistakes: list[str]) -> None:
    try:
        values[entry.name] = option.convert(entry.raw)
    except ValueError as error:
        secret = (OLD_NAMES[entry.name].to if entry.name in OLD_NAMES else entry.name) in SECRET_OPTIONS
        mistakes.append(f"{entry.where}: {f'expected {option.expected}' if secret else error}")


def _translate(values: dict[str, Any], table: Mapping[str, Option]) -> list[str]:
    """Replace old names in `values` by today's; today's own, where given too, counts for more. One note each."""
    notes = []
    for name in [name for name in values if name in OLD_NAMES]:
        old = OLD_NAMES[name]
        if old.to and old.to not in table:
            continue  # the installed transformers is older than the renaming
        value = values.pop(name)
        if old.line:
            notes.append(f"--{name}: {old.line}")
        today = old.value(value) if old.to and value is not None else None
        if isinstance(today, dict) and isinstance(values.get(old.to), dict):
            values[old.to] = today | values[old.to]
        elif today is not None:
            values.setdefault(old.to, today)
    organization, _, repository = str(values.get("hub_model_id") or "").rpartition("/")
    if organization and not repository:  # from --push_to_hub_organization: the repository is named as the folder
        values["hub_model_id"] = f"{organization}/{Path(values.get('output_dir') or '').name}"
    return notes


def _imply(command: Command, values: dict[str, Any]) -> None:
    if command in ("train", "plan"):
        values.setdefault("do_train", True)
        values.setdefault("do_eval", True)
    elif command == "evaluate":
        values |= {"do_train": False, "do_eval": True}
        values.setdefault("output_dir", _evaluation_folder(values))


def _evaluation_folder(values: Mapping[str, Any]) -> str:
    """Where the scores go unless told: into the model's folder, or runs/MODEL for one of the hub."""
    model = Path(values.get("model_name_or_path") or "model")
    what = (values.get("dataset_name"), values.get("dataset_config_name"), values.get("eval_split_name", "test"))
    name = "-".join(Path(part).name for part in what if part)
    return str((model if model.is_dir() else Path("runs") / model.name) / f"evaluation-{name}")


def _missing(command: Command, kind: Kind | None, values: Mapping[str, Any]) -> list[str]:
    required = _REQUIRED[command] + (("target_language",) if kind == "ctc_adapter" else ())
    table = own_options() | training_options()
    return [
        f"--{name} is missing: {table[name].help}"
        for name in required
        if not values.get(name) and not (name == "model_name_or_path" and values.get("model_config"))
    ]


def _contradictions(command: Command, kind: Kind | None, values: Mapping[str, Any]) -> list[str]:
    found = []
    do_train = values.get("do_train", False)
    if command == "script" and not (do_train or values.get("do_eval") or values.get("preprocessing_only")):
        found.append("Nothing to do: add --do_train, --do_eval or both.")
    if values.get("model_name_or_path") and values.get("model_config"):
        found.append(
            "--model_config starts from random weights, --model_name_or_path from trained ones: give one of them."
        )
    if (values.get("streaming") or kind == "ctc_streaming") and do_train and (values.get("max_steps") or -1) < 1:
        found.append("--max_steps is missing: a stream's length is not known, so its epochs can't be counted.")
    shortest, longest = values.get("min_duration_in_seconds", 0.0), values.get("max_duration_in_seconds", 20.0)
    if shortest > longest:
        found.append(
            f"--min_duration_in_seconds {shortest:g} is over --max_duration_in_seconds {longest:g}: nothing is left."
        )
    return found


def _remarks(values: Mapping[str, Any], kind: Kind | None) -> list[str]:
    remarks = []
    if kind == "ctc" and values.get("target_language"):
        remarks.append("--target_language: trains MMS adapters, as run_speech_recognition_ctc_adapter.py does")
    if values.get("dataset_config_name") == "sw" and _SWEDISH & {values.get("target_language"), values.get("language")}:
        remarks.append(
            "warning: --dataset_config_name sw is Swahili; Swedish is sv-SE in Common Voice (sv_se in FLEURS)"
        )
    return remarks
