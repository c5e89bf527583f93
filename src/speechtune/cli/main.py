"""The command `speechtune`, and the door that the scripts of the original names share with it.

Only what a command needs is imported, and only once its words are understood, so `--help` and a wrong option answer at
once. A mistake of the user's is one message on stderr and exit code 2; SPEECHTUNE_DEBUG=1 shows where it was raised.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from speechtune.errors import OptionError, SpeechtuneError
from speechtune.options.table import Command, Kind
from speechtune.plan.hardware import set_up_libraries
from speechtune.terminal.formatting import visible

__all__ = ["main", "run_cli", "run_script"]

INTERRUPTED, PIPE_CLOSED = 130, 141  # 128 + the signal's number, as shells count


def main(argv: Sequence[str] | None = None) -> int:
    """Run `speechtune`; returns the exit code."""
    return run_cli(_speechtune, sys.argv[1:] if argv is None else argv)


def run_script(kind: Kind, argv: Sequence[str] | None = None) -> int:
    """Run the original script of this kind; returns the exit code."""
    prog = Path(sys.argv[0]).name
    return run_cli(
        lambda words: _train(words, command="script", kind=kind, prog=prog), sys.argv[1:] if argv is None else argv
    )


def run_cli(command: Callable[[Sequence[str]], int | None], argv: Sequence[str]) -> int:
    """Run a command and turn what it raises into an exit code, with at most one message."""
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the flush at exit fails once more
        return PIPE_CLOSED
    return code or 0


@contextmanager
def _log_shown() -> Iterator[None]:
    """Our own lines on stderr: the first process' all, the others' warnings. The logger is left as it was."""
    import logging

    class VisibleFormatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return visible(super().format(record))

    log = logging.getLogger("speechtune")
    handler = logging.StreamHandler()
    handler.setFormatter(VisibleFormatter("%(message)s"))
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
    if name in COMMANDS:
        return COMMANDS[name][1](rest)
    if name in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if name in ("-V", "--version"):
        from importlib.metadata import version

        print(f"speechtune {version('speechtune')}")
        return 0
    from speechtune.options.words import nearest

    raise OptionError(f"speechtune {name}: no such command. {nearest(name, COMMANDS)}\n`speechtune --help` lists them.")


def _overview() -> str:
    lines = [f"  {name:<12}{summary}" for name, (summary, _) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: speechtune COMMAND [...]",
            "",
            "Fine-tune any pretrained speech model on any speech corpus,",
            "say honestly how well it recognises, and put it to work.",
            "",
            *lines,
            "",
            "`speechtune COMMAND --help` says more. To see it all at work: speechtune demo",
        ]
    )


_RUNS: dict[Command, str] = {
    "plan": "speechtune.plan.command:run",
    "doctor": "speechtune.doctor.doctor:run",
    "vocab": "speechtune.cli.vocab:run",
}


def _train(argv: Sequence[str], *, command: Command, kind: Kind | None = None, prog: str) -> int | None:
    """Every command whose words are the options of config.py and TrainingArguments."""
    if any(word in ("-h", "--help", "--help_all", "--help-all") for word in argv):
        from speechtune.options.help import option_help

        print(option_help(command, prog=prog, everything=not ("-h" in argv or "--help" in argv)), end="")
        return 0
    from speechtune.options.parse import parse_options

    options = parse_options(argv, command=command, kind=kind, prog=prog)
    return _call(_RUNS.get(command, "speechtune.training.run:run"), options)


def _with_options(command: Command) -> Callable[[Sequence[str]], int | None]:
    return lambda argv: _train(argv, command=command, prog=f"speechtune {command}")


def _call(target: str, *args: Any, **kwargs: Any) -> Any:
    """Import the function "module:name" and call it: the moment when the heavy libraries load."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)(*args, **kwargs)


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are ours: one message, the nearest option named."""

    def error(self, message: str) -> NoReturn:
        unknown = [word for word in message.partition("unrecognized arguments: ")[2].split() if word.startswith("--")]
        if unknown:
            from speechtune.options.words import nearest

            known = [option for action in self._actions for option in action.option_strings]
            message = f"{unknown[0]}: no such option. {nearest(unknown[0], known)}"
        raise OptionError(f"{message[:1].upper()}{message[1:]}\n`{self.prog} --help` lists the options.")


def _parser(name: str, about: str) -> _Parser:
    return _Parser(f"speechtune {name}", description=about, allow_abbrev=False)


def _like(name: str) -> Callable[[str], Any]:
    """argparse's type for an option that means what `speechtune train` means by it."""

    def convert(word: str) -> Any:
        from speechtune.options.option import own_options

        try:
            return own_options()[name].convert(word)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _demo(argv: Sequence[str]) -> int | None:
    parser = _parser("demo", "Build a small corpus of synthetic voices, train a recogniser on it, score and use it.")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/demo"), help="default: runs/demo")
    args = parser.parse_args(argv)
    return _call("speechtune.demo.run:run_demo", output_dir=args.output_dir)


