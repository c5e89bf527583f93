"""A command line, split into what was given for which option. Nothing is converted yet: see `option.py`.

Mistakes are collected, not raised one by one, so that one message can name them all.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from speechtune.options.option import Option

__all__ = ["Given", "Words", "nearest", "nearest_option", "split_words"]


@dataclass(frozen=True)
class Given:
    """An option and what was given for it. `raw` is a word, a list of words, True, or what a file holds."""

    name: str
    raw: Any
    where: str  # how a message about it starts: "--layerdrop", or "recipe.yaml, line 3: layerdrop"


@dataclass
class Words:
    """The parts of a command line. `mistakes` are lines for the user."""

    given: list[Given] = field(default_factory=list)
    positionals: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)


def split_words(argv: Sequence[str], table: Mapping[str, Option]) -> Words:
    """Assign the words of a command line to options.

    `--name value`, `--name=value`, `--name` alone for a switch, several words for a list, up to the next word that
    starts with `--` and a letter (so `-`, `--` and `-1` are values). `-` and `_` within a name are the same. A switch
    takes the next word if it is not an option; `--no_name` turns it off.
    """
    words = Words()
    chunks: list[tuple[str, list[str]]] = [("", [])]
    for word in argv:
        if re.match(r"--[^\W\d_]", word):
            chunks.append((word, []))
        else:
            chunks[-1][1].append(word)
    _keep_positionals(chunks[0][1], table, words)
    for word, values in chunks[1:]:
        _assign(word, values, table, words)
    return words


def _keep_positionals(values: Sequence[str], table: Mapping[str, Option], words: Words) -> None:
    for value in values:
        if re.match(r"-[A-Za-z]", value):
            name = value.partition("=")[0]
            words.mistakes.append(f"{name}: no such option. {nearest_option(name, table)}")
            return  # what follows was meant for it
        words.positionals.append(value)


def _assign(word: str, values: list[str], table: Mapping[str, Option], words: Words) -> None:
    head, equals, text = word.partition("=")
    name = head[2:].replace("-", "_")
    values = [text, *values] if equals else values
    option, switch = table.get(name), table.get(name.removeprefix("no_"))
    if option is None and switch is not None and switch.is_switch:
        if values:
            words.mistakes.append(f"{head} takes no value" + ("" if switch.secret else f", found {values[0]!r}"))
        words.given.append(Given(switch.name, False, head))
    elif option is None:
        words.mistakes.append(f"{head}: no such option. {nearest_option(head, table)}")
    elif option.secret and len(values) > 1:  # the other words may be secret too
        words.mistakes.append(f"{head} takes one word, found {len(values)}")
    elif values and option.takes_many and not equals:
        words.given.append(Given(name, values, head))
    elif values:
        words.given.append(Given(name, [values[0]] if option.takes_many else values[0], head))
        _keep_positionals(values[1:], table, words)
    elif option.is_switch:
        words.given.append(Given(name, True, head))
    else:
        words.mistakes.append(f"{head} needs a value: {option.expected}")


def nearest_option(name: str, table: Mapping[str, Option], *, prefix: str = "--") -> str:
    """Return a line with the options most like `name`; old names are not offered."""
    today = [other for other, option in table.items() if option.group != "old"]
    return nearest(name.lstrip("-").replace("-", "_"), today, prefix=prefix)


def nearest(name: str, names: Iterable[str], *, prefix: str = "") -> str:
    """Return a line with the names most like `name`: "Nearest: --learning_rate". Initials count: `lr`."""
    known = list(names)
    name = name.lower()
    found = [other for other in known if "_" in other and name == "".join(part[:1] for part in other.split("_"))]
    found += difflib.get_close_matches(name, known, n=3, cutoff=0.7)
    found += [other for other in known if len(name) >= 4 and name in other][:2]
    found = found or difflib.get_close_matches(name, known, n=1, cutoff=0)
    return "Nearest: " + ", ".join(prefix + other for other in dict.fromkeys(found)) if found else ""
