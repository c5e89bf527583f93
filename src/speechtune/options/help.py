"""`--help` of the commands whose options come from the tables: grouped, with defaults, in the terminal's width."""

from __future__ import annotations

import argparse
import functools
import shutil
import textwrap
from dataclasses import replace
from typing import Any

from speechtune.options.option import Option, own_options
from speechtune.options.renamed import OLD_NAMES
from speechtune.options.table import Command
from speechtune.options.training_arguments import HELP, training_options

__all__ = ["option_help"]

_ABOUT: dict[Command, tuple[str, str]] = {
    "train": (
        "[OPTIONS.yaml] --model_name_or_path MODEL --dataset_name CORPUS --output_dir FOLDER [...]",
        "Fine-tune a speech model on a corpus and evaluate it. The same command again resumes where the last run"
        " stopped. A file of options (YAML or JSON, such as a recipe) may come first; the command line overrides it.",
    ),
    "plan": (
        "[OPTIONS.yaml] --model_name_or_path MODEL --dataset_name CORPUS --output_dir FOLDER [...]",
        "Show what training would do: splits, sizes, skipped, model, steps, memory, time. Trains nothing. Takes the"
        " options of `speechtune train`.",
    ),
    "script": (
        "--model_name_or_path MODEL --dataset_name CORPUS --output_dir FOLDER --do_train --do_eval [...]",
        "Takes the options of the original script of this name; `speechtune train` does the same. A .json or .yaml file"
        " of options may replace them.",
    ),
    "evaluate": (
        "MODEL --dataset_name CORPUS [...]",
        "Evaluate a model on a corpus: error rates with counts and confidence intervals, the text of each utterance, a"
        " report.",
    ),
    "doctor": (
        "--dataset_name CORPUS [...]",
        "Check a corpus as training would read it: what is unusable, and why. Trains nothing.",
    ),
    "lm tune": (
        "MODEL --lm FILE --dataset_name CORPUS [...]",
        "Find the weights of an n-gram language model for a trained model: those with the fewest wrong words on the"
        " validation split. They are written to lm.json beside the language model, which is copied into the model's"
        " folder. Takes the options of `speechtune evaluate`.",
    ),
    "vocab": (
        "--dataset_name CORPUS --output_dir FOLDER [...]",
        "Make a character tokenizer from the training text of a corpus. Streaming needs one before it starts.",
    ),
}
_ONLY_FOR = {"ctc": "CTC", "seq2seq": "seq2seq", "adapter": "MMS adapters", "streaming": "streams"}
_ALL_OF_TRAINING = (
    "Every option of transformers' Seq2SeqTrainingArguments works too, such as --num_train_epochs, --learning_rate,"
    " --per_device_train_batch_size, --eval_steps and --seed. To list them: --help_all"
)


def option_help(command: Command, *, prog: str, everything: bool = False) -> str:
    """Return the help text of a command.

    Args:
        prog: the command's name, as the user typed it.
        everything: include the options of `TrainingArguments`.
    """
    usage, about = _ABOUT[command]
    width = max(60, min(shutil.get_terminal_size().columns, 110))
    has_training = command in ("train", "plan", "script", "evaluate")
    parser = argparse.ArgumentParser(
        usage=textwrap.fill(f"{prog} {usage}", width - 7, subsequent_indent=" " * 9, break_on_hyphens=False),
        description=about,
        epilog=_ALL_OF_TRAINING if has_training and not everything else None,
        add_help=False,
        formatter_class=functools.partial(argparse.HelpFormatter, max_help_position=34, width=width),
    )
    options = [replace(training_options()["output_dir"], group="Output")]
    options += [option for option in own_options().values() if option.belongs_to(command)]
    if everything and has_training:
        options += [option for option in training_options().values() if option.name != "output_dir"]
    groups: dict[str, Any] = {}
    for option in options:
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        groups[option.group].add_argument(f"--{option.name}", help=_text(option), **_placeholder(option))
    return parser.format_help()


def _text(option: Option) -> str:
    old = OLD_NAMES.get(option.name)
    text = option.help
    if old is not None and (old.line or not old.annotation):
        text = old.line or f"the same as --{old.to}"
    default = option.default
    remarks = [_ONLY_FOR[option.only_for]] if option.only_for else []
    if default not in (None, "", False, ...) and default != [] and option.name not in HELP:
        remarks.append(f"default: {' '.join(map(str, default)) if isinstance(default, tuple) else default}")
    return (text + (f" ({'; '.join(remarks)})" if remarks else "")).replace("%", "%%")  # argparse formats it


def _placeholder(option: Option) -> dict[str, Any]:
    """What follows the option's name, as an argument of `add_argument`."""
    words = "|".join([*(["SECONDS"] if "float" in option.kinds else []), *option.words])
    if option.words and len(words) <= 40:
        return {"metavar": words + ("..." if option.takes_many else "")}
    if option.is_switch:
        return {"action": "store_true"} if option.default is False else {"metavar": "BOOL", "nargs": "?"}
    names = {"int": "N", "float": "X", "dict": "JSON", "list": "X..." if option.takes_numbers else "WORD..."}
    return {"metavar": next((names[kind] for kind in names if kind in option.kinds), "TEXT")}
