"""`--help` of the commands whose options come from the tables: grouped, with defaults, in the terminal's width."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby

from speechtune.options.option import Option, own_options, training_options
from speechtune.options.renamed import OLD_NAMES
from speechtune.options.table import Command

__all__ = ["option_help"]

_ABOUT: dict[Command, tuple[str, str]] = {
    "train": (
        "[OPTIONS.yaml] --model_name_or_path MODEL --dataset_name CORPUS --output_dir FOLDER [...]",
        "Fine-tune a speech model on a corpus, and say how well it recognises. The same command again goes on where the"
        " last run stopped. A file of options (YAML or JSON, such as a recipe) may come first; the command line counts"
        " for more.",
    ),
    "plan": (
        "[OPTIONS.yaml] --model_name_or_path MODEL --dataset_name CORPUS --output_dir FOLDER [...]",
        "Show what training would do: splits, sizes, skipped, model, steps, memory, time. Trains nothing. Takes the options"
        " of `speechtune train`: replace `train` by `plan` in its command.",
    ),
    "script": (
        "--model_name_or_path MODEL --dataset_name CORPUS --output_dir FOLDER --do_train --do_eval [...]",
        "Takes the options of the original script of this name; `speechtune train` does the same. A .json or .yaml file"
        " of options may stand in their place.",
    ),
    "evaluate": (
        "MODEL --dataset_name CORPUS [...]",
        "Say how well a model recognises a corpus: error rates with counts and confidence, each utterance's text, a"
        " report.",
    ),
    "doctor": (
        "--dataset_name CORPUS [...]",
        "Read a corpus as training would, and name what can't be used and why. Trains nothing.",
    ),
    "vocab": (
        "--dataset_name CORPUS --output_dir FOLDER [...]",
        "Make a character tokenizer from a corpus' training text, as streaming needs it beforehand.",
    ),
}
_ALL_OF_TRAINING = (
    "Every option of transformers' Seq2SeqTrainingArguments is taken as well, such as --num_train_epochs,"
    " --learning_rate, --per_device_train_batch_size, --eval_steps, --seed: --help_all lists them."
)


def option_help(command: Command, *, prog: str, everything: bool = False) -> str:
    """The help text of a command.

    Args:
        prog: its name, as the user called it.
        everything: with the options of `TrainingArguments`.
    """
    usage, about = _ABOUT[command]
    options = [option for option in own_options().values() if option.belongs_to(command)]
    training = command in ("train", "plan", "script", "evaluate")
    if everything and training:
        options += [_as_taken(option) for name, option in training_options().items() if name != "output_dir"]
    width = max(60, min(shutil.get_terminal_size().columns, 110))
    parts = [f"usage: {prog} {usage}", textwrap.fill(about, width)]
    output_dir = Option("output_dir", "str", help="folder for all that the command writes", group="Output")
    parts.append(_section("Output", [output_dir], width))
    for group, members in groupby(sorted(options, key=lambda option: _first(options, option.group)), lambda o: o.group):
        parts.append(_section(group, members, width))
    if training and not everything:
        parts.append(textwrap.fill(_ALL_OF_TRAINING, width))
    return "\n\n".join(parts) + "\n"


def _as_taken(option: Option) -> Option:
    """With what becomes of it here, where that is not what transformers says."""
    old = OLD_NAMES.get(option.name)
    return replace(option, help=old.line) if old is not None and old.line else option


def _first(options: list[Option], group: str) -> int:
    return next(index for index, option in enumerate(options) if option.group == group)


def _section(title: str, options: Iterable[Option], width: int) -> str:
    return "\n".join([f"{title}:", *(_entry(option, width) for option in options)])


def _entry(option: Option, width: int) -> str:
    head = f"  --{option.name} {_placeholder(option)}".rstrip()
    unsaid = option.default in (None, "", False, ...) or option.default == []
    default = "" if unsaid else f" (default: {_shown(option.default)})"
    body = textwrap.wrap(option.help + default, width - 34, break_on_hyphens=False) or [""]
    lines = [f"{head:<33} {body[0]}"] if len(head) <= 33 else [head, " " * 34 + body[0]]
    return "\n".join([*lines, *(" " * 34 + line for line in body[1:])])


def _placeholder(option: Option) -> str:
    if option.words and len(option.words) <= 4:
        numbers = ["SECONDS"] if "float" in option.kinds else []
        return "|".join([*numbers, *option.words]) + ("..." if option.takes_many else "")
    if option.is_switch:
        return "" if option.default is False else "[BOOL]"
    kind = next(
        (kind for kind in ("int", "float", "dict") if kind in option.kinds), "list" if option.takes_many else ""
    )
    return {"int": "N", "float": "X", "dict": "JSON", "list": "WORD..."}.get(kind, "TEXT")


def _shown(default: object) -> str:
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
