"""Options from a YAML or JSON file: what was given, with file and line for messages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechtune.errors import OptionError
from speechtune.options.option import Option
from speechtune.options.words import Given, nearest, nearest_option

if TYPE_CHECKING:
    import yaml

__all__ = ["check_json_file", "read_options_file"]

MAX_BYTES = 1_000_000
MAX_VALUES = 100_000  # of a YAML file, aliases expanded: 8 levels of them can mean a billion values


def read_options_file(path: Path, table: Mapping[str, Option]) -> tuple[list[Given], dict[str, Any], list[str]]:
    """Read a file whose keys are option names.

    Returns:
        What was given; the block `recipe:`, which is not options but describes them; and the mistakes.

    Raises:
        OptionError: the file is missing or can't be read as YAML or JSON.
    """
    text = _read_text(path, "file of options")
    given: dict[str, Given] = {}
    info: dict[str, Any] = {}
    mistakes: list[str] = []
    try:
        entries = list(_json_entries(path, text) if path.suffix == ".json" else _yaml_entries(path, text))
    except RecursionError:
        raise OptionError(
            f"{path}: can't be read as a file of options: nested too deeply, or aliases of aliases"
        ) from None
    for key, raw, line in entries:
        name = key.lstrip("-").replace("-", "_")
        where = f"{path}, line {line}: {key}"
        if name == "recipe" and isinstance(raw, dict):
            info = raw
        elif name not in table:
            mistakes.append(f"{where}: no such option. {nearest_option(name, table, prefix='')}")
        elif name in given:
            mistakes.append(f"{where} is given twice")
        else:
            given[name] = Given(name, raw, where)
    return list(given.values()), info, mistakes


def check_json_file(path: Path, option: Option) -> None:
    """Check the file of a JSON object that an option names.

    Raises:
        ValueError: it is missing, no JSON object, or a number in it is out of range; "..., found '{path}' (...)".
    """
    try:
        if not path.exists():
            raise ValueError("no such file")
        value = json.loads(_read_text(path, "file"))
        if not isinstance(value, dict):
            raise ValueError("it holds no JSON object")
        option.check(value)
    except (OptionError, ValueError, RecursionError) as error:
        raise ValueError(f"expected {option.expected}, found '{path}' ({error})") from None


def _read_text(path: Path, what: str) -> str:
    try:
        if path.exists() and not path.is_file():  # reading a FIFO would wait for ever
            raise OSError("not a regular file")
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise OSError(f"over {MAX_BYTES:,} bytes")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        beside = sorted(p.name for p in path.parent.glob(f"*{path.suffix}")) if path.parent.is_dir() else []
        hint = nearest(path.name, beside) or f"There is no {path.suffix} file in {path.parent}."
        raise OptionError(f"{path}: no such {what}. {hint}") from None
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a path with a null character
        raise OptionError(f"{path}: can't be read as a {what}: {error}") from None


def _json_entries(path: Path, text: str) -> Iterator[tuple[str, Any, int]]:
    try:
        pairs = json.loads(text, object_pairs_hook=tuple, parse_int=_int)  # a key given twice is kept twice
    except json.JSONDecodeError as error:
        raise OptionError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from None
    if not isinstance(pairs, tuple):
        raise OptionError(f'{path}: expected an object of options, like {{"learning_rate": 3e-4}}')
    for key, value in pairs:
        match = re.search(rf"{re.escape(json.dumps(key, ensure_ascii=False))}\s*:", text)
        yield key, _plain(value), text.count("\n", 0, match.start()) + 1 if match else 1


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return {key: _plain(inner) for key, inner in value}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _int(digits: str) -> float:
    return int(digits) if len(digits) < 100 else float(digits)  # Python refuses integers of over 4,300 digits


def _yaml_entries(path: Path, text: str) -> Iterator[tuple[str, Any, int]]:
    """Scalars stay as they are written: YAML would read `no` as False and `3e-4` as text."""
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
    left = iter(range(MAX_VALUES))
    for key, node in root.value:
        yield str(key.value), _yaml_value(node, left, nested=False), key.start_mark.line + 1


def _yaml_value(node: yaml.Node, left: Iterator[int], *, nested: bool) -> Any:
    import yaml

    if next(left, None) is None:
        raise RecursionError  # aliases of aliases
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _yaml_value(value, left, nested=True) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_yaml_value(item, left, nested=nested) for item in node.value]
    assert isinstance(node, yaml.ScalarNode)
    if node.style is None and node.value in ("", "~", "null"):
        return None
    if nested and node.style is None:  # no option's annotation tells the type of a number within a mapping
        try:
            return json.loads(node.value, parse_int=_int)
        except json.JSONDecodeError:
            return node.value
    return node.value
