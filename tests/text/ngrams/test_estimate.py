"""Probabilities are lmplz's; those after any context sum to one, pruned or not."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest

from speechtune.text.ngrams.counts import count_ngrams
from speechtune.text.ngrams.estimate import Ngrams, discounts, estimate
from speechtune.text.ngrams.model import NgramModel

# lmplz --order 3 --discount_fallback, of the two sentences; kpu/kenlm, lm/common/test_data/toy0.arpa
TOY = ["a a b a", "b a a b"]
TOY_ARPA = {
    "<unk>": (-0.90309, 0.0),
    "</s>": (-0.5720968, 0.0),
    "a": (-0.46943438, -0.30103),
    "b": (-0.5720968, -0.30103),
    "<s> a": (-0.37712017, -0.30103),
    "a a": (-0.37712017, -0.30103),
    "b a": (-0.2984526, -0.30103),
    "a </s>": (-0.58682007, 0.0),
    "b </s>": (-0.5220179, 0.0),
    "<s> b": (-0.41574955, -0.30103),
    "a b": (-0.58682007, -0.30103),
    "<s> a a": (-0.14885087, 0.0),
    "b a a": (-0.33741078, 0.0),
    "<s> b a": (-0.124077894, 0.0),
    "a b a": (-0.2997394, 0.0),
    "b a </s>": (-0.42082912, 0.0),
    "a b </s>": (-0.397617, 0.0),
    "a a b": (-0.20102891, 0.0),
}


def entries(ngrams: Ngrams) -> dict[str, tuple[float, float]]:
    return {
        " ".join(ngrams.words[i] for i in row): (log10, backoff)
        for part in ngrams.orders
        for row, log10, backoff in zip(part.rows.tolist(), part.log10.tolist(), part.backoff.tolist(), strict=True)
    }


def random_lines(seed: int, num_lines: int = 300) -> list[str]:
    draw = random.Random(seed)
    weights = [1 / n for n in range(1, 13)]
    return [" ".join(draw.choices("abcdefghijkl", weights, k=draw.randint(1, 7))) for _ in range(num_lines)]


def test_the_toy_corpus_of_kenlm_has_kenlms_probabilities():
    ngrams = estimate(*count_ngrams(TOY, 3))
    found = entries(ngrams)
    assert found.pop("<s>") == (-99.0, pytest.approx(-0.30103, abs=1e-6))
    assert found.keys() == TOY_ARPA.keys()
    for gram, expected in TOY_ARPA.items():
        assert found[gram] == pytest.approx(expected, abs=2e-6), gram
    assert ngrams.notes and "too few" in ngrams.notes[0]


def test_discounts_are_those_of_equation_26():
    # n1 = 10, n2 = 4, n3 = 2, n4 = 1: Y = 10 / 18
    counts = np.array([1] * 10 + [2] * 4 + [3] * 2 + [4] + [9] * 5)
    y = 10 / 18
    assert discounts(counts) == (pytest.approx((1 - 2 * y * 4 / 10, 2 - 3 * y * 2 / 4, 3 - 4 * y * 1 / 2)), 0)


def test_a_bigram_model_by_hand():
    """ "a b", "a c", "a b": continuation counts a 1, b 1, c 1, </s> 2 (after b and c); 5 words in the vocabulary."""
    found = entries(estimate(*count_ngrams(["a b", "a c", "a b"], 2)))
    uniform = 1 / 5  # <unk>, </s>, a, b, c
    saved = (0.5 + 0.5 + 0.5 + 1.0) / 5
    p_b = 0.5 / 5 + saved * uniform
    assert 10 ** found["b"][0] == pytest.approx(p_b)
    assert 10 ** found["<unk>"][0] == pytest.approx(saved * uniform)
    # After a: b twice (discount 1), c once (0.5)
    assert 10 ** found["a b"][0] == pytest.approx((2 - 1) / 3 + 1.5 / 3 * p_b)
    assert 10 ** found["a"][1] == pytest.approx(1.5 / 3)


@pytest.mark.parametrize("prune", [(), (0, 0, 1), (0, 1, 2)])
def test_the_probabilities_after_any_context_sum_to_one(prune: tuple[int, ...]):
    model = NgramModel(estimate(*count_ngrams(random_lines(0), 3), prune=prune))
    vocabulary = [word for word in model.ids if word != "<s>"]
    for context in [(), *itertools.product("abkl", repeat=1), *itertools.product("abl", repeat=2)]:
        state = 0
        for word in context:
            state = model.score(state, word)[1]
        assert sum(math.exp(model.score(state, word)[0]) for word in vocabulary) == pytest.approx(1, abs=1e-5)
    begin = sum(math.exp(model.score(model.begin, word)[0]) for word in vocabulary)
    assert begin == pytest.approx(1, abs=1e-5)


def test_pruning_removes_rare_ngrams_and_no_unigram():
    whole, pruned = (estimate(*count_ngrams(random_lines(3), 3), prune=p) for p in ((), (0, 0, 1)))
    assert [len(part.rows) for part in pruned.orders[:2]] == [len(part.rows) for part in whole.orders[:2]]
    counts = count_ngrams(random_lines(3), 3)
    frequent = (counts[2] > 1) & (counts[1][:, 1] != 1)  # "<s> <s> a" is a bigram
    assert len(pruned.orders[2].rows) == int(frequent.sum()) < len(whole.orders[2].rows)
