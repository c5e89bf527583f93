"""What each option takes: the tables of ours and of `TrainingArguments`, and words turned into typed values.

An option's type is the annotation of its dataclass field: of our `Settings`, and of `TrainingArguments` and
`Seq2SeqTrainingArguments`, whose source is parsed, not imported (10 ms instead of 6 s). A test holds that what is read
here equals the imported dataclasses.

Rejected: argparse. It takes `-` in `--chars_to_ignore , ? . ! - \\;` for an option, guesses abbreviations, stops at the
first mistake, and needs a workaround for every boolean.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

from speechtune.errors import OptionError
from speechtune.options.table import Command, Settings

__all__ = ["Option", "own_options", "training_options"]

_TRUE = frozenset({"true", "t", "yes", "y", "1", "on"})
_FALSE = frozenset({"false", "f", "no", "n", "0", "off"})
_NONE = frozenset({"none", "null"})
_SIMPLE = frozenset({"bool", "int", "float", "str", "dict", "list"})


@dataclass(frozen=True)
class Option:
    """One option: what it takes and what it says of itself."""

    name: str
    annotation: str  # as in the source: "float | None", "dict[str, Any] | str | None"
    default: Any = None  # ... where the source computes it
    help: str = ""
    group: str = ""
    commands: str = "train evaluate doctor vocab"
    choices: tuple[str, ...] = ()
    bare: bool = False  # it may stand alone, then it is True
    low: float | None = None
    high: float | None = None

    def belongs_to(self, command: Command) -> bool:
        """Return whether `command` takes this option."""
        names = self.commands.split()
        return command in names or (command in ("plan", "script") and "train" in names)

    @functools.cached_property
    def kinds(self) -> frozenset[str]:
        """What a value may be: some of bool, int, float, str, dict, list, none, and false (False, but not True)."""
        return _read_annotation(self.annotation)[0]

    @functools.cached_property
    def words(self) -> tuple[str, ...]:
        """The only words allowed; empty where any word is, or none."""
        return self.choices or _read_annotation(self.annotation)[1]

    @property
    def takes_many(self) -> bool:
        return "list" in self.kinds

    @property
    def is_switch(self) -> bool:
        """It may stand alone."""
        return "bool" in self.kinds or self.bare

    @property
    def expected(self) -> str:
        """What the option takes, in words: "a number from 0 to 1"."""
        parts = ["true or false"] if self.is_switch else []
        if {"int", "float"} & self.kinds:
            parts.append(("a whole number" if "int" in self.kinds else "a number") + _limits(self.low, self.high))
        if self.words:
            parts.append(("one of " if len(self.words) > 1 else "") + ", ".join(self.words))
        elif {"str", "list"} & self.kinds and "dict" not in self.kinds:
            parts.append("one or more words" if self.takes_many else "a word")
        if "dict" in self.kinds:
            parts.append('a JSON object such as {"key": 1}' + (" or a file's path" if self._takes_path else ""))
        return " or ".join(parts)

    @property
    def _takes_path(self) -> bool:
        return "str" in self.kinds and not self.name.endswith("_kwargs")

    def convert(self, raw: Any) -> Any:
        """The value that `raw` stands for: a word, a list of words, or what a JSON file holds.

        Raises:
            ValueError: "expected ..., found ...", to be put behind the option's name.
        """
        try:
            value = self._convert(raw)
        except (ValueError, TypeError) as error:
            detail = f" ({error})" if isinstance(error, json.JSONDecodeError) else ""
            found = " ".join(map(str, raw)) if isinstance(raw, list) else raw
            raise ValueError(f"expected {self.expected}, found {found!r}{detail}") from None
        return tuple(value) if isinstance(value, list) and "tuple" in self.annotation else value

    def _convert(self, raw: Any) -> Any:
        if raw is None:
            return None if "none" in self.kinds else _fail()
        if isinstance(raw, list):
            many = [self._word(_as_text(item)) for item in raw if item != ""] if self.takes_many else _fail()
            return many[0] if len(many) == 1 and "str" in self.kinds else many
        if isinstance(raw, dict):
            return raw if "dict" in self.kinds else _fail()
        if isinstance(raw, bool):
            return raw if self.is_switch or (raw is False and "false" in self.kinds) else _fail()
        return self._from_text(_as_text(raw))

    def _from_text(self, text: str) -> Any:
        lower = text.strip().lower()
        if self.words and text in self.words:
            return [text] if self.takes_many else text
        if self.is_switch and lower in ({"true", "false"} if "str" in self.kinds else _TRUE | _FALSE):
            return lower in _TRUE
        if "false" in self.kinds and lower == "false":
            return False
        if "none" in self.kinds and "str" not in self.kinds and lower in _NONE:
            return None
        if {"int", "float"} & self.kinds:
            return self._number(text)
        if "dict" in self.kinds and (lower.startswith("{") or not self._takes_path):
            value = json.loads(text)
            return value if isinstance(value, dict) else _fail()
        if "str" in self.kinds:
            return self._word(text)
        return [self._word(text)] if self.takes_many else _fail()

    def _number(self, text: str) -> int | float:
        number = float(text)
        if (
            math.isnan(number)
            or not (self.low is None or number >= self.low)
            or not (self.high is None or number <= self.high)
        ):
            _fail()
        if "int" not in self.kinds:
            return number
        return int(text) if re.fullmatch(r"\s*[-+]?\d+\s*", text) else int(number) if number.is_integer() else _fail()

    def _word(self, text: str) -> str:
        return text if not self.words or text in self.words else _fail()


def _fail() -> NoReturn:
    raise ValueError


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value) if isinstance(value, (int, float)) else _fail()


def _limits(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    return f" of at least {low:g}" if low is not None else ""


@functools.cache
def own_options() -> dict[str, Option]:
    """Our options by name, in the order of `Settings`."""
    return {
        f.name: Option(f.name, str(f.type), f.default, **{k: v for k, v in f.metadata.items() if k != "only_for"})
        for f in fields(Settings)
    }


@functools.cache
def training_options() -> dict[str, Option]:
    """The options of `Seq2SeqTrainingArguments` by name, those of `TrainingArguments` among them.

    Raises:
        OptionError: transformers is not installed, or no longer as we know it.
    """
    options: dict[str, Option] = {}
    for file, name in (
        ("training_args.py", "TrainingArguments"),
        ("training_args_seq2seq.py", "Seq2SeqTrainingArguments"),
    ):
        # Only the fields are parsed: the methods behind them are two thirds of the file
        match = re.search(rf"^class {name}\b.*?(?=^    def |\Z)", _source(file), re.MULTILINE | re.DOTALL)
        if match is None:
            raise OptionError(f"{name} was not found in transformers; is its version one that speechtune knows?")
        body = ast.parse(match.group()).body[0]
        assert isinstance(body, ast.ClassDef)
        for node in body.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                options[node.target.id] = _training_option(node.target.id, node)
    return options


def _training_option(name: str, node: ast.AnnAssign) -> Option:
    """From `name: annotation = field(default=..., metadata={...})`."""
    keywords = {k.arg: k.value for k in node.value.keywords} if isinstance(node.value, ast.Call) else {}
    metadata = _literal(keywords.get("metadata"), {})
    default = (
        _literal(keywords["default"], ...) if "default" in keywords else [] if "default_factory" in keywords else None
    )
    return Option(
        name,
        ast.unparse(node.annotation),
        default,
        metadata.get("help", "").replace("%%", "%"),  # argparse's escape
        "TrainingArguments",
        choices=tuple(metadata.get("choices", ())),
        bare="const" in metadata,
    )


def _literal(node: ast.expr | None, otherwise: Any) -> Any:
    try:
        return otherwise if node is None else ast.literal_eval(node)
    except ValueError:
        return otherwise


@functools.cache
def _source(file: str) -> str:
    """Source of a module of transformers, without importing it: the spec of a top-level package is found, not run."""
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        raise OptionError(
            "transformers is not installed here. Install speechtune with its dependencies: pip install speechtune"
        )
    return Path(spec.origin).with_name(file).read_text(encoding="utf-8")


@functools.cache
def _read_annotation(annotation: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """Kinds and words that an annotation allows."""
    return _read(ast.parse(annotation, mode="eval").body)


def _read(node: ast.expr) -> tuple[frozenset[str], tuple[str, ...]]:
    if isinstance(node, ast.BinOp):
        return _join([node.left, node.right])
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return frozenset(), (node.value,)
        return frozenset({"none" if node.value is None else "false"}), ()
    if isinstance(node, ast.Subscript):
        head = ast.unparse(node.value).rpartition(".")[2].lower()
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if head in ("dict", "mapping"):
            return frozenset({"dict"}), ()
        if head in ("list", "tuple"):
            return frozenset({"list"}), _join(part for part in parts if isinstance(part, ast.Subscript))[1]
        kinds, words = _join(parts)  # Literal, Union, Optional
        return kinds | ({"none"} if head == "optional" else set()), words
    name = ast.unparse(node).rpartition(".")[2]
    if name in _SIMPLE:
        return frozenset({name}), ()
    return frozenset({"dict" if name == "ParallelismConfig" else "str"}), _enum_values(name)


def _join(nodes: Iterable[ast.expr]) -> tuple[frozenset[str], tuple[str, ...]]:
    read = [_read(node) for node in nodes]
    return frozenset().union(*(kinds for kinds, _ in read)), tuple(word for _, words in read for word in words)


def _enum_values(name: str) -> tuple[str, ...]:
    """Values of transformers' enumeration `name`, such as IntervalStrategy; empty for any other class."""
    for file in ("trainer_utils.py", "training_args.py"):
        match = re.search(rf"^class {name}\(ExplicitEnum\):.*?(?=^\S|\Z)", _source(file), re.MULTILINE | re.DOTALL)
        if match is not None:
            return tuple(re.findall(r'^    [A-Z0-9_]+ = "(.*?)"', match.group(), re.MULTILINE))
    return ()
