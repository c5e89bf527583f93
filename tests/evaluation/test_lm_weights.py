"""The weights with the fewest wrong words are found, and those that were measured are reported."""

from __future__ import annotations

from speechtune.decoding.fusion import Fusion, Weights
from speechtune.evaluation.lm_weights import tune
from speechtune.text.ngrams.build import build_ngrams
from speechtune.text.ngrams.model import NgramModel

REFERENCES = ["yeni ev", "eski yol"]
FUSION = Fusion(NgramModel(build_ngrams(["yeni ev", "eski yol", "yeni yol"] * 3)), weights=Weights(0.1, 0.0, 0.0))
# By the model alone a wrong text is a little more probable in each.
BEAMS = [{"yen iev": -1.0, "yeni ev": -2.0}, {"es ki yol": -1.0, "eski yol": -2.0}]


def search(asked: list[Weights], weights: Weights) -> list[dict[str, float]]:
    asked.append(weights)
    fusion = FUSION.with_weights(weights)
    return [dict(sorted(beams.items(), key=lambda b: -(b[1] + fusion.score(b[0])))) for beams in BEAMS]


def test_the_errors_are_those_of_a_search_with_the_weights():
    asked: list[Weights] = []
    found = tune(lambda weights: search(asked, weights), FUSION, REFERENCES)
    assert found.errors == 0 and found.weights in asked and asked[0] == FUSION.weights
    first = search([], found.weights)
    assert [next(iter(beams)) for beams in first] == REFERENCES


def test_weights_that_are_good_already_stay():
    start = FUSION.with_weights(Weights(1.0, 0.0, -5.0))
    found = tune(lambda weights: search([], weights), start, REFERENCES)
    assert found.weights == start.weights and found.errors == 0


def test_texts_are_scored_as_they_are_normalised():
    found = tune(lambda weights: [{"YENİ EV.": -1.0}], FUSION, ["yeni ev"], words_of=str.lower)
    assert found.errors == 2  # "yeni̇ ev."
    found = tune(lambda weights: [{"YENİ EV.": -1.0}], FUSION, ["yeni ev"], words_of=lambda text: "yeni ev")
    assert found.errors == 0


def test_an_utterance_without_any_text_has_all_its_words_wrong():
    assert tune(lambda weights: [{}], FUSION, ["yeni ev"]).errors == 2
