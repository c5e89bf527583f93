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
    ends = 1 + np.cumsum([len(part.rows) for part in ngrams.orders])  # one after the last node of order 1, 2, ...
    size = int(ends[-1])
    keys = np.full(size, -1)  # of each node: parent * num_words + word, in which order the nodes are
    words, suffixes = np.zeros(size, np.int32), np.zeros(size, np.int32)
    log10, backoff = np.zeros(size), np.zeros(size)
    children = np.zeros(size, np.int64)
    start = 1
    for part, end in zip(ngrams.orders, ends.tolist(), strict=True):
        parent = np.zeros(len(part.rows), np.int64)
        for column in part.rows[:, :-1].T:
            parent = np.where(parent >= 0, _child(keys[:start], parent * num_words + column), -1)
        if (parent < 0).any():
            missing = " ".join(ngrams.words[i] for i in part.rows[int(np.argmax(parent < 0)), :-1])
            raise ModelError(f"{name}: no n-gram {missing!r}, with which longer ones begin: it is no whole model.")
        key = parent * num_words + part.rows[:, -1]
        order = np.argsort(key, kind="stable")
        parent, here = parent[order], slice(start, end)
        keys[here], words[here] = key[order], part.rows[order, -1]
        log10[here], backoff[here] = part.log10[order], part.backoff[order]
        children += np.bincount(parent, minlength=size)
        suffixes[here] = _suffixes(keys[:start], suffixes, parent, words[here].astype(np.int64), num_words)
        start = end
    starts = np.concatenate([[0], np.cumsum(children)]).astype(np.int32) + 1
    floats = [np.ascontiguousarray(values * LN10, np.float32) for values in (log10, backoff)]
    return words, starts, suffixes, floats[0], floats[1]


def _suffixes(keys: Ints, suffixes: NDArray[np.int32], parent: Ints, word: Ints, num_words: int) -> Ints:
    """Return the node of the longest known suffix of n-grams, of which the nodes before them are known.

    The words before its last are a suffix of the parent (Aho & Corasick 1975).
    """
    found = np.zeros(len(parent), np.int64)
    open_ = np.flatnonzero(parent != ROOT)
    context = suffixes[parent[open_]].astype(np.int64)
    while len(open_):
        child = _child(keys, context * num_words + word[open_])
        found[open_] = np.maximum(child, ROOT)
        left = (child < 0) & (context != ROOT)
        open_, context = open_[left], suffixes[context[left]].astype(np.int64)
    return found


def _child(keys: Ints, key: Ints) -> Ints:
    """Return the nodes that have these keys; -1 where there is none."""
    at = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
    return np.where(keys[at] == key, at, -1)
