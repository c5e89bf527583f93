"""An n-gram model in memory: probabilities of words after the words before them.

The n-grams form a tree: a node is an n-gram, its children are the words that follow it. A state is the node of the
longest context that the model knows; each node knows the node of its longest known suffix, to which a word that does
not follow it backs off. About 28 bytes an n-gram, and arrays that forked processes share.

Rejected: `kenlm` (no wheels; its binary files can't be read without it), a dictionary of tuples (250 bytes an n-gram).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechtune.errors import ModelError
from speechtune.text.ngrams.arpa import read_arpa
from speechtune.text.ngrams.estimate import Ngrams

__all__ = ["SPACE", "NgramModel", "characters_of", "load_ngram_model"]

SPACE = "<space>"  # between words, in a model of characters
LN10 = math.log(10)
ROOT = 0

Ints = NDArray[np.int64]


def load_ngram_model(path: Path) -> NgramModel:
    """Read an ARPA file.

    Raises:
        ModelError: it can't be read, or an n-gram's context is missing.
    """
    return NgramModel(read_arpa(path), name=str(path))


class NgramModel:
    """A back-off model. Probabilities are natural logarithms.

    Args:
        ngrams: of a model.
        name: of its file, for messages.

    Attributes:
        begin: state before a sentence's first word.
        of_characters: its words are characters, with SPACE between words.
        order: words of its longest n-gram.
    """

    def __init__(self, ngrams: Ngrams, *, name: str = "language model") -> None:
        self.ids = {word: i for i, word in enumerate(ngrams.words)}
        self.order = len(ngrams.orders)
        self.of_characters = SPACE in self.ids
        self.num_ngrams = [len(part.rows) for part in ngrams.orders]
        words, starts, suffixes, log_probs, backoffs = _tree(ngrams, name)
        # Views whose items are plain numbers, in a tenth of the time of an array's.
        self._words, self._starts, self._suffixes = words.data, starts.data, suffixes.data
        self._log_probs, self._backoffs = log_probs.data, backoffs.data
        unknown = self.ids.get("<unk>", self.ids.get("<UNK>"))
        real = [i for word, i in self.ids.items() if word != "<s>"]
        self._unknown = float(log_probs[1 + unknown]) if unknown is not None else float(log_probs[1:][real].min())
        self._spellings = sorted(self.ids)
        self.begin = 1 + self.ids["<s>"] if "<s>" in self.ids else ROOT

    def __contains__(self, word: str) -> bool:
        return word in self.ids

    def begins_word(self, text: str) -> bool:
        """Return whether a known word starts with `text`."""
        at = bisect_left(self._spellings, text)
        return at < len(self._spellings) and self._spellings[at].startswith(text)

    def score(self, state: int, word: str) -> tuple[float, int]:
        """Return the log probability of `word` in a state, and the state after it."""
        i, total = self.ids.get(word, -1), 0.0
        words, starts, node = self._words, self._starts, state
        while i >= 0:
            low, high = starts[node], starts[node + 1]
            at = bisect_left(words, i, low, high)
            if at < high and words[at] == i:
                return total + self._log_probs[at], at
            if node == ROOT:
                break
            total += self._backoffs[node]
            node = self._suffixes[node]
        while node != ROOT:  # an unknown word
            total += self._backoffs[node]
            node = self._suffixes[node]
        return total + self._unknown, ROOT

    def score_end(self, state: int) -> float:
        """Return the log probability that the sentence ends in a state."""
        return self.score(state, "</s>")[0] if "</s>" in self.ids else 0.0

    def sentence(self, words: Sequence[str]) -> float:
        """Return the log probability of a sentence with its end."""
        total, state = 0.0, self.begin
        for word in words:
            log_prob, state = self.score(state, word)
            total += log_prob
        return total + self.score_end(state)

    def units(self, text: str) -> list[str]:
        """Return what the model takes for words in a text: its words, or its characters."""
        return characters_of(text) if self.of_characters else text.split()


def characters_of(text: str) -> list[str]:
    """Return the characters of a text, with SPACE between words."""
    return [SPACE if char == " " else char for char in " ".join(text.split())]


def _tree(
    ngrams: Ngrams, name: str
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Return word, first child, suffix, log probability and back-off of each node: the root, unigrams, bigrams, ..."""
    num_words = len(ngrams.words)
    sizes = [len(part.rows) for part in ngrams.orders]
    bases = np.concatenate([[0, 1], 1 + np.cumsum(sizes)])  # first node of order 0, 1, 2, ...
    keys: list[Ints] = []  # of order 1, 2, ...: parent * num_words + word, sorted as the nodes are
    words, parents, suffixes = [np.zeros(1, np.int64)], [], [np.zeros(1, np.int64)]
    log10, backoff = [np.zeros(1)], [np.zeros(1)]
    for n, part in enumerate(ngrams.orders, start=1):
        rows = part.rows.astype(np.int64)
        parent = _nodes(rows[:, :-1], keys, bases, num_words)
        if (parent < 0).any():
            missing = " ".join(ngrams.words[i] for i in rows[int(np.argmax(parent < 0)), :-1])
            raise ModelError(f"{name}: no n-gram {missing!r}, with which longer ones begin: it is no whole model.")
        key = parent * num_words + rows[:, -1]
        sorted_ = np.argsort(key, kind="stable")
        rows, key = rows[sorted_], key[sorted_]
        keys.append(key)
        suffix = np.zeros(len(rows), np.int64)
        open_ = np.full(len(rows), n > 1)
        for length in range(n - 1, 0, -1):
            found = np.full(len(rows), -1, np.int64)
            found[open_] = _nodes(rows[open_, n - length :], keys, bases, num_words)
            suffix = np.where(found >= 0, found, suffix)
            open_ &= found < 0
        words.append(rows[:, -1])
        parents.append(parent[sorted_])
        suffixes.append(suffix)
        log10.append(part.log10[sorted_])
        backoff.append(part.backoff[sorted_])
    children = np.bincount(np.concatenate(parents), minlength=int(bases[-1]))
    starts = np.concatenate([[0], np.cumsum(children)]) + 1
    ints = [
        np.ascontiguousarray(values, np.int32) for values in (np.concatenate(words), starts, np.concatenate(suffixes))
    ]
    floats = [np.ascontiguousarray(np.concatenate(values) * LN10, np.float32) for values in (log10, backoff)]
    return ints[0], ints[1], ints[2], floats[0], floats[1]


def _nodes(rows: Ints, keys: list[Ints], bases: Ints, num_words: int) -> Ints:
    """Return the node of each n-gram, (M, n) -> (M,); -1 where there is none."""
    node = np.zeros(len(rows), np.int64)
    for n in range(rows.shape[1]):
        key = node * num_words + rows[:, n]
        at = np.minimum(np.searchsorted(keys[n], key), len(keys[n]) - 1)
        found = (keys[n][at] == key) & (node >= 0) if len(keys[n]) else np.zeros(len(rows), bool)
        node = np.where(found, bases[n + 1] + at, -1)
    return node
