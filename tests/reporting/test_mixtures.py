"""The curve of mixed weights in the report."""

from __future__ import annotations

from typing import Any

from speechtune.reporting.mixtures import mixture_curve


def record(*weights: float, **more: Any) -> dict[str, Any]:
    rows = [{"weight": w, "scores": {"cv/tr test": {"wer": {"rate": 0.5 - w / 10}}}} for w in weights]
    return {"mixtures": rows, **more}


def test_the_curve_has_a_point_a_mixture_and_a_mark_at_the_one_that_is_kept():
    kept = {"kept": 0.5, "selection": "cv/tr validation", "final_weights": "checkpoint-8"}
    curve = mixture_curve(record(0.0, 0.5, 1.0, **kept))
    assert curve is not None
    (line,) = curve["chart"].series
    assert line.points == [(0.0, 0.5), (0.5, 0.45), (1.0, 0.4)] and curve["chart"].marks == [0.5]
    assert curve["svg"].count("<circle") == 3 and ">share</text>" in curve["svg"]
    assert curve["sentence"] == (
        "Kept: 0.5 of the final weights. It has the lowest WER on cv/tr validation; the other sets had no part in the "
        "choice. The final weights, unmixed, are in checkpoint-8."
    )


def test_without_a_validation_split_it_says_that_none_was_chosen():
    curve = mixture_curve(record(0.0, 1.0, kept=1.0, selection=None))
    assert curve is not None and "none was chosen by its score" in curve["sentence"]


def test_one_mixture_is_no_curve():
    assert mixture_curve(record(0.5, kept=0.5)) is None and mixture_curve({}) is None
