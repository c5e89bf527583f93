"""The commands with few options of their own. Those that take the options of training are in main.py.

A command is a function here that adds its arguments to a parser, with the function "module:name" that is called with
what the user gave, as keywords. A result that is not an exit code is printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from speechtune.errors import OptionError

__all__ = ["SMALL_COMMANDS", "parse_small"]


@dataclass(frozen=True)
class _SmallCommand:
    summary: str
    target: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    takes_more: bool = False  # words of other options are passed on, as `options`


TRANSCRIPT_FORMATS = ("txt", "srt", "vtt", "json", "jsonl", "tsv", "textgrid", "ctm")  # of decoding/formats.py

SMALL_COMMANDS: dict[str, _SmallCommand] = {}


def parse_small(name: str, argv: Sequence[str]) -> dict[str, Any]:
    """Return the keyword arguments for the function of command `name`: what the user gave.

    Raises:
        OptionError: the words are wrong. `--help` prints the help and exits.
    """
    command = SMALL_COMMANDS[name]
    about = f"{command.summary[:1].upper()}{command.summary[1:]}."
    parser = _Parser(f"speechtune {name}", description=about, allow_abbrev=False)
    command.add_arguments(parser)
    values, rest = parser.parse_known_args(argv) if command.takes_more else (parser.parse_args(argv), [])
    if rest and argv[0].startswith("-"):
        raise OptionError(f"The systems come first: speechtune {name} A B {' '.join(rest[:1])} ...")
    given = {key: value for key, value in vars(values).items() if value not in (None, False)}
    return {**given, "options": rest} if rest else given


class _Parser(argparse.ArgumentParser):
    """argparse with our errors: one message that names the nearest option."""

    def error(self, message: str) -> NoReturn:
        known = [option for action in self._actions for option in action.option_strings]
        words = message.partition("unrecognized arguments: ")[2].split()
        unknown = [word for word in words if word.startswith("--")]
        if unknown:
            from speechtune.options.words import nearest

            name = unknown[0].partition("=")[0]
            message = f"{name}: no such option. {nearest(name, known)}"
        elif words and any("token" in option for option in known):  # they may be parts of a token
            message = f"{len(words)} of the words belong to no option"
        raise OptionError(f"{message[:1].upper()}{message[1:]}\n`{self.prog} --help` lists the options.")


def _command(
    target: str, summary: str, *, takes_more: bool = False, called: str = ""
) -> Callable[[Callable[[argparse.ArgumentParser], None]], None]:
    def add(function: Callable[[argparse.ArgumentParser], None]) -> None:
        name = called or function.__name__.strip("_").replace("_", " ")
        SMALL_COMMANDS[name] = _SmallCommand(summary, target, function, takes_more)

    return add


@_command("speechtune.demo.run:run_demo", "build a small corpus of synthetic voices, train, evaluate and transcribe")
def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output_dir", type=Path, default=Path("runs/demo"), help="default: runs/demo")


@_command("speechtune.decoding.recordings:transcribe_files", "transcribe recordings with a trained model")
def _transcribe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder of a trained model, or a name on the hub")
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help="audio or video files of any length, folders, patterns, or - for stdin"
    )
    parser.add_argument("-o", "--output_dir", type=Path, help="write files there; those that are there are kept")
    parser.add_argument(
        "--format",
        nargs="+",
        choices=TRANSCRIPT_FORMATS,
        metavar="FORMAT",
        help=f"{', '.join(TRANSCRIPT_FORMATS)}; several with --output_dir; default: txt",
    )
    parser.add_argument(
        "--vad",
        choices=("energy", "silero", "none"),
        help="what finds speech: its loudness, a network (needs speechtune[vad]), or nothing; default: energy",
    )
    parser.add_argument("--language", help="language of the recordings, for Whisper")
    parser.add_argument("--task", choices=("transcribe", "translate"), help="Whisper's task; default: transcribe")
    parser.add_argument("--target_language", help="language of the adapters to load, for MMS: tur")
    parser.add_argument(
        "--encoder_context",
        type=_as_in_training("encoder_context"),
        metavar="SECONDS|full",
        help="Whisper: seconds of silence after each clip, or 'full'; by default as the model was fine-tuned",
    )
    parser.add_argument("--lm", metavar="FILE|auto", help="n-gram language model; auto: the one in the model's folder")
    parser.add_argument("--lm_alpha", type=_as_in_training("lm_alpha"), metavar="X", help="its weight")
    parser.add_argument("--lm_beta", type=_as_in_training("lm_beta"), metavar="X", help="added for each word")
    parser.add_argument(
        "--num_beams", type=_as_in_training("num_beams"), metavar="N", help="hypotheses kept in the search"
    )
    parser.add_argument("--hotwords", nargs="+", metavar="WORD", help="CTC: words to prefer: ankara 'new york=12'")
    parser.add_argument(
        "--prompt", metavar="TEXT", help="Whisper: what it takes for said before: names and spellings to prefer"
    )
    parser.add_argument(
        "--aligner",
        metavar="MODEL",
        help="CTC model that finds the times of words, more exactly than Whisper does",
    )
    parser.add_argument("--force", action="store_true", help="allow a context that the model was not fine-tuned with")
    parser.add_argument("--model_revision", help="version of the model on the hub: a branch, tag or commit")
    parser.add_argument("--token", help="for a private model; default: the token of `hf auth login`")
    parser.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the model")
    parser.add_argument("--json", action="store_true", help="print an object with file and text for each recording")


@_command("speechtune.decoding.align:align_files", "find where each word of a text is said in a recording")
def _align(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="CTC model: folder of a trained one, or a name on the hub")
    parser.add_argument("audio", metavar="AUDIO", help="recording of any length")
    parser.add_argument("text", metavar="TEXT", help="its text: .txt, .srt, .vtt, .TextGrid or .eaf")
    parser.add_argument(
        "-o", "--output", type=Path, help="file to write: .srt, .TextGrid, .ctm, ...; default: print ctm"
    )
    parser.add_argument(
        "--format", nargs="+", choices=TRANSCRIPT_FORMATS, metavar="FORMAT", help=", ".join(TRANSCRIPT_FORMATS)
    )
    _add_model_options(parser)


@_command("speechtune.decoding.segment:segment_files", "cut long recordings with a transcript into a corpus of clips")
def _segment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="CTC model: folder of a trained one, or a name on the hub")
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="recording and transcript (.txt, .srt, .vtt, .TextGrid, .eaf), the next recording and transcript, ...",
    )
    parser.add_argument("-o", "--output_dir", type=Path, required=True, help="new folder for the corpus")
    parser.add_argument("--min_confidence", type=float, help="clips under it are dropped, 0 to 1; default: 0.1")
    parser.add_argument("--max_duration_in_seconds", type=float, help="of a clip; default: 20")
    _add_model_options(parser)


@_command(
    "speechtune.decoding.pseudo_label:label_files",
    "make a corpus of recordings without text, labelled by a model",
    called="pseudo-label",
)
def _pseudo_label(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder of a trained model, or a name on the hub")
    parser.add_argument("files", metavar="FILE", nargs="+", help="recordings, folders or patterns, as for transcribe")
    parser.add_argument("-o", "--output_dir", type=Path, required=True, help="new folder for the corpus")
    parser.add_argument("--second_model", metavar="MODEL", help="only clips that it recognises alike are kept")
    parser.add_argument("--min_confidence", type=float, help="clips under it are dropped, 0 to 1; default: 0.8")
    parser.add_argument("--max_disagreement", type=float, help="of the two models, as a CER; default: 0.1")
    _add_model_options(parser)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--language", help="language of the text, for lower case; default: that of the training")
    parser.add_argument("--target_language", help="language of the adapters to load, for MMS: tur")
    parser.add_argument("--model_revision", help="version of the model on the hub: a branch, tag or commit")
    parser.add_argument("--token", help="for a private model; default: the token of `hf auth login`")
    parser.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the model")


def _add_report_audio(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--report_audio_mb",
        type=_as_in_training("report_audio_mb"),
        metavar="MB",
        help="recordings that the page may hold; who gets it hears them; 0: none; default: 5",
    )


def _as_in_training(name: str) -> Callable[[str], Any]:
    """Return argparse's type for an option with the type and range of `speechtune train`'s."""

    def convert(word: str) -> Any:
        from speechtune.options.option import own_options

        try:
            return own_options()[name].convert(word)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


@_command(
    "speechtune.training.compare:main_compare",
    "compare systems on the same utterances: which is better, where, and whether it may be chance",
    takes_more=True,
)
def _compare(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "With --dataset_name, systems that are models are evaluated first, by any options of `speechtune evaluate`."
    )
    parser.add_argument(
        "systems",
        metavar="SYSTEM",
        nargs="+",
        help="folder of an evaluation or of a trained model, or a name on the hub",
    )
    parser.add_argument("--output_dir", type=Path, help="of comparison.json and .html; default: runs/compare-A-B")
    _add_report_audio(parser)


@_command("speechtune.cli.report:run", "write report.html of a run again, from the files in its folder")
def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", metavar="FOLDER", nargs="+", type=Path, help="output folder of the run; several are compared"
    )
    _add_report_audio(parser)


@_command("speechtune.publishing.export:run", "copy a trained model, without training state, into a new folder")
def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder of a trained model")
    parser.add_argument("--output_dir", type=Path, required=True, help="new folder")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="of the weights; default: float32")


@_command("speechtune.publishing.publish:push", "upload a trained model and its model card to the hub")
def _push(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output_dir", metavar="FOLDER", type=Path, help="folder of the trained model")
    parser.add_argument("--hub_model_id", help="name on the hub; default: your name and the folder's")
    parser.add_argument("--hub_private_repo", action="store_true", help="visible only to you and your organisation")
    parser.add_argument("--hub_token", help="default: the token of `hf auth login`")


@_command("speechtune.models.seq2seq.warmstart:run", "join a speech encoder and a text decoder into one model")
def _warmstart(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--encoder", required=True, help="such as facebook/wav2vec2-base")
    parser.add_argument("--decoder", required=True, help="such as facebook/bart-base")
    parser.add_argument("--output_dir", type=Path, required=True, help="new folder")


@_command("speechtune.cli.cache:run", "show what the cache holds, or clear it; everything in it can be regenerated")
def _cache(parser: argparse.ArgumentParser) -> None:
    from speechtune.cli.cache import PARTS

    parser.add_argument("--cache_dir", help="default: $SPEECHTUNE_CACHE or ~/.cache/speechtune")
    parser.add_argument(
        "--clear", nargs="*", choices=(*PARTS, "arena", "all"), metavar="PART", help=f"remove {', '.join(PARTS)} or all"
    )


@_command("speechtune.cli.lm:build", "build an n-gram language model of text, or of a corpus' transcripts")
def _lm_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "texts", metavar="TEXT", nargs="*", help="files with a sentence a line, plain or .gz; - is stdin"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="ARPA file to write: lm.arpa or lm.arpa.gz")
    parser.add_argument("--order", type=_from_to(1, 6), default=4, help="words of the longest n-gram; default: 4")
    parser.add_argument(
        "--prune",
        type=_from_to(0, 10**9),
        nargs="+",
        metavar="N",
        help="remove n-grams that occur N times or less: 0 0 1",
    )
    parser.add_argument("--characters", action="store_true", help="n-grams of characters instead of words")
    parser.add_argument("--model", metavar="FOLDER", help="trained folder: its normalisation of text is used")
    parser.add_argument("--chars_to_ignore", nargs="+", help="characters to remove from the text")
    parser.add_argument("--keep_case", action="store_true", help="do not convert the text to lower case")
    parser.add_argument("--language", help="language of the text, for lower case")
    parser.add_argument("--dataset_name", help="corpus whose training transcripts are text too")
    parser.add_argument("--dataset_config_name", help="part of the corpus, usually a language")
    parser.add_argument("--train_split_name", help="splits to read, joined by +; default: train")
    parser.add_argument("--text_column_name", help="column of the transcripts")
    parser.add_argument("--corpora_dir", help="folder to search for corpora")
    parser.add_argument("--cache_dir", help="default: $SPEECHTUNE_CACHE or ~/.cache/speechtune")


def _from_to(low: int, high: int) -> Callable[[str], int]:
    """Return argparse's type for whole numbers of a range."""

    def whole_number(word: str) -> int:
        number = int(word)
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"expected a whole number from {low:,} to {high:,}, found {word!r}")
        return number

    return whole_number
