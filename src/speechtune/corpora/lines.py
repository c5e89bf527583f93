"""Rows of text tables: TSV without quoting, CSV, JSON lines, JSON lists.

A line that is damaged (not UTF-8, a NUL, too long, a wrong number of fields, no JSON, a quote that is never closed)
becomes a `BadRow` with its line number; the lines around it are not affected. UTF-16 and Windows-1252 (Latin-1) tables
are read too, with one log line.
"""

from __future__ import annotations

import codecs
import csv
import functools
import io
import json
import logging
import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePath
from typing import IO, Any

from speechtune.corpora.cache import stamp
from speechtune.corpora.layout import BadRow
from speechtune.errors import CorpusError

__all__ = ["clip_rows", "csv_rows", "json_rows", "numbered_lines", "tsv_rows"]

log = logging.getLogger("speechtune")

MAX_LINE_BYTES = 1 << 20
MAX_QUOTED_LINES = 200  # a quoted CSV field that spans more is taken for a quote that is never closed

# Windows-1252 letters and signs of Western European languages. Not in it: the bytes that are other letters in Turkish
# (cp1254), Polish or Czech (cp1250) tables, and words of four such letters, as in Cyrillic or Greek ones.
_WESTERN = re.compile(
    rb"(?:[\x00-\x7f\x80\x82\x84\x85\x8c\x91-\x97\x9c\xa0\xa1\xa3\xa7\xa9-\xab\xae\xb0\xb4\xb7\xba\xbb\xbf]"
    rb"|[\xc0-\xcf\xd1-\xd6\xd8-\xdc\xdf-\xef\xf1-\xf6\xf8-\xfc]{1,3}(?![\xc0-\xff]))*"
)

Fields = dict[str, str]


def numbered_lines(path: Path) -> Iterator[tuple[int, str | BadRow]]:
    """Yield (line number from 1, text without its end) of a table; empty lines are skipped.

    Raises:
        CorpusError: the file can't be opened, or is a pipe, device or folder.
    """
    file, encoding = _opened(path)
    with file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES):
            number += 1
            if text := _decoded(line, encoding, f"{path.name}:{number}"):
                yield number, text
            while len(line) >= MAX_LINE_BYTES and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE_BYTES)  # the rest of an endless line


def _decoded(line: bytes, encoding: str, where: str) -> str | BadRow:
    if len(line) >= MAX_LINE_BYTES:
        return BadRow(where, f"a line of more than {MAX_LINE_BYTES} bytes")
    if b"\x00" in line:
        return BadRow(where, "a NUL byte", text=line.decode(encoding, "replace"))
    try:
        return line.decode(encoding).rstrip("\r\n")
    except UnicodeDecodeError as error:
        return BadRow(where, f"not UTF-8 at byte {error.start}", text=line.decode(encoding, "replace"))


def _opened(path: Path) -> tuple[IO[bytes], str]:
    """Open a table after its byte-order mark; returns its encoding too. UTF-16 becomes UTF-8."""
    if path.exists() and not path.is_file():
        raise CorpusError(f"{path}: not a regular file but a folder, pipe or device.\nGive a table that is a file.")
    try:
        encoding = _encoding(path, str(stamp(path)))
        if encoding == "utf-16":
            return io.BytesIO(path.read_bytes().decode("utf-16", "replace").encode("utf-8", "replace")), "utf-8"
        file = path.open("rb")
        if file.read(3) != codecs.BOM_UTF8:
            file.seek(0)
        return file, encoding
    except OSError as error:
        raise CorpusError(f"{path}: can't be read: {error.strerror or error}.") from error


@functools.lru_cache(maxsize=64)
def _encoding(path: Path, stamp: str) -> str:
    """Return utf-8, utf-16 (by its byte-order mark) or cp1252; a text that is neither is taken as damaged UTF-8."""
    western = False
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            log.info("%s: read as UTF-16", path)
            return "utf-16"
        file.seek(0)
        while line := file.readline(MAX_LINE_BYTES):
            if line.isascii():
                continue
            if not _WESTERN.fullmatch(line) or _is_utf8(line):
                return "utf-8"
            western = True
    if western:
        log.warning("%s: not UTF-8; read as Windows-1252. If its letters come out wrong, save it as UTF-8", path)
    return "cp1252" if western else "utf-8"


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def tsv_rows(
    path: Path, columns: Sequence[str] | None = None, *, required: Sequence[str] = ()
) -> Iterator[tuple[int, Fields | BadRow]]:
    """Yield (line number, fields) of a tab-separated file in which quotes have no meaning.

    Args:
        path: the file.
        columns: names if the file has no header line; None reads them from its first line.
        required: columns of which one must be there.

    Raises:
        CorpusError: see `numbered_lines`; or the file is empty, its first line is no header, or lacks `required`.
    """
    lines = numbered_lines(path)
    if columns is None:
        _, header = next(lines, (0, ""))
        if not header:
            raise CorpusError(f"{path}: the file is empty.")
        columns = _header(path, header).split("\t")
    if required and not set(required) & set(columns):
        raise CorpusError(f"{path}: no column '{required[0]}'.\nColumns: {', '.join(columns)}.")
    for number, line in lines:
        yield number, line if isinstance(line, BadRow) else _row(path, number, line.split("\t"), columns, line)


