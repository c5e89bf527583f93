"""Comparison: the same utterances, scored alike, and a sentence that says no more than the numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import evaluations
import pytest
from evaluations import hypothesis

from speechtune.errors import OptionError, OutputError
from speechtune.evaluation.compare import Scored, compare_evaluations, find_evaluation, short_names
from speechtune.evaluation.comparison import Comparison
from speechtune.evaluation.evaluate import Evaluation

PROTOCOL = {"name": "default", "normalizer": "lower case (tr)", "filters": {}, "padding": "invariant"}
WORDS = "bir iki üç dört beş"


def scored(name: str, texts: list[str], *, ids: list[str] | None = None, speakers: int = 0, **protocol: Any) -> Scored:
    """A system that wrote `texts` where "bir iki üç dört beş" was said."""
    rows = [
        hypothesis(
            (ids or [f"u{i}" for i in range(len(texts))])[i],
            WORDS,
            text,
            duration_s=1.0 + 2 * (i % 2),
            speaker=f"s{i % speakers}" if speakers else None,
        )
        for i, text in enumerate(texts)
    ]
    return Scored(name, Evaluation(rows, results={"protocol": PROTOCOL | protocol, "dataset": "d", "split": "test"}))


BAD, GOOD = "bir iki yok yok beş", WORDS


def test_a_clear_difference_is_one_sentence_with_its_interval():
    found = compare_evaluations([scored("old", [BAD] * 11 + [GOOD]), scored("new", [GOOD] * 12)])
    (pair,) = found.pairs
    assert pair.sentence == (
        "new makes 36.7 points fewer word errors than old (0.0 % instead of 36.7 %), 95 % interval -40.0 to -26.7: "
        "better (p = 0.003) on these 12 utterances."
    )
    assert (pair.num_better, pair.num_worse, pair.num_equal) == (11, 0, 1)
    assert [(u.errors_a, u.errors_b) for u in pair.better] == [(2, 0)] * 11
    assert pair.mapsswe.segments == 11 and found.num_words == 60


def test_a_small_difference_says_how_much_speech_would_show_it():
    first = [BAD, GOOD, BAD, GOOD, GOOD, BAD] * 3 + [GOOD, BAD]
    second = [GOOD, BAD, GOOD, GOOD, BAD, BAD] * 3 + [GOOD, GOOD]
    (pair,) = compare_evaluations([scored("A", first), scored("B", second)]).pairs
    assert not pair.is_significant and pair.num_needed and pair.num_needed > 20
    assert pair.sentence.startswith("B makes 2.0 points fewer word errors than A (18.0 % instead of 20.0 %), 95 % ")
    assert pair.sentence.endswith(
        f": not shown to be better on these 20 utterances; about {pair.num_needed:,} utterances would be needed."
    )


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        ([BAD, GOOD] * 5, [BAD, GOOD] * 5, "A and B wrote the same text for all 10 utterances."),
        ([BAD, GOOD] * 5, [GOOD, BAD] * 5, "A and B make equally many word errors (20.0 %) on these 10 utterances."),
        (
            [BAD, GOOD],
            [GOOD, GOOD],
            "B makes 20.0 points fewer word errors than A (0.0 % instead of 20.0 %); 2 utterances are too few to tell "
            "whether that is chance.",
        ),
    ],
)
def test_what_can_not_be_told_is_said(first, second, sentence):
    assert str(compare_evaluations([scored("A", first), scored("B", second)])) == sentence


def test_several_systems_are_compared_with_the_first_and_their_p_values_corrected():
    first, better, same = (
        [BAD, BAD, BAD, BAD, GOOD] * 4,
        [GOOD, BAD, GOOD, GOOD, GOOD] * 4,
        [BAD, BAD, BAD, GOOD, BAD] * 4,
    )
    found = compare_evaluations([scored("A", first), scored("B", better), scored("C", same)])
    plain = [pair.differences["wer"].p_value for pair in found.pairs]
    assert [(pair.a, pair.b) for pair in found.pairs] == [(0, 1), (0, 2)]
    assert found.pairs[0].p_corrected == pytest.approx(2 * plain[0])
    assert "after Holm's correction for 2 comparisons" in found.pairs[0].sentence


def test_only_common_utterances_are_compared_and_the_others_are_counted():
    ids = [f"u{i}" for i in range(3, 12)]
    found = compare_evaluations([scored("A", [GOOD] * 10), scored("B", [BAD] * 9, ids=ids)])
    assert found.num_utterances == 7
    assert [system.num_missing for system in found.systems] == [3, 2]
    assert "A: 3 of its utterances are not in all evaluations; they are not compared." in found.notes


def test_systems_scored_in_different_ways_are_refused_with_what_differs():
    with pytest.raises(OptionError, match="computed differently") as error:
        compare_evaluations([scored("A", [GOOD]), scored("B", [GOOD], normalizer="case kept")])
    assert "normalizer\n    A: lower case (tr)\n    B: case kept" in str(error.value)


def test_what_belongs_to_a_system_may_differ_and_is_noted():
    found = compare_evaluations(
        [scored("A", [GOOD] * 9, decoding={"num_beams": 1}), scored("B", [BAD] * 9, decoding={"num_beams": 5})]
    )
    assert "The num beams of A is 1, that of B 5." in found.notes


def test_other_texts_and_other_utterances_are_refused():
    other = Scored("B", Evaluation([hypothesis("u0", "başka bir şey", "başka")]))
    with pytest.raises(OptionError, match="different references for 1 of 1 utterances, such as u0"):
        compare_evaluations([scored("A", [GOOD]), other])
    with pytest.raises(OptionError, match="No utterance is in all evaluations"):
        compare_evaluations([scored("A", [GOOD]), scored("B", [GOOD], ids=["x"])])
    with pytest.raises(OptionError, match="A: several utterances have the same id"):
        compare_evaluations([scored("A", [GOOD, BAD], ids=["x", "x"]), scored("B", [GOOD], ids=["x"])])


def test_groups_have_differences_of_their_own():
    texts = [BAD, GOOD] * 8  # odd utterances are longer
    (pair,) = compare_evaluations([scored("A", texts, speakers=4), scored("B", [GOOD] * 16, speakers=4)]).pairs
    by_length = {part.name: part for part in pair.slices if part.by == "length"}
    assert {name: round(part.difference.difference, 2) for name, part in by_length.items()} == {
        "0 to 2 s": -0.4,
        "2 to 4 s": 0.0,
    }
    assert (by_length["0 to 2 s"].rate_a, by_length["0 to 2 s"].utterances, by_length["0 to 2 s"].words) == (0.4, 8, 40)
    assert [part.name for part in pair.slices if part.by == "speaker"] == ["s0", "s1", "s2", "s3"]


def test_speakers_are_what_is_resampled_where_there_are_ten():
    many = compare_evaluations(
        [scored("A", [BAD, GOOD] * 11, speakers=11), scored("B", [GOOD, GOOD] * 11, speakers=11)]
    )
    assert many.pairs[0].differences["wer"].unit == "speakers"
    assert "on these 22 utterances of 11 speakers." in many.pairs[0].sentence
    few = compare_evaluations([scored("A", [BAD] * 9, speakers=3), scored("B", [GOOD] * 9, speakers=3)])
    assert few.pairs[0].differences["wer"].unit == "utterances"
    assert few.notes[0].startswith("Of 3 speakers only, so utterances are resampled, not speakers")


def test_a_comparison_reads_what_it_wrote(tmp_path: Path):
    first = [BAD, GOOD, BAD, "", GOOD, BAD]
    found = compare_evaluations([scored("A", first, speakers=3), scored("B", [GOOD] * 6, speakers=3)])
    assert math.isnan(found.pairs[0].slices[0].difference.low)  # three utterances
    found.write(tmp_path / "comparison.json")
    read = Comparison.read(tmp_path / "comparison.json")
    assert repr(read.as_json()) == repr(found.as_json())  # nan included
    assert read.systems[0].num_empty == 1
    with pytest.raises(OutputError, match="no comparison"):
        Comparison.read(tmp_path / "nothing.json")


def test_an_evaluation_is_found_in_its_folder_in_a_models_folder_and_by_its_file(tmp_path: Path):
    evaluations.write(tmp_path / "a", hypothesis("u0", WORDS, GOOD))
    evaluations.write(tmp_path / "a", hypothesis("u0", WORDS, BAD), suffix="_noisy")
    evaluations.write(tmp_path / "b" / "evaluation-d-test", hypothesis("u0", WORDS, GOOD))

    def wer(path: str) -> float:
        found = find_evaluation(tmp_path / path)
        assert found is not None
        return found.evaluation.wer

    assert (wer("a"), wer("a/hypotheses_noisy.jsonl"), wer("a/eval_results_noisy.json"), wer("b")) == (0, 0.4, 0.4, 0)
    evaluations.write(tmp_path / "b" / "evaluation-e-test", hypothesis("u0", WORDS, GOOD))
    with pytest.raises(OutputError, match="several evaluations"):
        find_evaluation(tmp_path / "b")
    assert find_evaluation(tmp_path / "c") is None


def test_hypotheses_of_another_tool_need_three_columns(tmp_path: Path):
    (tmp_path / "other.jsonl").write_text(f'{{"id": "u0", "reference": "{WORDS}", "hypothesis": "{BAD}"}}\n')
    other = find_evaluation(tmp_path / "other.jsonl")
    assert other is not None and other.evaluation.wer == 0.4
    found = compare_evaluations([scored("A", [GOOD]), Scored("other", other.evaluation)])
    assert "other: how its scores are computed is not recorded; it must be as for the others." in found.notes
    (tmp_path / "other.jsonl").write_text('{"id": "u0", "text": "bir"}\n')
    with pytest.raises(OutputError, match="object 1: id, reference and hypothesis are needed"):
        find_evaluation(tmp_path / "other.jsonl")


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["runs/a", "runs/b"], ["a", "b"]),
        (["openai/whisper", "runs/whisper"], ["openai/whisper", "runs/whisper"]),
        (["runs/a/evaluation-d-test", "runs/b/evaluation-d-test"], ["a", "b"]),
        (["runs/a/evaluation-d-test", "runs/a/evaluation-d-dev"], ["evaluation-d-test", "evaluation-d-dev"]),
        (["runs/a", "runs/a"], ["a (1)", "a (2)"]),
    ],
)
def test_names_are_as_short_as_tells_them_apart(names, short):
    assert short_names(names) == short


def test_a_system_compared_with_itself_is_the_same():
    one = scored("one", [BAD, GOOD] * 5)
    names = short_names(["runs/one", "runs/one"])
    found = compare_evaluations([Scored(name, one.evaluation) for name in names])
    assert names == ["one (1)", "one (2)"]
    assert found.pairs[0].sentence == "one (1) and one (2) wrote the same text for all 10 utterances."
    assert found.pairs[0].p_corrected == 1 and found.pairs[0].num_equal == 10


def test_numbers_written_out_are_another_way_of_scoring():
    spelled = scored("B", [GOOD], normalizer="lower case (tr); before that numbers written out (tr, unicode-rbnf 2)")
    with pytest.raises(
        OptionError, match=r"scores are computed differently(.|\n)*numbers written out(.|\n)*--spell_numbers"
    ):
        compare_evaluations([scored("A", [GOOD]), spelled])
