"""Rows out of text tables, whatever is in them: TSV without quoting, CSV, JSON lines.

A line that is not UTF-8, holds a NUL, is endless, has too few fields or is no JSON becomes a `BadRow` with its line
number; its neighbours are not touched. In CSV a quote that is never closed costs its own line, not the whole rest.
"""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechtune.corpora.layout import BadRow
from speechtune.errors import CorpusError

__all__ = ["count_lines", "csv_rows", "header_of", "json_rows", "numbered_lines", "tsv_rows"]

MAX_LINE_BYTES = 1 << 20
MAX_QUOTED_LINES = 200  # a quoted CSV field that spans more is taken for a quote that is never closed

Fields = dict[str, str]


def count_lines(path: Path) -> int:
    """Lines in a file: about 1 GB/s. 0 where it can't be read; the reader will say why."""
    try:
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except OSError:
        return 0


def numbered_lines(path: Path) -> Iterator[tuple[int, str | BadRow]]:
    """(line number from 1, text without its end) of a UTF-8 file; empty lines are skipped.

    Raises:
        CorpusError: the file can't be opened, or is UTF-16.
    """
    try:
        with path.open("rb") as file:
            for number, line in _raw_lines(file, path):
                if text := _decoded(line, f"{path.name}:{number}"):
                    yield number, text
    except OSError as error:
        raise CorpusError(f"{path}: can't be read: {error.strerror or error}.") from error


def _raw_lines(file: Any, path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        if number == 1:
            if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise CorpusError(f"{path}: this is UTF-16 text.\nSave it as UTF-8.")
            line = line.removeprefix(b"\xef\xbb\xbf")
        yield number, line
        while len(line) >= MAX_LINE_BYTES and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE_BYTES)  # the rest of an endless line


def _decoded(line: bytes, where: str) -> str | BadRow:
    if len(line) >= MAX_LINE_BYTES:
        return BadRow(where, f"a line of more than {MAX_LINE_BYTES} bytes")
    if b"\x00" in line:
        return BadRow(where, "a NUL byte")
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        return BadRow(where, f"not UTF-8 at byte {error.start}")


def header_of(path: Path, delimiter: str | None = "\t") -> list[str]:
    """Column names in the first line; with delimiter None, the likeliest of comma, tab, semicolon and bar splits it.

    Raises:
        CorpusError: the file is empty, can't be read, or its first line is no text.
    """
    for _, line in numbered_lines(path):
        if isinstance(line, BadRow):
            raise CorpusError(f"{path}: the first line is no header: {line.detail}.")
        if delimiter is None:
            return next(csv.reader([line], delimiter=likely_delimiter(line)))
        return line.split(delimiter)
    raise CorpusError(f"{path}: the file is empty.")


def likely_delimiter(header: str) -> str:
    """Spreadsheets of many countries write ';' into .csv files."""
    return max(",\t;|", key=header.count)


def tsv_rows(path: Path, columns: list[str] | None = None) -> Iterator[tuple[int, Fields | BadRow]]:
    """Rows of a tab-separated file in which quotes mean nothing.

    Args:
        path: the file.
        columns: names where the file has no header line; None reads them from its first line.

    Raises:
        CorpusError: see `numbered_lines`.
    """
    lines = numbered_lines(path)
    if columns is None:
        columns = header_of(path)
        next(lines)
    for number, line in lines:
        if isinstance(line, BadRow):
            yield number, line
            continue
        fields = line.split("\t")
        if len(fields) != len(columns):
            yield number, BadRow(f"{path.name}:{number}", f"{len(fields)} fields, the header has {len(columns)}")
        else:
            yield number, dict(zip(columns, fields, strict=True))


def csv_rows(path: Path, delimiter: str | None = None) -> Iterator[tuple[int, Fields | BadRow]]:
    """Rows of a CSV file with a header line; quoted fields may hold delimiters and line ends.

    Raises:
        CorpusError: see `numbered_lines`.
    """
    lines = _Pushback(numbered_lines(path))
    columns: list[str] = []
    for number, line in lines:
        if isinstance(line, BadRow):
            if not columns:
                raise CorpusError(f"{path}: the first line is no header: {line.detail}.")
            yield number, line
            continue
        if not columns:
            delimiter = delimiter or likely_delimiter(line)
        where = f"{path.name}:{number}"
        fields = _record(lines, number, line, delimiter or ",")
        if isinstance(fields, str):
            yield number, BadRow(where, fields)
        elif not columns:
            columns = [name.strip() for name in fields]
        elif len(fields) != len(columns):
            yield number, BadRow(where, f"{len(fields)} fields, the header has {len(columns)}")
        else:
            yield number, dict(zip(columns, fields, strict=True))


class _Pushback:
    """Lines that can be given back."""

    def __init__(self, lines: Iterator[tuple[int, str | BadRow]]) -> None:
        self._lines = lines
        self._returned: deque[tuple[int, str | BadRow]] = deque()

    def __iter__(self) -> _Pushback:
        return self

    def __next__(self) -> tuple[int, str | BadRow]:
        return self._returned.popleft() if self._returned else next(self._lines)

    def give_back(self, lines: list[tuple[int, str | BadRow]]) -> None:
        self._returned.extendleft(reversed(lines))


def _record(lines: _Pushback, number: int, line: str, delimiter: str) -> list[str] | str:
    """Fields of the record that begins with `line`, taking further lines where a quote is open; or what is wrong."""
    if '"' not in line:
        return line.split(delimiter)
    taken: list[tuple[int, str | BadRow]] = []
    unclosed = False

    def record_lines() -> Iterator[str]:
        nonlocal unclosed
        yield line + "\n"
        while len(taken) < MAX_QUOTED_LINES:
            further = next(lines, None)
            if further is None:
                break
            taken.append(further)
            if isinstance(further[1], BadRow):
                break
            yield further[1] + "\n"
        unclosed = True  # the reader asked for more than there was

    try:
        fields = next(csv.reader(record_lines(), delimiter=delimiter))
    except (csv.Error, StopIteration) as error:
        fields, problem = [], str(error) or "no fields"
    else:
        problem = "a quote that is never closed" if unclosed else ""
    if problem:
        lines.give_back(taken)
        return problem
    return fields


def json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    """Objects of a JSON lines file, or of a .json file that holds one list of objects.

    Raises:
        CorpusError: see `numbered_lines`.
    """
    if path.suffix == ".json" and _starts_with_list(path):
        yield from enumerate(_json_list(path), 1)
        return
    for number, line in numbered_lines(path):
        yield number, line if isinstance(line, BadRow) else _json_object(line, f"{path.name}:{number}")


def _json_object(line: str, where: str) -> dict[str, Any] | BadRow:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadRow(where, f"no JSON: {error}"[:200])
    return value if isinstance(value, dict) else BadRow(where, f"a JSON {type(value).__name__}, not an object")


def _starts_with_list(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    except OSError:
        return False


def _json_list(path: Path) -> Iterator[dict[str, Any] | BadRow]:
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError, OSError) as error:
        raise CorpusError(f"{path}: can't be read as JSON: {error}.") from error
    for number, value in enumerate(values, 1):
        bad = BadRow(f"{path.name}:{number}", f"a JSON {type(value).__name__}, not an object")
        yield value if isinstance(value, dict) else bad
