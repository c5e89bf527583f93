"""Read and write ARPA files of n-gram models, plain or .gz, as SRILM and KenLM write them.

    \\data\\
    ngram 1=5

    \\1-grams:
    -0.46943	a	-0.30103
"""

from __future__ import annotations

import gzip
import io
import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from speechtune.errors import ModelError, OutputError
from speechtune.files import explain_write_errors
from speechtune.text.ngrams.estimate import Ngrams, Order

__all__ = ["read_arpa", "write_arpa"]

KENLM = b"mmap lm "
LINES = 100_000  # written at a time
BLOCK_BYTES = 1 << 22  # read at a time


def read_arpa(path: Path) -> Ngrams:
    """Read a model.

    Raises:
        ModelError: there is no such file, or it is no ARPA file; with the line.
    """
    reader = _Reader()
    try:
        with _opened(path) as file:
            rest = b""
            while not reader.is_done and (block := file.read(BLOCK_BYTES)):
                *lines, rest = (rest + block).split(b"\n")
                if len(rest) > BLOCK_BYTES:
                    raise ValueError("a line of millions of characters")
                reader.add(lines)
            reader.add([rest] if rest else [])
        return reader.finish()
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file.\nGive an ARPA file; `speechtune lm build` makes one.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ModelError(f"{path}: can't be read as an ARPA file: {error}.") from error
    except ValueError as error:
        raise ModelError(f"{path}, line {reader.number}: no ARPA file: {error}.") from None


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        start = file.read(len(KENLM))
    if start == KENLM:
        raise ModelError(
            f"{path}: a binary file of KenLM, which is not read, and from which no ARPA file can be made.\n"
            "Give the ARPA file that it was made of, or build one from the text: speechtune lm build TEXT -o lm.arpa.gz"
        )
    zipped = start[:2] == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path)) if zipped else path.open("rb")


class _Reader:
    """Reads an ARPA file in blocks of lines.

    The n-grams of a block are read at once, as one list of words and numbers, where all lines have tabs and single
    spaces as SRILM and KenLM write them; any other block line by line, which is ten times slower but names the line
    that is wrong.

    Attributes:
        number: of the line that was read last, from 1.
    """

    def __init__(self) -> None:
        self.number, self.order, self.is_done = 0, 0, False
        self._sizes: list[int] = []
        self._ids: dict[bytes, int] = {}
        self._words: list[str] = []
        self._orders: list[Order] = []
        self._parts: list[Order] = []  # blocks of the order that is being read

    def add(self, lines: list[bytes]) -> None:
        """Read the next lines.

        Raises:
            ValueError: one is wrong; its number is `number`.
        """
        at = 0
        while at < len(lines) and not self.is_done:
            end = at
            if self.order:
                end = next((i for i in range(at, len(lines)) if lines[i][:1] == b"\\"), len(lines))
                self._add_ngrams(lines[at:end])
            if end < len(lines):
                self._add_heading(lines[end])
            at = end + 1

    def finish(self) -> Ngrams:
        """Return the model."""
        if not self.is_done:
            raise ValueError("the file ends before \\end\\")
        found = [len(part.rows) for part in self._orders]
        if not self._sizes or found != self._sizes or len(self._words) != self._sizes[0]:
            raise ValueError(f"{found} n-grams instead of {self._sizes}")
        return Ngrams(self._words, self._orders)

    def _add_heading(self, line: bytes) -> None:
        self.number += 1
        line = line.strip()
        if not line.startswith(b"\\"):
            if size := re.match(rb"ngram\s+\d+\s*=\s*(\d+)", line):
                self._sizes.append(int(size[1]))
            return
        if self.order:
            columns = zip(*((part.rows, part.log10, part.backoff) for part in self._parts), strict=True)
            self._orders.append(Order(*map(np.concatenate, columns)) if self._parts else _empty(self.order))
            self._parts = []
        heading = re.match(rb"\\(\d{1,9})-grams:", line)
        self.is_done = line == b"\\end\\"
        self.order = int(heading[1]) if heading else 0
        if heading and self.order != len(self._orders) + 1:
            raise ValueError(f"{self.order}-grams follow {len(self._orders)}-grams")

    def _add_ngrams(self, lines: list[bytes]) -> None:
        try:
            self._parts.append(self._at_once(lines))
            self.number += len(lines)
        except (KeyError, ValueError):
            rows = [row for row in map(self._one, lines) if row is not None]
            if rows:
                ids, log10, backoff = zip(*rows, strict=True)
                self._parts.append(Order(np.array(ids, np.int32), np.array(log10), np.array(backoff)))

    def _at_once(self, lines: list[bytes]) -> Order:
        """Return the n-grams of lines in the usual form; ValueError or KeyError where one is not."""
        kept = [line for line in lines if line and line != b"\r"]
        tabs = [line.count(b"\t") for line in kept]
        if any(line.count(b" ") != self.order - 1 for line in kept) or not {1, 2}.issuperset(tabs):
            raise ValueError
        kept = [line if number == 2 else line + b"\t0" for line, number in zip(kept, tabs, strict=True)]
        width = self.order + 2
        fields = b"\n".join(kept).split()  # at ASCII white space only: a word may have another
        if len(fields) != width * len(kept):
            raise ValueError
        log10, backoff = (np.fromiter(map(float, fields[i::width]), np.float64, len(kept)) for i in (0, width - 1))
        if np.isnan(log10).any() or np.isnan(backoff).any():
            raise ValueError
        if self.order == 1:
            columns = [self._new_ids(fields[1::width])]
        else:
            number_of = self._ids.__getitem__
            columns = [np.fromiter(map(number_of, fields[i::width]), np.int32, len(kept)) for i in range(1, width - 1)]
        return Order(np.stack(columns, axis=1), log10, backoff)

    def _new_ids(self, words: list[bytes]) -> NDArray[np.int32]:
        decoded = [word.decode() for word in words]
        first = len(self._words)
        new = dict(zip(words, range(first, first + len(words)), strict=True))
        if len(new) != len(words) or not self._ids.keys().isdisjoint(new):
            raise ValueError
        self._ids |= new
        self._words += decoded
        return np.arange(first, first + len(words), dtype=np.int32)

    def _one(self, line: bytes) -> tuple[list[int], float, float] | None:
        """Return ids, probability and back-off of one line; None of an empty one."""
        self.number += 1
        fields = [field.decode() for field in line.rstrip(b"\r").replace(b"\t", b" ").split(b" ") if field]
        if not fields:
            return None
        if not 0 <= len(fields) - self.order - 1 <= 1:
            raise ValueError(f"expected a probability and {self.order} words, found {len(fields)} fields")
        log10, backoff = float(fields[0]), float(fields[self.order + 1]) if len(fields) > self.order + 1 else 0.0
        if math.isnan(log10) or math.isnan(backoff):
            raise ValueError("a probability is not a number")
        words = [field.encode() for field in fields[1 : self.order + 1]]
        if self.order == 1:
            return self._new_ids_or_say(words), log10, backoff
        try:
            return [self._ids[word] for word in words], log10, backoff
        except KeyError as error:
            raise ValueError(f"the word {error.args[0].decode()!r} has no unigram") from None

    def _new_ids_or_say(self, words: list[bytes]) -> list[int]:
        try:
            return [int(i) for i in self._new_ids(words)]
        except ValueError:
            raise ValueError(f"the word {words[0].decode()!r} has two unigrams") from None