def _transcribe(argv: Sequence[str]) -> int | None:
    parser = _parser("transcribe", "Write what is said in recordings, with a trained folder or a model of the hub.")
    parser.add_argument("model", metavar="MODEL", help="folder of a trained model, or a name on the hub")
    parser.add_argument("files", metavar="FILE", nargs="+", help="recordings of any length, in any usual format")
    parser.add_argument("--language", help="the language spoken, for Whisper")
    parser.add_argument("--task", choices=("transcribe", "translate"), help="Whisper's task; default: transcribe")
    parser.add_argument("--target_language", help="language of the adapters to load, for MMS: tur")
    parser.add_argument(
        "--encoder_context",
        type=_like("encoder_context"),
        help="Whisper: seconds of silence after a clip, or 'full'; default: what the model was tuned with",
    )
    parser.add_argument("--force", action="store_true", help="allow a short context on a model not tuned for it")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    args = {name: value for name, value in vars(parser.parse_args(argv)).items() if value not in (None, False)}
    return _call("speechtune.decoding.transcribe:main_transcribe", args.pop("model"), args.pop("files"), **args)


def _report(argv: Sequence[str]) -> int | None:
    parser = _parser("report", "Write report.html anew from what lies in the output folder of a run.")
    parser.add_argument("output_dir", metavar="FOLDER", type=Path)
    folder = parser.parse_args(argv).output_dir
    if not folder.is_dir():
        raise OptionError(f"{folder}: no such folder. A report is made from the output folder of a run.")
    print(_call("speechtune.reporting.report:write_report", folder))
    return 0


def _export(argv: Sequence[str]) -> int | None:
    parser = _parser("export", "Write what recognition needs of a trained model, and nothing else, into a folder.")
    parser.add_argument("model", metavar="MODEL", help="folder of a trained model")
    parser.add_argument("--output_dir", type=Path, required=True, help="new folder")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="of the weights; default: float32")
    args = parser.parse_args(argv)
    return _call(
        "speechtune.publishing.export:run", args.model, args.output_dir, **({"dtype": args.dtype} if args.dtype else {})
    )


def _push(argv: Sequence[str]) -> int | None:
    parser = _parser("push", "Upload a trained folder to the hub, with its model card.")
    parser.add_argument("output_dir", metavar="FOLDER", type=Path)
    parser.add_argument("--hub_model_id", help="name there; default: your name and the folder's")
    parser.add_argument("--hub_private_repo", action="store_true", help="only for you and your organisation")
    parser.add_argument("--hub_token", help="default: the token of `hf auth login`")
    args = vars(parser.parse_args(argv))
    print(_call("speechtune.publishing.publish:push", args.pop("output_dir"), **args))
    return 0


def _warmstart(argv: Sequence[str]) -> int | None:
    parser = _parser("warmstart", "Join a speech encoder and a text decoder into one model, to be trained further.")
    parser.add_argument("--encoder", required=True, help="such as facebook/wav2vec2-base")
    parser.add_argument("--decoder", required=True, help="such as facebook/bart-base")
    parser.add_argument("--output_dir", type=Path, required=True)
    args = parser.parse_args(argv)
    return _call("speechtune.models.seq2seq.warmstart:run", args.encoder, args.decoder, args.output_dir)


def _cache(argv: Sequence[str]) -> int | None:
    from speechtune.cli.cache import PARTS

    parser = _parser("cache", "Show what the cache holds, or clear it: nothing is lost but time.")
    parser.add_argument("--cache_dir", help="where it lies; default: $SPEECHTUNE_CACHE or ~/.cache/speechtune")
    parser.add_argument(
        "--clear", nargs="*", choices=(*PARTS, "arena"), metavar="PART", help=f"remove {', '.join(PARTS)} or all"
    )
    args = parser.parse_args(argv)
    clear = () if args.clear is None else tuple(args.clear or PARTS)
    return _call("speechtune.cli.cache:run", args.cache_dir, clear=clear)


COMMANDS: dict[str, tuple[str, Callable[[Sequence[str]], Any]]] = {
    "demo": ("build a small corpus, train on it, score and use the recogniser", _demo),
    "doctor": ("name what in a corpus can't be used, and why", _with_options("doctor")),
    "plan": (
        "show what training would do: splits, sizes, skipped, model, steps, memory, time; trains nothing",
        _with_options("plan"),
    ),
    "train": ("fine-tune a model on a corpus", _with_options("train")),
    "evaluate": ("say how well a model recognises a corpus", _with_options("evaluate")),
    "transcribe": ("write what is said in recordings", _transcribe),
    "report": ("write a run's report.html anew", _report),
    "export": ("write a trained model for use elsewhere", _export),
    "push": ("upload a trained folder to the hub", _push),
    "vocab": ("make a tokenizer from a corpus' text", _with_options("vocab")),
    "warmstart": ("join a speech encoder and a text decoder", _warmstart),
    "cache": ("show or clear what the cache holds", _cache),
}

if __name__ == "__main__":
    raise SystemExit(main())
