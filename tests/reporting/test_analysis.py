"""What the report says of an evaluation's analysis."""

from __future__ import annotations

from pathlib import Path

import evaluations
from evaluations import hypothesis

from speechtune.evaluation.analysis import analyse
from speechtune.evaluation.evaluate import Evaluation
from speechtune.reporting.analysis import analysis_details
from speechtune.reporting.report import write_report

SILENCE = {
    "clips": 12,
    "clips_with_words": 1,
    "words": 2,
    "seconds": 60.0,
    "by_kind": [{"kind": "tones", "clips": 2, "words": 2, "texts": ["Thank you.", ""]}],
}


def test_failures_are_sentences_and_what_did_not_occur_is_not_said(tmp_path: Path):
    rows = [
        hypothesis(f"u{i}", "Bir iki üç", "" if i == 0 else "bir iki üç", columns={"gender": "fm"[i % 2]})
        for i in range(6)
    ]
    analysis = analyse(Evaluation(rows), as_written=True, training_words={"Bir": 20, "iki": 2})
    evaluations.write(tmp_path, *rows, analysis=analysis, silence=SILENCE)
    found = analysis_details(Evaluation.read(tmp_path))
    assert found["facts"] == [
        "Nothing was recognised in 1 utterance (3 words).",
        "Without case and punctuation the word error rate is 16.7 %: of all words 27.8 % are wrong in case only, "
        "0.0 % in punctuation only, 0.0 % in both.",
        "It writes 2 words that nobody said on 60 s of generated silence, noise, hum and tones: “Thank you.”.",
    ]
    page = write_report(tmp_path).read_text("utf-8")
    for text in ("WER by gender", "rare, under 10 times", "last third", *found["facts"][:1]):
        assert text in page


def test_an_evaluation_without_an_analysis_says_nothing():
    assert analysis_details(Evaluation([hypothesis("u", "a", "a")])) == {"facts": [], "tables": [], "columns": []}
