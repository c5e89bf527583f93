"""One option: its type, range and help, and the conversion of what a user wrote into a typed value.

The type is the annotation of a dataclass field, of our `Settings` or of `TrainingArguments`, as text.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from speechtune.options.table import Command, Settings

__all__ = ["Option", "own_options"]

_SWITCH_WORDS = {
    **dict.fromkeys(("true", "t", "yes", "y", "1", "on"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0", "off"), False),
}
_KINDS = {name: name for name in ("bool", "int", "float", "str", "list", "dict")} | {
    **{"tuple": "list", "Mapping": "dict", "ParallelismConfig": "dict", "None": "none", "False": "false"}
}
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # lone surrogates: bytes that are not UTF-8, "\\ud800" in JSON
_LIMITS = (-(10**12), 10**12)  # of numbers without a range of their own: none of them is infinite


class _ExplainedError(ValueError):
    """A mistake whose text says more than what was expected."""


@dataclass(frozen=True)
class Option:
    """What one option takes, and its help.

    Args:
        annotation: as in the source: "float | None", "dict[str, Any] | str | None".
        default: `...` where the source computes it.
        commands: names of the commands that take it.
        choices: the only words allowed; empty takes those of the annotation.
        only_for: the models or corpora it is for, see `table._option`; empty: all.
        bare: may be given without a value, which means True.
        limits: smallest and largest number; of a JSON object, of the numbers inside it.
        secret: its value is never shown.
    """

    name: str
    annotation: str
    default: Any = None
    help: str = ""
    group: str = ""
    commands: str = "train evaluate doctor vocab"
    only_for: str = ""
    choices: tuple[str, ...] = ()
    bare: bool = False
    limits: tuple[float, float] | None = None
    secret: bool = False

    def belongs_to(self, command: Command) -> bool:
        """Return whether `command` takes this option."""
        names = self.commands.split()
        also = {"plan": "train", "script": "train", "lm tune": "evaluate"}.get(command)
        return command in names or also in names

    @property
    def kinds(self) -> frozenset[str]:
        """What a value may be: some of bool, int, float, str, dict, list, none, and false (False, but not True)."""
        return _read_annotation(self.annotation)[0]

    @property
    def words(self) -> tuple[str, ...]:
        """The only words allowed; empty where any word is, or none."""
        return self.choices or _read_annotation(self.annotation)[1]

    @property
    def takes_many(self) -> bool:
        return "list" in self.kinds

    @property
    def is_switch(self) -> bool:
        """Return whether it may be given without a value."""
        return "bool" in self.kinds or self.bare

    @property
    def takes_numbers(self) -> bool:
        """Return whether the items of its list are numbers."""
        return self.takes_many and "[float" in self.annotation

    @property
    def is_number(self) -> bool:
        return bool({"int", "float"} & self.kinds)

    @property
    def takes_path(self) -> bool:
        """Return whether the path of a JSON file may stand in for a JSON object."""
        return {"dict", "str"} <= self.kinds and not self.name.endswith("_kwargs")

    @property
    def expected(self) -> str:
        """What the option takes, in words: "a number from 0 to 1"."""
        parts = ["true or false"] if self.is_switch else []
        if self.is_number:
            parts.append("a whole number" if "int" in self.kinds else "a number")
            parts[-1] += _from_to(*self.limits) if self.limits else ""
        if self.words:
            parts.append(("one of " if len(self.words) > 1 else "") + ", ".join(self.words))
        elif {"str", "list"} & self.kinds and "dict" not in self.kinds:
            items = "numbers" + (_from_to(*self.limits) if self.limits else "") if self.takes_numbers else "words"
            parts.append(f"one or more {items}" if self.takes_many else "a word")
        if "dict" in self.kinds:
            numbers = f" with numbers{_from_to(*self.limits)}" if self.limits else ""
            parts.append(
                f'a JSON object such as {{"key": 1}}{numbers}' + (" or a file's path" if self.takes_path else "")
            )
        return " or ".join(parts)

    def convert(self, raw: Any) -> Any:
        """Return the typed value of `raw`: a word, a list of words, or a value of a JSON file.

        Raises:
            ValueError: "expected ..., found ...", to be put behind the option's name.
        """
        try:
            value = self._convert(raw)
            self.check(value)
        except (ValueError, TypeError, RecursionError) as error:
            if self.secret:
                raise ValueError(f"expected {self.expected}") from None
            detail = f" ({error})" if isinstance(error, (json.JSONDecodeError, _ExplainedError)) else ""
            found = repr(" ".join(map(str, raw)) if isinstance(raw, list) else raw)
            found = found if len(found) <= 100 else f"{found[:97]}..."
            raise ValueError(f"expected {self.expected}, found {found}{detail}") from None
        return tuple(value) if isinstance(value, list) and "tuple" in self.annotation else value

    def check(self, value: Any, name: str = "") -> None:
        """Check the numbers and texts of a value, also within objects and lists.

        Raises:
            ValueError: a number is out of range or not finite, or a text can't be written as UTF-8.
        """
        if isinstance(value, Mapping):
            for key, inner in value.items():
                self.check(key)
                self.check(inner, str(key))
        elif isinstance(value, (list, tuple)):
            for inner in value:
                self.check(inner, name)
        elif isinstance(value, str) and _NO_TEXT.search(value):
            raise _ExplainedError("a character of it is no text in UTF-8")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            low, high = self.limits or _LIMITS
            if not low <= value <= high:
                raise _ExplainedError(f"{name} is {str(value)[:20]}") if name else ValueError

    def _convert(self, raw: Any) -> Any:
        if raw is None:
            return None if "none" in self.kinds else _fail()
        if isinstance(raw, list):
            many = [self._item(_as_text(item)) for item in raw if item != ""] if self.takes_many else _fail()
            return many[0] if len(many) == 1 and "str" in self.kinds else many
        if isinstance(raw, dict):
            return raw if "dict" in self.kinds else _fail()
        if isinstance(raw, bool):
            return raw if self.is_switch or (raw is False and "false" in self.kinds) else _fail()
        return self._from_text(_as_text(raw))

    def _from_text(self, text: str) -> Any:
        lower = text.strip().lower()
        if text in self.words:
            return [text] if self.takes_many and "str" not in self.kinds else text
        if self.is_switch and lower in (("true", "false") if "str" in self.kinds else _SWITCH_WORDS):
            return _SWITCH_WORDS[lower]
        if "false" in self.kinds and lower == "false":
            return False
        if "none" in self.kinds and "str" not in self.kinds and lower in ("none", "null"):
            return None
        if self.is_number:
            number = float(text)
            if "int" not in self.kinds:
                return number
            return int(text if text.strip().lstrip("+-").isdigit() else number) if number.is_integer() else _fail()
        if "dict" in self.kinds and (lower.startswith("{") or not self.takes_path):
            value = json.loads(text)
            return value if isinstance(value, dict) else _fail()
        if "str" in self.kinds:
            return self._word(text)
        return [self._item(text)] if self.takes_many else _fail()

    def _item(self, text: str) -> str | float:
        return float(text) if self.takes_numbers else self._word(text)

    def _word(self, text: str) -> str:
        return text if not self.words or text in self.words else _fail()


def _fail() -> NoReturn:
    raise ValueError


def _from_to(low: float, high: float) -> str:
    return f" from {low:,} to {high:,}"


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value) if isinstance(value, (int, float)) else _fail()


@functools.cache
def _read_annotation(annotation: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return kinds and words of an annotation: {float, none} and ("auto",) of "Literal['auto'] | float | None"."""
    words = tuple(re.findall(r"'([^']+)'", annotation))
    rest = re.sub(r"Literal\[(.*?)\]", lambda match: "False" if match[1] == "False" else "", annotation)
    rest = rest.replace("Optional[", "None | ").replace("Union[", "")
    rest = re.sub(r"\[.*?\]", "", rest)  # what a list or dict holds
    names = (name.rpartition(".")[2] for name in re.findall(r"[\w.]*\w", rest))
    return frozenset(_KINDS.get(name, "str") for name in names), words


@functools.cache
def own_options() -> dict[str, Option]:
    """Our options by name, in the order of `Settings`."""
    return {f.name: Option(f.name, str(f.type), f.default, **f.metadata) for f in fields(Settings)}
