"""N-grams of a text and how often each occurs, for a text larger than memory.

The text is read in chunks. The n-grams of a chunk are sorted by their last word, then the one before, and written to
disk; what is sorted so can be merged one range of last words at a time. This is the order in which a lower-order
n-gram is one run of rows (Heafield et al. 2013, "Scalable Modified Kneser-Ney Language Model Estimation", section 3).

Rejected: a dictionary of tuples, which takes about 250 bytes an n-gram where rows take 24, and is 8 times slower.
"""

from __future__ import annotations

import itertools
import tempfile
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechtune.errors import TextError

__all__ = ["BEGIN", "END", "SPECIAL", "UNKNOWN", "count_ngrams"]

SPECIAL = ("<unk>", "<s>", "</s>")  # with the ids 0, 1, 2
UNKNOWN, BEGIN, END = range(3)
CHUNK = 4_000_000  # words in memory at a time: about 0.4 GB

Rows = NDArray[np.int32]
Counts = NDArray[np.int64]


def count_ngrams(lines: Iterable[str], order: int, *, chunk: int = CHUNK) -> tuple[list[str], Rows, Counts]:
    """Count the n-grams of highest order, one that ends in each word and in each line's end.

    Args:
        lines: sentences, words separated by white space; empty ones are skipped. The words of `SPECIAL` are skipped.
        order: words in an n-gram.
        chunk: words that are held in memory at a time.

    Returns:
        The words by id, the distinct n-grams (M, order) by last word, then by the one before, and their counts (M,).
        Before a sentence's first word stands <s>, as often as is needed.

    Raises:
        TextError: there is no word.
    """
    ids: dict[str, int] = defaultdict(itertools.count().__next__)
    for word in SPECIAL:
        ids[word]
    with tempfile.TemporaryDirectory(prefix="speechtune-ngrams-") as folder:
        runs: list[tuple[Any, Any]] = []
        for tokens in _chunks(lines, ids, chunk):
            if runs:  # the run before stays in memory only if it is the last one
                runs[-1] = _on_disk(*runs[-1], Path(folder), len(runs))
            runs.append(_sorted_sums(*_windows(tokens, order)))
        if not runs:
            raise TextError("The text has no word: there is nothing to count.\nGive a file with sentences, one a line.")
        merged = runs[0] if len(runs) == 1 else _merged(runs, len(ids), max_rows=chunk)
    return list(ids), *merged


def _chunks(lines: Iterable[str], ids: dict[str, int], size: int) -> Iterator[NDArray[np.int32]]:
    """Yield ids of whole sentences, each followed by END, about `size` at a time."""
    tokens = array("i")
    for line in lines:
        words = line.split()
        if "<" in line:
            words = [word for word in words if word not in SPECIAL]
        if words:
            tokens.extend(map(ids.__getitem__, words))
            tokens.append(END)
        if len(tokens) >= size:
            yield np.frombuffer(tokens, np.int32)
            tokens = array("i")
    if tokens:
        yield np.frombuffer(tokens, np.int32)


def _windows(tokens: NDArray[np.int32], order: int) -> tuple[Rows, Counts]:
    """Return the n-gram that ends in each token, (T, order)."""
    ends = tokens == END
    sentence = np.cumsum(ends) - ends
    rows = np.full((len(tokens), order), BEGIN, np.int32)
    rows[:, -1] = tokens
    for back in range(1, min(order, len(tokens))):
        same = sentence[back:] == sentence[:-back]
        rows[back:, order - 1 - back][same] = tokens[:-back][same]
    return rows, np.ones(len(tokens), np.int64)


def _sorted_sums(rows: Rows, counts: Counts) -> tuple[Rows, Counts]:
    """Return distinct rows, sorted by last column first, and the sums of their counts."""
    by_last = np.lexsort(rows.T)
    rows, counts = rows[by_last], counts[by_last]
    first = np.concatenate([[True], (rows[1:] != rows[:-1]).any(axis=1)])
    return rows[first], np.add.reduceat(counts, np.flatnonzero(first))


def _on_disk(rows: Rows, counts: Counts, folder: Path, number: int) -> tuple[Rows, Counts]:
    mapped = []
    for name, values in (("rows", rows), ("counts", counts)):
        path = folder / f"{name}-{number}.npy"
        np.save(path, values)
        mapped.append(np.load(path, mmap_mode="r"))
    return mapped[0], mapped[1]


def _merged(runs: list[tuple[Rows, Counts]], num_words: int, *, max_rows: int) -> tuple[Rows, Counts]:
    """Merge sorted runs, as many last words at a time as have `max_rows` rows together, or one."""
    sizes = np.sum([np.bincount(rows[:, -1], minlength=num_words) for rows, _ in runs], axis=0)
    ends, total = [], 0
    for word, size in enumerate(sizes.tolist()):
        if total and total + size > max_rows:
            ends.append(word)
            total = 0
        total += size
    parts: list[tuple[Rows, Counts]] = []
    borders = [np.searchsorted(rows[:, -1], [0, *ends, num_words]).tolist() for rows, _ in runs]
    for i in range(len(ends) + 1):
        pieces = [(r[b[i] : b[i + 1]], c[b[i] : b[i + 1]]) for (r, c), b in zip(runs, borders, strict=True)]
        if any(len(rows) for rows, _ in pieces):
            parts.append(_sorted_sums(*(np.concatenate(column) for column in zip(*pieces, strict=True))))
    rows, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
    return rows, counts
