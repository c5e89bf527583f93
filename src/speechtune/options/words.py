"""A command line, or a YAML or JSON file of options, split into what was given for which option.

Nothing is converted here but the shape (one word, several words, a switch that stands alone): see `options.Option`.
Mistakes are gathered, not raised one by one, so that one message can name them all.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechtune.errors import OptionError

if TYPE_CHECKING:
    import yaml

    from speechtune.options.option import Option

__all__ = ["Given", "Words", "nearest", "read_options_file", "split_words"]


@dataclass(frozen=True)
class Given:
    """An option and what was given for it. `raw` is a word, a list of words, True, or what a file holds."""

    name: str
    raw: Any
    where: str  # what a message about it starts with: "--layerdrop", or "recipe.yaml, line 3: layerdrop"


@dataclass
class Words:
    """A command line taken apart. `mistakes` are lines for the user."""

    given: list[Given] = field(default_factory=list)
    positionals: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)


def split_words(argv: Sequence[str], table: Mapping[str, Option]) -> Words:
    """Assign the words of a command line to options.

    `--name value`, `--name=value`, `--name` alone for a switch, several words for a list, up to the next word that
    starts with `--` and a letter (so `-`, `--` and `-1` are words). `-` and `_` within a name are the same. A switch
    takes the next word if it is not an option; `--no_name` turns it off.
    """
    words = Words()
    index = 0
    while index < len(argv):
        word = argv[index]
        index += 1
        if not _is_option(word) and not re.match(r"-[A-Za-z]", word):
            words.positionals.append(word)
            continue
        head, equals, text = word.lstrip("-").partition("=")
        name = head.replace("-", "_")
        values = [text] if equals else []
        if not equals:
            limit = index + _most_words(table.get(name))
            while index < min(limit, len(argv)) and not _is_option(argv[index]):
                values.append(argv[index])
                index += 1
        _assign(name, values, table, words, word=word.partition("=")[0])
    return words


def _is_option(word: str) -> bool:
    return re.match(r"--[^\W\d_]", word) is not None


def _most_words(option: Option | None) -> int:
    return 1 if option is not None and not option.takes_many else 1_000_000  # an unknown option's words go with it


def _assign(name: str, values: list[str], table: Mapping[str, Option], words: Words, *, word: str) -> None:
    option = table.get(name)
    switch = table.get(name.removeprefix("no_"))
    if option is None and name.startswith("no_") and switch is not None and switch.is_switch:
        if values:
            words.mistakes.append(f"{word} takes no value, found {values[0]!r}")
        words.given.append(Given(switch.name, False, word))
    elif option is None or not word.startswith("--"):
        words.mistakes.append(f"{word}: no such option. {nearest(name, _todays(table), prefix='--')}")
    elif values:
        words.given.append(Given(name, values if option.takes_many else values[0], word))
    elif option.is_switch:
        words.given.append(Given(name, True, word))
    else:
        words.mistakes.append(f"{word} needs a value: {option.expected}")


def _todays(table: Mapping[str, Option]) -> list[str]:
    return [name for name, option in table.items() if option.group != "old"]


def nearest(name: str, names: Iterable[str], *, prefix: str = "") -> str:
    """A line that names what is most like `name`: "Nearest: --learning_rate". Initials count: `lr`."""
    known = list(names)
    name = name.lower()
    found = [other for other in known if "_" in other and name == "".join(part[:1] for part in other.split("_"))]
    found += difflib.get_close_matches(name, known, n=3, cutoff=0.7)
    found += [other for other in known if len(name) >= 4 and name in other][:2]
    found = found or difflib.get_close_matches(name, known, n=1, cutoff=0)
    return "Nearest: " + ", ".join(prefix + other for other in dict.fromkeys(found)) if found else ""


def read_options_file(path: Path, table: Mapping[str, Option]) -> tuple[list[Given], dict[str, Any], list[str]]:
    """Options of a YAML or JSON file: its keys are option names.

    Returns:
        What was given; the block `recipe:`, which is not options but says what to expect of them; and the mistakes.

    Raises:
        OptionError: the file is not there or can't be read as YAML or JSON.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        beside = sorted(p.name for p in path.parent.glob(f"*{path.suffix}")) if path.parent.is_dir() else []
        hint = nearest(path.name, beside) or f"There is no {path.suffix} file in {path.parent}."
        raise OptionError(f"{path}: no such file of options. {hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{path}: can't be read as a file of options: {error}") from None
    try:
        entries = list(_json_entries(path, text) if path.suffix == ".json" else _yaml_entries(path, text))
    except RecursionError:
        raise OptionError(f"{path}: can't be read as a file of options: nested too deeply") from None
    given: dict[str, Given] = {}
    info: dict[str, Any] = {}
    mistakes: list[str] = []
    for key, raw, line in entries:
        name = key.lstrip("-").replace("-", "_")
        where = f"{path}, line {line}: {key}"
        if name == "recipe" and isinstance(raw, dict):
            info = raw
        elif name not in table:
            mistakes.append(f"{where}: no such option. {nearest(name, _todays(table))}")
        elif name in given:
            mistakes.append(f"{where} is given twice")
        else:
            given[name] = Given(name, raw, where)
    return list(given.values()), info, mistakes


def _json_entries(path: Path, text: str) -> Iterator[tuple[str, Any, int]]:
    try:
        pairs = json.loads(text, object_pairs_hook=_Pairs)
    except json.JSONDecodeError as error:
        raise OptionError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from None
    if not isinstance(pairs, _Pairs):
        raise OptionError(f'{path}: expected an object of options, like {{"learning_rate": 3e-4}}')
    for key, value in pairs:
        match = re.search(rf"{re.escape(json.dumps(key, ensure_ascii=False))}\s*:", text)
        yield key, _plain(value), text.count("\n", 0, match.start()) + 1 if match else 1


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its keys in order, one given twice kept."""


def _plain(value: Any) -> Any:
    if isinstance(value, _Pairs):
        return {key: _plain(inner) for key, inner in value}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _yaml_entries(path: Path, text: str) -> Iterator[tuple[str, Any, int]]:
    """Scalars stay the words that stand in the file: YAML would read `no` as False and `3e-4` as text."""
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise OptionError(f"{path}{line}: not YAML: {getattr(error, 'problem', None) or error}") from None
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        raise OptionError(f"{path}: expected options, one a line, like\nlearning_rate: 3e-4")
    for key, value in root.value:
        yield str(key.value), _yaml_value(value, nested=False), key.start_mark.line + 1


def _yaml_value(node: yaml.Node, *, nested: bool) -> Any:
    import yaml

    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _yaml_value(value, nested=True) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_yaml_value(item, nested=nested) for item in node.value]
    assert isinstance(node, yaml.ScalarNode)
    if node.style is None and node.value in ("", "~", "null"):
        return None
    if nested and node.style is None:  # no option's annotation says what a number within a mapping is
        try:
            return json.loads(node.value)
        except json.JSONDecodeError:
            return node.value
    return node.value