def _empty(order: int) -> Order:
    return Order(np.zeros((0, order), np.int32), np.zeros(0), np.zeros(0))


def write_arpa(ngrams: Ngrams, path: Path) -> None:
    """Write a model, zipped where the name ends in .gz; complete or not at all.

    Raises:
        OutputError: it can't be written.
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a folder.\nGive the name of a file, such as lm.arpa.")
    aside = path.with_name(f".{path.name}.part")
    try:
        with explain_write_errors("the language model", path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _writing(aside, zipped=path.suffix == ".gz") as file:
                for text in _texts(ngrams):
                    file.write(text)
            aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path, *, zipped: bool) -> Iterator[IO[str]]:
    """Open a text file; a zipped one has no time or name in it, so equal models are equal files."""
    with path.open("wb") as file:
        if not zipped:
            with io.TextIOWrapper(file, encoding="utf-8", newline="\n") as text:
                yield text
            return
        with (
            gzip.GzipFile("", "wb", compresslevel=3, fileobj=file, mtime=0) as packed,
            io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text,
        ):
            yield text


def _texts(ngrams: Ngrams) -> Iterator[str]:
    sizes = [f"ngram {n}={len(part.rows)}\n" for n, part in enumerate(ngrams.orders, start=1)]
    yield "\\data\\\n" + "".join(sizes)
    words = np.array(ngrams.words, dtype=object)
    for n, part in enumerate(ngrams.orders, start=1):
        yield f"\n\\{n}-grams:\n"
        last = n == len(ngrams.orders)
        for start in range(0, len(part.rows), LINES):
            here = slice(start, start + LINES)
            grams = map(" ".join, words[part.rows[here]].tolist())
            rows = zip(part.log10[here].tolist(), grams, part.backoff[here].tolist(), strict=True)
            lines = [f"{p:.7g}\t{gram}\n" if last else f"{p:.7g}\t{gram}\t{b:.7g}\n" for p, gram, b in rows]
            yield "".join(lines)
    yield "\n\\end\\\n"
