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
from typing import IO, Any, cast

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
                whole, _, rest = (rest + block).rpartition(b"\n")
                if len(rest) > BLOCK_BYTES:
                    raise ValueError("a line of millions of characters")
                reader.add(whole)
            reader.add(rest)
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

    The n-grams of a block are read at once, by pyarrow, where all lines have tabs and single spaces as SRILM and KenLM
    write them; any other block line by line, which is slower but names the line that is wrong.

    Attributes:
        number: of the line that was read last, from 1.
    """

    def __init__(self) -> None:
        self.number, self.order, self.is_done = 0, 0, False
        self._sizes: list[int] = []
        self._ids: dict[str, int] = {}
        self._words: Any = None  # the same for pyarrow, once all are known
        self._orders: list[Order] = []
        self._parts: list[Order] = []  # blocks of the order that is being read

    def add(self, block: bytes) -> None:
        """Read the next lines, the last without its end.

        Raises:
            ValueError: one is wrong; its number is `number`.
        """
        while block and not self.is_done:
            if not self.order or block.startswith(b"\\"):
                line, _, block = block.partition(b"\n")
                self._add_heading(line)
                continue
            end = block.find(b"\n\\")
            ngrams, block = (block, b"") if end < 0 else (block[:end], block[end + 1 :])
            self._add_ngrams(ngrams)

    def finish(self) -> Ngrams:
        """Return the model."""
        if not self.is_done:
            raise ValueError("the file ends before \\end\\")
        found = [len(part.rows) for part in self._orders]
        if not self._sizes or found != self._sizes:
            raise ValueError(f"{found} n-grams instead of {self._sizes}")
        return Ngrams(list(self._ids), self._orders)

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

    def _add_ngrams(self, block: bytes) -> None:
        try:
            self._parts.append(self._at_once(block))
            self.number += block.count(b"\n") + 1
        except ValueError:  # pyarrow's too
            rows = [row for row in map(self._one, block.split(b"\n")) if row is not None]
            if rows:
                ids, log10, backoff = zip(*rows, strict=True)
                self._parts.append(Order(np.array(ids, np.int32), np.array(log10), np.array(backoff)))

    def _at_once(self, block: bytes) -> Order:
        """Return the n-grams of lines in the usual form; ValueError where one is not."""
        import pyarrow as pa
        import pyarrow.compute as pc
        from pyarrow import csv

        if b"\n\n" in block or block.endswith(b"\n"):
            block = block.rstrip(b"\r\n")
        num_lines, num_tabs = block.count(b"\n") + 1, block.count(b"\t")
        if num_lines < num_tabs < 2 * num_lines:  # a back-off of 0 may be missing
            block = re.sub(rb"(?m)^([^\t\r\n]*\t[^\t\r\n]*)(\r?)$", rb"\1\t0\2", block)
        names = ["log10", "words", "backoff"][: 2 if num_tabs == num_lines else 3]
        table = csv.read_csv(
            pa.BufferReader(block),
            read_options=csv.ReadOptions(column_names=names, use_threads=False, block_size=len(block) + 1),
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(
                column_types={"log10": pa.float64(), "words": pa.string(), "backoff": pa.float64()}, null_values=[]
            ),
        )
        log10 = table["log10"].to_numpy()
        backoff = table["backoff"].to_numpy() if len(names) == 3 else np.zeros(len(log10))
        words = table["words"].combine_chunks()
        if np.isnan(log10).any() or np.isnan(backoff).any() or pc.any(pc.equal(words, "")).as_py():
            raise ValueError
        if self.order == 1:
            if pc.any(pc.match_substring(words, " ")).as_py():
                raise ValueError
            return Order(self._new_ids(words.to_pylist())[:, None], log10, backoff)
        parts = pc.split_pattern(words, " ")
        if not pc.all(pc.equal(pc.list_value_length(parts), self.order)).as_py():
            raise ValueError
        if self._words is None:
            self._words = pa.array(self._ids, pa.string())
        ids = pc.index_in(parts.flatten(), value_set=self._words)
        if ids.null_count:
            raise ValueError
        return Order(ids.to_numpy().reshape(-1, self.order), log10, backoff)

    def _new_ids(self, words: list[str]) -> NDArray[np.int32]:
        first = len(self._ids)
        new = dict(zip(words, range(first, first + len(words)), strict=True))
        if len(new) != len(words) or not self._ids.keys().isdisjoint(new):
            raise ValueError(f"the word {words[0]!r} has two unigrams")
        self._ids |= new
        return np.arange(first, first + len(words), dtype=np.int32)

    def _one(self, line: bytes) -> tuple[list[int], float, float] | None:
        """Return ids, probability and back-off of one line; None of an empty one."""
        self.number += 1
        fields = [field for field in line.decode().rstrip("\r").replace("\t", " ").split(" ") if field]
        if not fields:
            return None
        if not 0 <= len(fields) - self.order - 1 <= 1:
            raise ValueError(f"expected a probability and {self.order} words, found {len(fields)} fields")
        log10, backoff = float(fields[0]), float(fields[self.order + 1]) if len(fields) > self.order + 1 else 0.0
        if math.isnan(log10) or math.isnan(backoff):
            raise ValueError("a probability is not a number")
        words = fields[1 : self.order + 1]
        if self.order == 1:
            return self._new_ids(words).tolist(), log10, backoff
        unknown = next((word for word in words if word not in self._ids), None)
        if unknown is not None:
            raise ValueError(f"the word {unknown!r} has no unigram")
        return [self._ids[word] for word in words], log10, backoff


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