def clip_rows(
    path: Path, *names: str, columns: Sequence[str] | None = None
) -> Iterator[tuple[str, str, Fields] | BadRow]:
    """Yield ("table.tsv:17", name of the clip, fields) of a TSV in which one of the columns `names` holds the clip.

    Raises:
        CorpusError: see `tsv_rows`.
    """
    for number, fields in tsv_rows(path, columns, required=names):
        if isinstance(fields, BadRow):
            yield fields
            continue
        name = next(fields[column] for column in names if column in fields)
        line = f"{path.name}:{number}"
        if not name or "/" in name or "\\" in name or name in (".", ".."):
            yield BadRow(line, f"not the name of a clip: {name[:100]!r}")
        else:
            yield line, name, fields


def _header(path: Path, line: str | BadRow) -> str:
    if isinstance(line, BadRow):
        raise CorpusError(f"{path}: the first line is no header: {line.detail}.")
    return line


def _row(path: Path, number: int, fields: list[str], columns: Sequence[str], line: str) -> Fields | BadRow:
    if len(fields) == len(columns):
        return dict(zip(columns, fields, strict=True))
    return BadRow(f"{path.name}:{number}", f"{len(fields)} fields, the header has {len(columns)}", text=line)


def csv_rows(path: Path, delimiter: str | None = None) -> Iterator[tuple[int, Fields | BadRow]]:
    """Yield (line number, fields) of a CSV file with a header; quoted fields may hold delimiters and line ends.

    Args:
        path: the file.
        delimiter: None takes the likeliest of comma, tab, semicolon (spreadsheets of many countries) and bar.

    Raises:
        CorpusError: see `numbered_lines`; or the first line is no header.
    """
    lines = numbered_lines(path)
    _, first = next(lines, (0, ""))
    if not first:
        return
    header = _header(path, first)
    delimiter = delimiter or max(",\t;|", key=header.count)
    try:
        columns = [name.strip() for name in next(csv.reader([header], delimiter=delimiter))]
    except csv.Error as error:
        raise CorpusError(f"{path}: the first line is no header: {error}.") from error
    ahead: deque[tuple[int, str | BadRow]] = deque()  # lines that were read while a quote was open
    while following := ahead.popleft() if ahead else next(lines, None):
        number, line = following
        if isinstance(line, BadRow):
            yield number, line
            continue
        try:
            fields = _record(line, ahead, lines, delimiter, len(columns)) if '"' in line else line.split(delimiter)
        except csv.Error as error:
            yield number, BadRow(f"{path.name}:{number}", str(error), text=line)
        else:
            yield number, _row(path, number, fields, columns, line)


def _record(
    line: str,
    ahead: deque[tuple[int, str | BadRow]],
    lines: Iterator[tuple[int, str | BadRow]],
    delimiter: str,
    num_columns: int,
) -> list[str]:
    """Return the fields of the record that starts with `line`, with further lines while a quote is open.

    Raises:
        csv.Error: the quote is never closed, or only by a quote of another row; the lines read are then in `ahead`.
    """
    fields = next(csv.reader([line + "\n"], delimiter=delimiter))
    if not fields[-1].endswith("\n"):  # no quote is open at the end of the line
        return fields
    record = [line + "\n"]
    for taken in range(MAX_QUOTED_LINES):
        if taken == len(ahead):
            ahead.extend(islice(lines, 1))
        text = ahead[taken][1] if taken < len(ahead) else None
        if not isinstance(text, str) or _is_next_row(text, fields, delimiter, num_columns):
            break
        record.append(text + "\n")
        if '"' not in text:
            continue
        try:
            fields = next(csv.reader(record, delimiter=delimiter, strict=True))
        except csv.Error as error:
            if "unexpected end" not in str(error):
                break  # text follows the closing quote: it was the opening quote of another row
        else:
            for _ in range(taken + 1):
                ahead.popleft()
            return fields
    raise csv.Error("a quote that is never closed")


def _is_next_row(text: str, fields: list[str], delimiter: str, num_columns: int) -> bool:
    """Whether a line inside an open quote is a row itself: as many fields, and a file name of the same kind."""
    own = text.split(delimiter)
    return len(own) == num_columns and any(
        PurePath(ours).suffix == PurePath(theirs).suffix != ""
        for ours, theirs in zip(own, fields[:-1], strict=False)  # the last one is open
    )


def json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    """Yield (line number, object) of a JSON lines file, or of a .json file that holds one list of objects.

    Raises:
        CorpusError: see `numbered_lines`; or the list is no JSON.
    """
    file, encoding = _opened(path)
    with file:
        if path.suffix.lower() == ".json" and file.read(64).lstrip().startswith(b"["):
            file.seek(0)
            try:
                values = json.loads(file.read().decode(encoding).lstrip("\ufeff"))
            except (ValueError, RecursionError) as error:
                raise CorpusError(f"{path}: can't be read as JSON: {error}.") from error
            for number, value in enumerate(values, 1):
                yield number, _json_object(value, f"{path.name}:{number}", "")
            return
    for number, line in numbered_lines(path):
        if isinstance(line, BadRow):
            yield number, line
            continue
        where = f"{path.name}:{number}"
        try:
            yield number, _json_object(json.loads(line), where, line)
        except (ValueError, RecursionError) as error:
            yield number, BadRow(where, f"no JSON: {error}"[:200], text=line)


def _json_object(value: Any, where: str, line: str) -> dict[str, Any] | BadRow:
    if isinstance(value, dict):
        return value
    return BadRow(where, f"a JSON {type(value).__name__}, not an object", text=line)
