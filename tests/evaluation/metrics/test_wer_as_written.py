"""Case and punctuation count, where reference and hypothesis are known as they are written."""

from __future__ import annotations

from speechtune.evaluation.evaluate import Evaluation
from speechtune.types import EditCounts, Hypothesis


def row(written: tuple[str, str] | None) -> Hypothesis:
    return Hypothesis("1", "guten tag", "guten tag", EditCounts(hits=2), EditCounts(hits=9), written=written)


def test_words_that_differ_in_case_or_punctuation_are_errors():
    evaluation = Evaluation([row(("Guten Tag.", "guten Tag."))])
    assert evaluation.wer == 0.0 and evaluation.total("wer_as_written").rate == 0.5


def test_where_the_scored_text_is_the_written_one_both_are_the_same():
    assert Evaluation([row(None)]).total("wer_as_written").rate == 0.0


def test_the_written_texts_are_kept_in_hypotheses_jsonl():
    for one in (row(("Guten Tag.", "guten Tag.")), row(None)):
        assert Hypothesis.from_json(one.as_json()).written == one.written
    assert row(("Guten Tag.", "x")).as_json()["reference_written"] == "Guten Tag."
    assert "hypothesis_written" not in row(None).as_json()
