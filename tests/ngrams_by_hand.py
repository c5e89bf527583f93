"""Probabilities of an n-gram model by the definition of ARPA files: slow and plain."""

from __future__ import annotations

import math
from collections.abc import Sequence

from speechtune.text.ngrams.estimate import Ngrams


def arpa_score(ngrams: Ngrams, sentence: Sequence[str]) -> float:
    """Log probability of a sentence with its end; unknown words are <unk>."""
    table = {
        tuple(ngrams.words[i] for i in row): (log10, backoff)
        for part in ngrams.orders
        for row, log10, backoff in zip(part.rows.tolist(), part.log10.tolist(), part.backoff.tolist(), strict=True)
    }

    def log10(context: tuple[str, ...], word: str) -> float:
        if (*context, word) in table:
            return table[(*context, word)][0]
        return table.get(context, (0, 0))[1] + log10(context[1:], word)

    words = [word if (word,) in table else "<unk>" for word in sentence]
    history, total = ["<s>"], 0.0
    for word in [*words, "</s>"]:
        total += log10(tuple(history[1 - len(ngrams.orders) :]) if len(ngrams.orders) > 1 else (), word)
        history.append(word)
    return total * math.log(10)
