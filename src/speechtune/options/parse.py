"""Command lines of the original scripts, old and new, and of `speechtune train`, turned into `Options`.

Names that transformers renamed or dropped since version 3 are still accepted: see `renamed.py`.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechtune.errors import OptionError
from speechtune.options.lora import read_lora
from speechtune.options.option import Option, own_options
from speechtune.options.options_file import check_json_file, read_options_file
from speechtune.options.renamed import OLD_NAMES, Old
from speechtune.options.table import METRICS, SECRET_OPTIONS, Command, Kind, Options, Settings
from speechtune.options.training_arguments import LIMITS, TRACKERS, training_options
from speechtune.options.words import Given, Words, split_words

__all__ = ["parse_options"]


# Given on the command line, each overrides the other one of a recipe.
_RIVALS = (
    ("model_name_or_path", "model_config"),
    ("batch_seconds", "per_device_train_batch_size"),
    ("max_steps", "num_train_epochs"),
)
_REQUIRED: dict[Command, tuple[str, ...]] = {
    **dict.fromkeys(("train", "plan", "script"), ("model_name_or_path", "dataset_name", "output_dir")),
    "evaluate": ("model_name_or_path", "dataset_name"),
    "lm tune": ("model_name_or_path", "lm", "dataset_name"),
    "doctor": ("dataset_name",),
    "vocab": ("dataset_name", "output_dir"),
}
_SWEDISH = {"swe", "sv", "swedish"}


def parse_options(
    argv: Sequence[str], *, command: Command = "train", kind: Kind | None = None, prog: str = "speechtune train"
) -> Options:
    """Return the options that a command line gives.

    A word that ends in .json, .yaml or .yml is a file of options; the command line overrides it.

    Args:
        argv: the words after the program's name.
        command: "script" trains only with `--do_train` and evaluates only with `--do_eval`, as the originals do.
        kind: of the script called; None where it depends on the model.
        prog: the command's name, for messages.

    Raises:
        OptionError: one message with all mistakes: unknown options (and the nearest), values of a wrong type or out of
            range, missing options, options that contradict each other.
    """
    table = _table()
    words = split_words(argv, table)
    mistakes = words.mistakes
    recipe = _take_positionals(words, command)
    in_file, info, file_mistakes = read_options_file(recipe, table) if recipe is not None else ([], {}, [])
    mistakes += file_mistakes
    hint = [f"`{prog} --help` lists the options."] if mistakes else []
    on_line = {given.name for given in words.given}
    overridden = {b if a in on_line else a for a, b in _RIVALS if (a in on_line) != (b in on_line)}
    given = [entry for entry in in_file if _knows(command, entry.name) and entry.name not in overridden]
    values = _convert([*given, *words.given], table, mistakes)
    wrong = {entry.name for entry in (*given, *words.given)} - set(values)
    mistakes += [
        f"--{name} is not an option of `{prog}`, but of `speechtune {_owner(name)}`."
        for name in sorted(on_line)
        if not _knows(command, name)
    ]
    if values.get("fp16") and values.get("bf16"):
        mistakes.append("--fp16 and --bf16 contradict each other: give one of them.")
    notes = _translate(values, table, mistakes)
    _imply(command, values)
    mistakes += _missing(command, kind, dict.fromkeys(wrong, True) | values, table) + _contradictions(
        command, kind, values
    )
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
    """Every option that is understood, by name; those of `renamed.py` are in the group "old"."""
    today = training_options() | own_options()
    old = {name: _old_option(name, entry, today) for name, entry in OLD_NAMES.items()}
    return today | {name: option for name, option in old.items() if option is not None}


def _old_option(name: str, entry: Old, today: Mapping[str, Option]) -> Option | None:
    if not entry.annotation:
        option = today.get(entry.to or name)  # None: the installed transformers is older or newer than this row
        return replace(option, name=name, group="old") if option is not None else None
    secret = entry.to in SECRET_OPTIONS
    return Option(name, entry.annotation, group="old", limits=LIMITS.get(name), secret=secret)


def _take_positionals(words: Words, command: Command) -> Path | None:
    """Return the file of options among the words without an option; `speechtune evaluate` takes a model too."""
    recipe = None
    for word in words.positionals:
        if recipe is None and word.endswith((".json", ".yaml", ".yml")):
            recipe = Path(word)
        elif command in ("evaluate", "lm tune") and all(given.name != "model_name_or_path" for given in words.given):
            words.given.append(Given("model_name_or_path", word, "the model"))
        elif not word.strip():
            words.mistakes.append("a word of spaces: does a line of the command end in a backslash and a space?")
        else:
            words.mistakes.append(f"{word!r} belongs to no option. Is an option's name missing, or are quotes missing?")
    return recipe


def _knows(command: Command, name: str) -> bool:
    name = OLD_NAMES[name].to or name if name in OLD_NAMES else name
    if name in own_options():
        return own_options()[name].belongs_to(command)
    return command in ("train", "plan", "script", "evaluate", "lm tune") or name == "output_dir"


def _owner(name: str) -> Command:
    """Return a command that takes option `name`."""
    return next((command for command in _REQUIRED if _knows(command, name)), "train")


def _convert(given: Sequence[Given], table: Mapping[str, Option], mistakes: list[str]) -> dict[str, Any]:
    """Return typed values by name, the last one given for each."""
    values: dict[str, Any] = {}
    for entry in given:
        option = table[entry.name]
        try:
            value = option.convert(entry.raw)
            if option.takes_path and isinstance(value, str) and option.group != "old":
                check_json_file(Path(value), option)
            values[entry.name] = value
        except ValueError as error:
            mistakes.append(f"{entry.where}: {error}")
    return values


def _translate(values: dict[str, Any], table: Mapping[str, Option], mistakes: list[str]) -> list[str]:
    """Replace old names in `values` by today's, unless today's is given too; return a note for each."""
    notes = []
    for name in [name for name in values if name in OLD_NAMES]:
        old = OLD_NAMES[name]
        if old.to and old.to not in table:
            continue  # the installed transformers is older than the renaming
        value = values.pop(name)
        if old.refused and value not in (table[name].default, None):
            mistakes.append(f"--{name} is {old.line}.")
        elif old.line and not old.refused:
            notes.append(f"--{name}: {old.line}")
        today = old.value(value) if old.to and value is not None else None
        if isinstance(today, dict) and isinstance(values.get(old.to), dict):
            values[old.to] = today | values[old.to]
        elif today is not None:
            values.setdefault(old.to, today)
    organization, _, repository = str(values.get("hub_model_id") or "").rpartition("/")
    if organization and not repository:  # from --push_to_hub_organization: the repository gets the folder's name
        values["hub_model_id"] = f"{organization}/{Path(values.get('output_dir') or '').name}"
    return notes


def _imply(command: Command, values: dict[str, Any]) -> None:
    if command in ("train", "plan"):
        values.setdefault("do_train", True)
        values.setdefault("do_eval", True)
    elif command in ("evaluate", "lm tune"):
        values |= {"do_train": False, "do_eval": True}
        if command == "lm tune":
            values.setdefault("eval_split_name", "validation")
        values.setdefault("output_dir", _evaluation_folder(values))
    best = str(values.get("metric_for_best_model")).removeprefix("eval_")
    if best in METRICS:
        values["eval_metrics"] = tuple(dict.fromkeys((*values.get("eval_metrics", ("wer",)), best)))


def _evaluation_folder(values: Mapping[str, Any]) -> str:
    """Default folder of scores: in the model's folder, or runs/MODEL for a model of the hub."""
    model = Path(values.get("model_name_or_path") or "model")
    what = (values.get("dataset_name"), values.get("dataset_config_name"), values.get("eval_split_name", "test"))
    name = "-".join(Path(part).name for part in what if part)
    is_local = os.path.isdir(model)  # noqa: PTH112 - Path raises on a name that is too long for a file
    return str((model if is_local else Path("runs") / model.name[:100]) / f"evaluation-{name}")


