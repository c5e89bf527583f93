"""A word's probability is that of the longest n-gram, backed off as an ARPA file says."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from ngrams_by_hand import arpa_score

from speechtune.errors import ModelError
from speechtune.text.ngrams.arpa import read_arpa
from speechtune.text.ngrams.build import build_ngrams
from speechtune.text.ngrams.estimate import Ngrams
from speechtune.text.ngrams.model import NgramModel, characters_of

LINES = ["bir iki üç", "bir üç", "iki bir iki üç dört", "dört", "üç iki bir"]


def test_scores_are_those_of_the_definition():
    ngrams = build_ngrams(LINES, order=3)
    model = NgramModel(ngrams)
    draw = random.Random(0)
    for _ in range(200):
        sentence = draw.choices(["bir", "iki", "üç", "dört", "yok"], k=draw.randint(0, 6))
        assert model.sentence(sentence) == pytest.approx(arpa_score(ngrams, sentence), abs=1e-4)


def test_perplexity_of_the_training_text_is_below_that_of_another_order():
    model = NgramModel(build_ngrams(LINES, order=3))
    assert model.sentence(["bir", "iki", "üç"]) > model.sentence(["üç", "üç", "bir"])


def test_known_words_and_their_beginnings_are_known():
    model = NgramModel(build_ngrams(LINES))
    assert "dört" in model and "dö" not in model and "beş" not in model
    assert model.begins_word("dö") and model.begins_word("dört") and not model.begins_word("dörtt")


def test_a_model_of_characters_knows_the_space():
    model = NgramModel(build_ngrams(LINES, of_characters=True))
    assert model.of_characters and model.units(" bir  iki") == characters_of("bir iki") == [*"bir", "<space>", *"iki"]
    assert model.sentence(model.units("bir iki")) > model.sentence(model.units("rib kii"))


def test_a_model_without_unk_gives_unknown_words_its_smallest_probability(tmp_path: Path):
    (tmp_path / "lm").write_text("\\data\\\nngram 1=2\n\n\\1-grams:\n-1 a\n-2 b\n\n\\end\\\n", "utf-8")
    model = NgramModel(read_arpa(tmp_path / "lm"))
    assert model.score(0, "c")[0] == pytest.approx(-2 * math.log(10))
    assert model.begin == 0 and model.score_end(0) == 0


def test_an_ngram_whose_context_is_missing_is_named():
    whole = build_ngrams(["a b c", "a b c"], order=3)
    orders = [whole.orders[0], type(whole.orders[1])(*(values[:0] for values in vars(whole.orders[1]).values()))]
    with pytest.raises(ModelError, match=r"no n-gram '.*', with which longer ones begin"):
        NgramModel(Ngrams(whole.words, [*orders, whole.orders[2]]))
