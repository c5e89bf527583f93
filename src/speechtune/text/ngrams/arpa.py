"""Read and write ARPA files of n-gram models, plain or .gz, as SRILM and KenLM write them.

    \\data\\
    ngram 1=5

    \\1-grams:
    -0.46943	a	-0.30103
"""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from speechtune.errors import ModelError, OutputError
from speechtune.files import explain_write_errors
from speechtune.text.ngrams.estimate import Ngrams, Order

__all__ = ["read_arpa", "write_arpa"]

KENLM = b"mmap lm "
LINES = 100_000  # written at a time


def read_arpa(path: Path) -> Ngrams:
    """Read a model.

    Raises:
        ModelError: there is no such file, or it is no ARPA file; with the line.
    """
    try:
        with _opened(path) as file:
            return _read(file, path)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file.\nGive an ARPA file; `speechtune lm build` makes one.") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: can't be read as an ARPA file: {error}.") from error


def _opened(path: Path) -> IO[str]:
    with path.open("rb") as file:
        start = file.read(len(KENLM))
    if start == KENLM:
        raise ModelError(f"{path}: a binary file of KenLM, which is not read.\nGive the ARPA file that it was made of.")
    zipped = start[:2] == b"\x1f\x8b"
    return gzip.open(path, "rt", encoding="utf-8") if zipped else path.open(encoding="utf-8")


def _read(file: IO[str], path: Path) -> Ngrams:
    sizes: list[int] = []
    ids: dict[str, int] = {}
    orders: list[Order] = []
    number, order = 0, 0
    values: tuple[list[int], list[float], list[float]] = ([], [], [])
    try:
        for line in file:
            number += 1
            line = line.rstrip("\r\n")
            if not line:
                continue
            if line.startswith("\\"):
                if order:
                    orders.append(_order(*values, order))
                    values = ([], [], [])
                if line.strip() == "\\end\\":
                    break
                order = int(heading[1]) if (heading := re.match(r"\\(\d+)-grams:", line)) else 0
            elif order:
                fields = line.replace("\t", " ").split(" ")  # other white space may be part of a word
                fields = [field for field in fields if field] if "" in fields else fields
                values[1].append(float(fields[0]))
                values[2].append(float(fields[order + 1]) if len(fields) > order + 1 else 0.0)
                if order == 1:
                    values[0].append(ids.setdefault(fields[1], len(ids)))
                else:
                    values[0].extend([ids[word] for word in fields[1 : order + 1]])
            elif size := re.match(r"ngram\s+\d+\s*=\s*(\d+)", line):
                sizes.append(int(size[1]))
        else:
            raise ValueError("the file ends before \\end\\")
        if not sizes or [len(part.rows) for part in orders] != sizes or len(ids) != sizes[0]:
            raise ValueError(f"{[len(part.rows) for part in orders]} n-grams instead of {sizes}")
    except KeyError as error:
        raise ModelError(f"{path}, line {number}: the word {error} has no unigram.") from None
    except (ValueError, IndexError) as error:
        raise ModelError(f"{path}, line {number}: no ARPA file: {error}.") from None
    return Ngrams(list(ids), orders)


def _order(rows: list[int], log10: list[float], backoff: list[float], order: int) -> Order:
    return Order(np.array(rows, np.int32).reshape(-1, order), np.array(log10), np.array(backoff))


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