def _missing(command: Command, kind: Kind | None, values: Mapping[str, Any], table: Mapping[str, Option]) -> list[str]:
    required = _REQUIRED[command] + (("target_language",) if kind == "ctc_adapter" else ())
    return [
        f"--{name} is missing: {table[name].help}"
        for name in required
        if not values.get(name) and not (name == "model_name_or_path" and values.get("model_config"))
    ]


def _contradictions(command: Command, kind: Kind | None, values: Mapping[str, Any]) -> list[str]:
    found = []
    do_train = values.get("do_train", False)
    evaluates = values.get("do_eval") or values.get("eval_strategy", "no") != "no"
    if command in ("train", "plan", "script") and not (do_train or evaluates):
        found.append("Nothing to do: add --do_train, --do_eval or both.")
    if values.get("model_name_or_path") and values.get("model_config"):
        found.append(
            "--model_config starts from random weights, --model_name_or_path from trained ones: give one of them."
        )
    if (values.get("streaming") or kind == "ctc_streaming") and do_train and (values.get("max_steps") or -1) < 1:
        found.append("--max_steps is missing: a stream's length is not known, so its epochs can't be counted.")
    if values.get("lora"):
        found += _lora_mistakes(values)
    shortest, longest = values.get("min_duration_in_seconds", 0.0), values.get("max_duration_in_seconds", 20.0)
    if shortest > longest:
        found.append(
            f"--min_duration_in_seconds {shortest:g} is over --max_duration_in_seconds {longest:g}: nothing is left."
        )
    trackers = values.get("report_to") or []
    for name in [trackers] if isinstance(trackers, str) else trackers:
        missing = [module for module in TRACKERS.get(name, ()) if importlib.util.find_spec(module) is None]
        if missing and not (name == "tensorboard" and importlib.util.find_spec("tensorboardX")):
            packages = " ".join({"azureml": "azureml-core"}.get(module, module) for module in missing)
            found.append(f"--report_to {name}: {' and '.join(missing)} is not installed. Run: pip install {packages}")
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


def _lora_mistakes(values: Mapping[str, Any]) -> list[str]:
    found = []
    try:
        read_lora(values["lora"])
    except OptionError as error:
        found.append(str(error))
    if values.get("model_config"):
        found.append(
            "--lora adds to trained weights; with --model_config all weights are random. Leave one of them out."
        )
    if values.get("target_language"):
        found.append("--target_language trains MMS' own adapters, --lora others: give one of them.")
    mixes = next((name for name in ("interpolate_weights", "average_checkpoints") if values.get(name)), None)
    if mixes is not None:
        found.append(f"--{mixes} mixes whole models; with --lora checkpoints hold updates only. Leave one of them out.")
    return found
