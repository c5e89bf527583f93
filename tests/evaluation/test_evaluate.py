"""Each utterance is scored once, in the corpus' order; rates are of sums; what is not finite is null in the files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluations import hypothesis

from speechtune.evaluation.evaluate import Evaluation, recognise_split, write_evaluation
from speechtune.models.batch import Batch
from speechtune.models.recogniser import Recognised
from speechtune.text.score_normalisers import WhisperBasic
from speechtune.types import Skipped, Utterance

# ---- sums


def test_a_corpus_rate_is_of_sums_and_no_mean_of_rates():
    evaluation = Evaluation([hypothesis("a", "bir", "iki"), hypothesis("b", "bir iki üç", "bir iki üç")])
    assert evaluation.metrics(["wer", "cer"])["eval_wer"] == 1 / 4
    assert evaluation.total("wer").edits == 1 and evaluation.total("wer").reference_length == 4
    assert evaluation.total("cer").reference_length == len("bir") + len("bir iki üç")


def test_nothing_recognised_has_no_rate():
    flat = Evaluation().metrics(["wer", "cer", "per"])
    assert [math.isnan(flat[f"eval_{name}"]) for name in ("wer", "cer", "per")] == [True] * 3
    assert flat["eval_samples"] == 0 and flat["eval_audio_s_per_s"] == 0 and "eval_loss" not in flat


def test_words_said_where_none_should_be_are_an_infinite_rate():
    evaluation = Evaluation([hypothesis("a", "", "bir")])
    assert evaluation.metrics()["eval_wer"] == math.inf
    assert Evaluation([hypothesis("a", "", "")]).metrics()["eval_wer"] == 0


def test_phones_are_counted_by_what_the_recogniser_makes_of_the_text():
    evaluation = Evaluation(
        [hypothesis("a", "b i | r", "b i r")], forms={"phones": lambda text: text.replace("|", " ")}
    )
    assert evaluation.metrics(["wer", "per"])["eval_per"] == 0
    assert evaluation.metrics(["wer", "per"])["eval_wer"] == 1 / 4


def test_losses_are_divided_by_their_items_and_what_is_not_finite_is_counted_apart():
    flat = Evaluation(loss_sum=6.0, loss_items=4, infinite_losses=2, nan_losses=1).metrics(prefix="test")
    assert (flat["test_loss"], flat["test_infinite_losses"], flat["test_nan_losses"]) == (1.5, 2, 1)
    assert math.isnan(Evaluation(infinite_losses=2).metrics()["eval_loss"])
    assert "eval_nan_losses" not in Evaluation(loss_sum=1.0, loss_items=1).metrics()


def test_an_interval_over_speakers_says_so():
    texts = [("bir iki", "bir iki"), ("bir iki", "x y")] * 10
    apart = Evaluation([hypothesis(f"{n}", *pair) for n, pair in enumerate(texts)]).scores()["wer"]
    of_two = Evaluation([hypothesis(f"{n}", *pair, speaker="AB"[n % 2]) for n, pair in enumerate(texts)]).scores()[
        "wer"
    ]
    assert apart["rate"] == of_two["rate"] == 0.5
    assert 0 < apart["low"] < 0.5 < apart["high"] < 1 and apart["interval"] == {"unit": "utterances", "groups": 20}
    assert of_two["low"] == 0 and of_two["high"] > 1 and of_two["interval"] == {"unit": "speakers", "groups": 2}


def test_scores_carry_the_counts_that_make_the_rate():
    scores = Evaluation([hypothesis("a", "bir iki üç", "bir x üç dört")]).scores()
    counts = {name: scores["wer"][name] for name in ("hits", "substitutions", "deletions", "insertions")}
    assert counts == {"hits": 2, "substitutions": 1, "deletions": 0, "insertions": 1}
    assert scores["wer"]["rate"] == 2 / 3 and set(scores) == {"wer", "cer"}


# ---- a split, recognised


class Parrot:
    """Says what it was told to say of each row, at a given loss."""

    def __init__(self, texts: dict[int, str], losses: dict[int, float] | None = None) -> None:
        self.model = torch.nn.Linear(1, 1)
        self.texts, self.given = texts, losses or {}
        self.modes: list[bool] = []

    def recognise(self, model: Any, batch: Batch, *, with_loss: bool) -> list[Recognised]:
        self.modes.append(model.training or torch.is_grad_enabled())
        return [
            Recognised(self.texts[row], self.given.get(row, 1.0) if with_loss else math.nan, 1) for row in batch.rows
        ]

    def words_of(self, text: str) -> str:
        return text

    def phones_of(self, text: str) -> str:
        return f"<{text}>"


def batch_of(rows: list[int], *, text: str = "bir", skipped: tuple[Skipped, ...] = ()) -> Batch:
    return Batch(
        utterances=[Utterance(f"id{row}", "", "", "BIR!", 2.0, f"{row}.wav", speaker=f"s{row}") for row in rows],
        texts=[text] * len(rows),
        rows=rows,
        inputs={"input_values": torch.zeros(max(len(rows), 1), 4)},
        labels=torch.ones(max(len(rows), 1), 3, dtype=torch.int64),
        label_lengths=[3] * len(rows),
        input_lengths=[4] * len(rows),
        seconds=2.0 * len(rows),
        skipped=list(skipped),
    )


def recognised(parrot: Parrot, batches: list[Batch], **how: Any) -> Evaluation:
    evaluation = recognise_split(parrot, parrot.model, batches, device=torch.device("cpu"), **how)
    assert evaluation is not None
    return evaluation


def test_hypotheses_are_in_the_corpus_order_however_batches_came():
    parrot = Parrot({row: f"bir {row}" for row in range(5)})
    found = recognised(parrot, [batch_of([4, 2]), batch_of([0]), batch_of([3, 1])])
    assert [h.id for h in found.hypotheses] == ["id0", "id1", "id2", "id3", "id4"]
    assert [h.hypothesis for h in found.hypotheses] == [f"bir {row}" for row in range(5)]
    assert found.audio_s == 10 and found.hypotheses[3].speaker == "s3" and found.hypotheses[3].file == "3.wav"


def test_hypotheses_are_normalised_and_references_are_not_again():
    found = recognised(Parrot({0: "  BIR\u00a0 iki\n"}), [batch_of([0], text="BIR")], normalise=str.lower)
    (only,) = found.hypotheses
    assert (only.reference, only.hypothesis) == ("BIR", "bir iki")
    assert only.words.substitutions == 1 and only.words.insertions == 1


def test_a_normaliser_of_scores_is_applied_to_what_the_corpus_and_the_model_write():
    # The corpus has "BIR!", which is learnt as "bır".
    found = recognised(Parrot({0: "(gülüyor) bir."}), [batch_of([0], text="bır")], normalise=WhisperBasic())
    assert (found.hypotheses[0].reference, found.hypotheses[0].hypothesis, found.wer) == ("bir", "bir", 0.0)


def test_a_batch_of_nothing_is_not_recognised_but_what_it_left_out_is_kept():
    lost = Skipped("test", "id9", "9.wav", "truncated")
    seen: list[float] = []
    parrot = Parrot({0: "bir"})
    found = recognised(parrot, [batch_of([], skipped=(lost,)), batch_of([0])], on_batch=seen.append)
    assert found.skipped == [lost] and len(found.hypotheses) == 1 and seen == [2.0]


def test_an_empty_loader_is_an_empty_evaluation():
    found = recognised(Parrot({}), [])
    assert found.hypotheses == [] and found.audio_s == 0 and found.runtime_s >= 0


def test_finite_infinite_and_nan_losses_are_told_apart():
    parrot = Parrot(dict.fromkeys(range(4), "bir"), {0: 1.5, 1: math.inf, 2: math.nan, 3: 2.5})
    found = recognised(parrot, [batch_of([0, 1, 2, 3])])
    assert (found.loss_sum, found.loss_items, found.infinite_losses, found.nan_losses) == (4.0, 2, 1, 1)


def test_without_losses_none_is_counted_as_not_a_number():
    found = recognised(Parrot({0: "bir"}), [batch_of([0])], with_loss=False)
    assert (found.loss_items, found.nan_losses, found.infinite_losses) == (0, 0, 0)
    assert "eval_loss" not in found.metrics()


@pytest.mark.parametrize("was_training", [True, False])
def test_the_model_evaluates_without_gradients_and_is_left_in_its_mode(was_training: bool):
    parrot = Parrot({0: "bir"})
    parrot.model.train(was_training)
    recognised(parrot, [batch_of([0])])
    assert parrot.modes == [False] and parrot.model.training is was_training


def test_one_that_is_stopped_gives_nothing_and_leaves_the_model_in_its_mode():
    parrot = Parrot(dict.fromkeys(range(3), "bir"))
    parrot.model.train()
    asked = iter([False, True])
    batches = [batch_of([row]) for row in range(3)]
    cpu = torch.device("cpu")
    assert recognise_split(parrot, parrot.model, batches, device=cpu, is_stopped=lambda: next(asked)) is None
    assert len(parrot.modes) == 1 and parrot.model.training


def test_the_recogniser_says_what_its_phones_are():
    assert recognised(Parrot({0: "bir"}), [batch_of([0])]).forms["phones"]("a") == "<a>"


# ---- files


def test_files_hold_every_letter_and_null_where_a_number_is_not_finite(tmp_path: Path):
    odd = hypothesis("a", "İyi\u2028günler \U0001f600", "", duration_s=math.nan)
    results = {"eval_wer": math.nan, "scores": {"wer": {"rate": math.inf, "low": 0.25}}, "dataset": "köy", "n": 3}
    write_evaluation(Evaluation([odd, hypothesis("b", "", "")]), results, folder=tmp_path / "new" / "out", suffix="_x")
    text = (tmp_path / "new" / "out" / "eval_results_x.json").read_text("utf-8")
    assert json.loads(text) == {
        "eval_wer": None,
        "scores": {"wer": {"rate": None, "low": 0.25}},
        "dataset": "köy",
        "n": 3,
    }
    lines = (tmp_path / "new" / "out" / "hypotheses_x.jsonl").read_text("utf-8").split("\n")
    assert len(lines) == 3 and lines[2] == ""
    row = json.loads(lines[0])
    assert row["reference"] == odd.reference and row["duration_s"] is None and "İyi" in lines[0]
    assert row["words"] == {"hits": 0, "substitutions": 0, "deletions": 3, "insertions": 0}


def test_an_evaluation_is_read_as_it_was_written(tmp_path: Path):
    rows = [
        hypothesis("a", "bir", "İki\u2028", duration_s=1.5, file="\udcff.wav", speaker="s"),
        hypothesis("b", "", "", duration_s=2.0),
    ]
    results = {"split": "test", "scores": Evaluation(rows).scores(), "eval_per": 0.25}
    write_evaluation(Evaluation(rows), results, folder=tmp_path, suffix="_odd_voice")
    read = Evaluation.read(tmp_path, "_odd_voice")
    assert read.hypotheses == rows and read.name == "odd voice"
    assert read.score("wer") == results["scores"]["wer"] and read.score("per") == {"rate": 0.25}
    assert Evaluation.read(tmp_path).score("wer") is None


def test_an_evaluation_of_nothing_writes_an_empty_list(tmp_path: Path):
    write_evaluation(Evaluation(), Evaluation().metrics(), folder=tmp_path)
    assert (tmp_path / "hypotheses.jsonl").read_bytes() == b""
    assert json.loads((tmp_path / "eval_results.json").read_text())["eval_wer"] is None


def test_scores_of_nothing_are_not_a_rate_of_zero():
    scores = Evaluation().scores(("wer", "cer"))
    assert all(math.isnan(scores[name]["rate"]) and math.isnan(scores[name]["low"]) for name in ("wer", "cer"))
