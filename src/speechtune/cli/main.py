"""The command `speechtune` and the original scripts: dispatch, exit codes, messages.

A command's modules are imported only once its words are understood, so `--help` and a wrong option are answered at
once. A user's mistake is one message on stderr and exit code 2; SPEECHTUNE_DEBUG=1 shows where it was raised.
"""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from speechtune.cli.commands import SMALL_COMMANDS, parse_small
from speechtune.distributed import leave_processes
from speechtune.errors import OptionError, SpeechtuneError
from speechtune.options.table import Command, Kind
from speechtune.plan.hardware import set_up_libraries
from speechtune.terminal.formatting import visible

__all__ = ["COMMANDS", "main", "run_cli", "run_script"]

INTERRUPTED, PIPE_CLOSED = 130, 141  # 128 + the signal's number, as shells count

# Commands whose words are the options of the tables in options/, and what each calls
OPTION_COMMANDS: dict[Command, str] = {
    "train": "speechtune.training.run:run",
    "script": "speechtune.training.run:run",
    "evaluate": "speechtune.training.run:run",
    "plan": "speechtune.cli.plan:run",
    "doctor": "speechtune.doctor.doctor:run",
    "vocab": "speechtune.cli.vocab:run",
    "lm tune": "speechtune.training.lm_tune:run",
}
COMMANDS = {
    "demo": SMALL_COMMANDS["demo"].summary,
    "doctor": "check a corpus: what is unusable, and why",
    "plan": "show what training would do: splits, sizes, skipped, model, steps, memory, time; trains nothing",
    "train": "fine-tune a model on a corpus",
    "evaluate": "evaluate a model on a corpus",
    **{name: command.summary for name, command in SMALL_COMMANDS.items() if name != "demo"},
    "lm tune": "find the weights of a language model for a trained model, on a validation split",
    "vocab": "make a tokenizer from the text of a corpus",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `speechtune`; returns the exit code."""
    return run_cli(_speechtune, sys.argv[1:] if argv is None else argv)


def run_script(kind: Kind, argv: Sequence[str] | None = None) -> int:
    """Run the original script of this kind; returns the exit code."""
    prog = Path(sys.argv[0]).name
    return run_cli(
        lambda words: _with_options("script", words, kind=kind, prog=prog), sys.argv[1:] if argv is None else argv
    )


def run_cli(command: Callable[[Sequence[str]], int | None], argv: Sequence[str]) -> int:
    """Run a command; turn what it raises into an exit code and at most one message."""
    set_up_libraries()
    try:
        with _log_shown():
            code = command(argv)
        sys.stdout.flush()
    except SpeechtuneError as error:
        if os.environ.get("SPEECHTUNE_DEBUG", "0") not in ("", "0"):
            raise
        if _is_first() or not isinstance(error, OptionError):  # all processes of one command got the same words
            print(visible(str(error)), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit fails again
        return PIPE_CLOSED
    finally:
        leave_processes()
    return code or 0


class _VisibleFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


@contextmanager
def _log_shown() -> Iterator[None]:
    """Show our log on stderr: all lines of the first process, warnings of the others. Restores the logger."""
    log = logging.getLogger("speechtune")
    handler = logging.StreamHandler()
    handler.setFormatter(_VisibleFormatter())
    before = log.level, log.propagate
    log.addHandler(handler)
    log.propagate = False
    log.setLevel(logging.INFO if _is_first() else logging.WARNING)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _speechtune(argv: Sequence[str]) -> int | None:
    name, rest = (argv[0], argv[1:]) if argv else ("--help", ())
    if f"{name} {' '.join(rest[:1])}" in COMMANDS:  # lm build
        name, rest = f"{name} {rest[0]}", rest[1:]
    if name in SMALL_COMMANDS:
        result = _call(SMALL_COMMANDS[name].target, **parse_small(name, rest))
        if isinstance(result, int):
            return result
        print(visible(str(result)))
        return 0
    if name in COMMANDS:
        return _with_options(name, rest, prog=f"speechtune {name}")  # type: ignore[arg-type]
    if name in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if name in ("-V", "--version"):
        from importlib.metadata import version

        print(f"speechtune {version('speechtune')}")
        return 0
    from speechtune.options.words import nearest

    raise OptionError(f"speechtune {name}: no such command. {nearest(name, COMMANDS)}\n`speechtune --help` lists them.")


def _with_options(command: Command, argv: Sequence[str], *, kind: Kind | None = None, prog: str) -> int | None:
    if any(word in ("-h", "--help", "--help_all", "--help-all") for word in argv):
        from speechtune.options.help import option_help

        print(option_help(command, prog=prog, everything=not ("-h" in argv or "--help" in argv)), end="")
        return 0
    from speechtune.options.parse import parse_options

    return _call(OPTION_COMMANDS[command], parse_options(argv, command=command, kind=kind, prog=prog))


def _call(target: str, *args: Any, **kwargs: Any) -> Any:
    """Import the function "module:name" and call it. The heavy libraries load here."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)(*args, **kwargs)


def _overview() -> str:
    width = min(shutil.get_terminal_size().columns, 110)
    about = (
        "Fine-tune any pretrained speech model on any speech corpus, evaluate it with honest error rates, and use it."
    )
    column = max(map(len, COMMANDS)) + 2
    lines = [
        textwrap.fill(summary, width, initial_indent=f"  {name:<{column}}", subsequent_indent=" " * (column + 2))
        for name, summary in COMMANDS.items()
    ]
    end = "`speechtune COMMAND --help` lists its options. For a first try: speechtune demo"
    return "\n".join(["usage: speechtune COMMAND [...]", "", textwrap.fill(about, width), "", *lines, "", end])


if __name__ == "__main__":
    raise SystemExit(main())
