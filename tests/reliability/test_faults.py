"""One bad recording or transcript among good ones: skipped, counted, named; never a stop, never a silent NaN."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from reliability.faults import AUDIO_FAULTS, change_row, poison, poison_all, spoil
from reliability.forks import ForkServer
from reliability.tiny import assert_same_weights, losses, read_json, read_rows, run, weights, words

from speechtune.errors import CorpusError, TrainingError
from speechtune.models.ctc.recogniser import CtcRecogniser

ONE_IN_TWELVE = ["--max_skipped", "0.09"]
ONE_EPOCH = ["--num_train_epochs", "1", "--save_steps", "100"]


def skipped(folder: Path) -> list[tuple[str, str, str]]:
    return [(row["split"], Path(row["file"]).name, row["reason"]) for row in read_rows(folder / "skipped.jsonl")]


def assert_trained(folder: Path, *, num_losses: int = 6) -> None:
    found = losses(folder)
    assert len(found) == num_losses and all(math.isfinite(loss) and loss > 0 for loss in found)
    assert all(bool(tensor.isfinite().all()) for tensor in weights(folder).values())


@pytest.mark.parametrize("fault", AUDIO_FAULTS)
def test_a_bad_recording_in_training_is_skipped_and_named(fault: str, corpus: Path, tmp_path: Path):
    name = spoil(corpus, "train", 5, fault)
    assert run(*words(corpus, tmp_path / "out", *ONE_EPOCH, *ONE_IN_TWELVE)) == 0
    assert skipped(tmp_path / "out") == [("train", Path(name).name, AUDIO_FAULTS[fault][1])]
    assert_trained(tmp_path / "out")
    assert not (tmp_path / "out" / "bad_steps.jsonl").exists()


@pytest.mark.parametrize("fault", AUDIO_FAULTS)
def test_a_bad_recording_in_evaluation_is_skipped_where_it_cannot_be_decoded(fault: str, corpus: Path, tmp_path: Path):
    name = spoil(corpus, "test", 2, fault)
    assert run(*words(corpus, tmp_path / "out", *ONE_EPOCH, "--max_skipped", "0.3")) == 0
    results = read_json(tmp_path / "out" / "eval_results.json")
    is_scored = fault in ("silent", "clipped")
    assert results["eval_samples"] == (4 if is_scored else 3)
    assert math.isfinite(results["eval_loss"]) and math.isfinite(results["eval_wer"])
    expected = [] if is_scored else [("test", Path(name).name, AUDIO_FAULTS[fault][1])]
    assert skipped(tmp_path / "out") == expected
    assert results["protocol"]["skipped"] == len(expected)


@pytest.mark.parametrize("text", ["", "?!"])
def test_an_empty_transcript_in_training_is_skipped(text: str, corpus: Path, tmp_path: Path):
    name = change_row(corpus, "train", 5, text=text)
    more = [*ONE_EPOCH, *ONE_IN_TWELVE, "--chars_to_ignore", "?", "!"]
    assert run(*words(corpus, tmp_path / "out", *more)) == 0
    assert skipped(tmp_path / "out") == [("train", Path(name).name, "empty_transcript")]
    assert_trained(tmp_path / "out")


def test_an_empty_transcript_in_evaluation_is_scored(corpus: Path, tmp_path: Path):
    change_row(corpus, "test", 2, text="")
    assert run(*words(corpus, tmp_path / "out", *ONE_EPOCH)) == 0
    results = read_json(tmp_path / "out" / "eval_results.json")
    assert results["eval_samples"] == 4 and skipped(tmp_path / "out") == []


# Row 0 lasts 0.3 s: 14 frames. Ten equal labels need nine blanks between them: 19 frames.
@pytest.mark.parametrize(("text", "is_skipped"), [("bibibibibibibi", False), ("b" * 7, False), ("b" * 8, True)])
def test_labels_that_need_more_frames_than_there_are_are_skipped(
    text: str, is_skipped: bool, corpus: Path, tmp_path: Path
):
    change_row(corpus, "train", 0, text=text)
    assert run(*words(corpus, tmp_path / "out", *ONE_EPOCH, *ONE_IN_TWELVE)) == 0
    expected = [("train", "000.wav", "fewer_frames_than_labels")] if is_skipped else []
    assert skipped(tmp_path / "out") == expected
    assert_trained(tmp_path / "out")


def test_labels_that_need_more_frames_than_there_are_count_in_evaluation(corpus: Path, tmp_path: Path):
    change_row(corpus, "test", 0, text="b" * 8)
    assert run(*words(corpus, tmp_path / "out", *ONE_EPOCH)) == 0
    results = read_json(tmp_path / "out" / "eval_results.json")
    assert results["eval_samples"] == 4 and results["eval_infinite_losses"] == 1
    assert math.isfinite(results["eval_loss"])


def test_a_recording_shorter_than_its_table_says_is_skipped_when_it_is_decoded(corpus: Path, tmp_path: Path):
    change_row(corpus, "train", 0, text="b" * 8, duration=3.0)
    assert run(*words(corpus, tmp_path / "out", *ONE_EPOCH, *ONE_IN_TWELVE)) == 0
    assert skipped(tmp_path / "out") == [("train", "000.wav", "fewer_frames_than_labels")]
    assert_trained(tmp_path / "out")


def test_a_file_that_is_gone_since_it_was_indexed_is_skipped(corpus: Path, tmp_path: Path):
    assert run(*words(corpus, tmp_path / "first", *ONE_EPOCH, "--audio_cache_max_gb", "0")) == 0
    (corpus / "train" / "003.wav").write_bytes(b"")
    more = [*ONE_EPOCH, *ONE_IN_TWELVE, "--audio_cache_max_gb", "0"]
    assert run(*words(corpus, tmp_path / "out", *more)) == 0
    assert [row[:2] for row in skipped(tmp_path / "out")] == [("train", "003.wav")]


def test_too_many_bad_recordings_met_while_training_stop_it_with_the_first(corpus: Path, tmp_path: Path):
    for row in (3, 5, 7):
        spoil(corpus, "train", row, "one_nan")
    with pytest.raises(CorpusError, match=r"skipped [23] of 12.*non-finite(.|\n)*over --max_skipped 0.09(.|\n)*wav"):
        run(*words(corpus, tmp_path / "out", "--max_skipped", "0.09"))
    assert {reason for *_, reason in skipped(tmp_path / "out")} == {"non_finite"}


def test_too_many_bad_recordings_met_in_evaluation_stop_it(corpus: Path, tmp_path: Path):
    spoil(corpus, "test", 1, "one_nan")
    with pytest.raises(CorpusError, match="evaluation: skipped 1 of 4 utterances"):
        run(*words(corpus, tmp_path / "out", *ONE_EPOCH))
    assert not (tmp_path / "out" / "eval_results.json").exists()


def test_strict_stops_at_the_first_bad_recording(corpus: Path, tmp_path: Path):
    spoil(corpus, "train", 5, "one_nan")
    with pytest.raises(CorpusError, match=r"005\.wav(.|\n)*--strict allows none"):
        run(*words(corpus, tmp_path / "out", "--max_skipped", "1", "--strict"))


def test_an_evaluation_of_nothing_has_no_error_rate(corpus: Path, tmp_path: Path):
    for row in range(4):
        spoil(corpus, "test", row, "one_nan")
    with pytest.raises(CorpusError, match="Nothing is left to use"):
        run(*words(corpus, tmp_path / "out", *ONE_EPOCH, "--max_skipped", "1"))


# ---- non-finite steps


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_with_a_non_finite_loss_is_skipped_and_its_utterance_named(value: float, corpus: Path, tmp_path: Path):
    poison("005", value)
    output = tmp_path / "out"
    assert run(*words(corpus, output, "--num_train_epochs", "1", "--logging_steps", "3")) == 0
    (row,) = read_rows(output / "bad_steps.jsonl")
    assert [Path(entry["file"]).name for entry in row["utterances"]] == ["005.wav"]
    assert row["non_finite"] == "loss" and row["utterances"][0]["loss"] == str(value) and len(row["all_ids"]) == 2
    assert read_json(output / "train_results.json")["skipped_steps"] == 1
    assert_trained(output, num_losses=2)
    history = read_json(output / "trainer_state.json")["log_history"]
    assert math.isfinite(read_json(output / "train_results.json")["train_loss"])
    assert history[-2]["skipped_steps"] == 1 or history[0]["skipped_steps"] == 1


def test_the_logged_loss_is_the_mean_over_the_steps_that_were_taken(corpus: Path, tmp_path: Path):
    poison("005", math.nan)
    more = ["--num_train_epochs", "1", "--mask_time_prob", "0"]
    assert run(*words(corpus, tmp_path / "each", *more)) == 0
    assert run(*words(corpus, tmp_path / "all", *more, "--logging_steps", "6")) == 0
    each = losses(tmp_path / "each")
    assert len(each) == 6 and sum(math.isnan(loss) for loss in each) == 1
    (mean,) = losses(tmp_path / "all")
    assert mean == pytest.approx(sum(loss for loss in each if loss == loss) / 5)


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "adamw_torch", "sgd"])
def test_a_skipped_step_changes_no_weight_and_no_moment(optim: str, corpus: Path, tmp_path: Path):
    more = ["--max_steps", "3", "--save_steps", "1", "--optim", optim, "--weight_decay", "0.1"]
    run(*words(corpus, tmp_path / "before", *more))
    poison("", math.nan, first=3, last=3)
    run(*words(corpus, tmp_path / "out", *more))
    after, before = tmp_path / "out" / "checkpoint-3", tmp_path / "before" / "checkpoint-2"
    assert_same_weights(after, before)
    states = [torch.load(folder / "optimizer.pt", weights_only=True)["state"] for folder in (after, before)]
    assert states[0].keys() == states[1].keys()
    for number, state in states[1].items():
        assert all(torch.equal(value, states[0][number][name]) for name, value in state.items() if value is not None)


def test_too_many_bad_steps_in_a_row_stop_with_a_saved_state(corpus: Path, tmp_path: Path):
    poison_all()
    output = tmp_path / "out"
    with pytest.raises(TrainingError, match=r"20 steps had a non-finite loss(.|\n)*bad_steps\.jsonl") as caught:
        run(*words(corpus, output, "--num_train_epochs", "9", "--save_steps", "100"))
    assert caught.value.exit_code == 1
    assert (output / "checkpoint-20" / "manifest.json").exists() and not (output / "model.safetensors").exists()
    assert len(read_rows(output / "bad_steps.jsonl")) == 20
    state = read_json(output / "checkpoint-20" / "trainer_state.json")
    assert all(math.isnan(row["loss"]) for row in state["log_history"])


def test_bad_steps_after_the_checkpoint_are_named_once_after_a_resume(corpus: Path, tmp_path: Path):
    losses_before = CtcRecogniser.losses
    poison("", math.nan, first=6, last=6)
    output = tmp_path / "out"
    assert run(*words(corpus, output, "--num_train_epochs", "1", "--save_steps", "4")) == 0
    for path in (output / "checkpoint-6").iterdir():
        path.unlink()
    assert [row["step"] for row in read_rows(output / "bad_steps.jsonl")] == [6]
    CtcRecogniser.losses = losses_before
    poison("", math.nan, first=2, last=2)
    assert run(*words(corpus, output, "--num_train_epochs", "1", "--save_steps", "4")) == 0
    assert [row["step"] for row in read_rows(output / "bad_steps.jsonl")] == [6]
    assert read_json(output / "train_results.json")["skipped_steps"] == 1


# ---- two processes


def test_two_processes_skip_and_name_what_either_meets(server: ForkServer, corpus: Path, tmp_path: Path):
    for row in (3, 8):
        spoil(corpus, "train", row, "one_nan")
    spoil(corpus, "test", 1, "one_nan")
    command = ["train", *words(corpus, tmp_path / "out", *ONE_EPOCH, "--max_skipped", "0.5")]
    ended = server.run(command, processes=2, environment={"SPEECHTUNE_CACHE": str(tmp_path / "cache")})
    assert ended.codes == [0, 0], ended.output
    assert sorted(skipped(tmp_path / "out")) == [
        ("test", "001.wav", "non_finite"),
        ("train", "003.wav", "non_finite"),
        ("train", "008.wav", "non_finite"),
    ]
    assert_trained(tmp_path / "out", num_losses=3)


def test_two_processes_skip_a_bad_step_together(server: ForkServer, corpus: Path, tmp_path: Path):
    command = ["train", *words(corpus, tmp_path / "out", *ONE_EPOCH)]
    ended = server.run(
        command,
        processes=2,
        setup="reliability.faults:poison",
        environment={"SPEECHTUNE_CACHE": str(tmp_path / "cache")},
    )
    assert ended.codes == [0, 0], ended.output
    (row,) = read_rows(tmp_path / "out" / "bad_steps.jsonl")
    assert [Path(entry["file"]).name for entry in row["utterances"]] == ["005.wav"] and len(row["all_ids"]) == 4
    found = losses(tmp_path / "out")
    assert len(found) == 3 and sum(math.isnan(loss) for loss in found) == 1
    assert "005.wav" in json.dumps(row)


def test_two_processes_stop_together_where_too_much_is_skipped(server: ForkServer, corpus: Path, tmp_path: Path):
    for row in (3, 5, 7):
        spoil(corpus, "train", row, "one_nan")
    command = ["train", *words(corpus, tmp_path / "out", "--max_skipped", "0.09")]
    ended = server.run(command, processes=2, environment={"SPEECHTUNE_CACHE": str(tmp_path / "cache")})
    assert ended.codes == [2, 2], ended.output
    assert "over --max_skipped 0.09" in ended.output and "Traceback" not in ended.output
