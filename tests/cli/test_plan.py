"""`speechtune plan` shows what a training would do, and leaves no trace of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from reliability.faults import one_nan
from reliability.tiny import read_manifest, words, write_clip, write_corpus, write_manifest

from speechtune.cli.main import main

STEPS = ["--save_steps", "10", "--per_device_train_batch_size", "4", "--max_skipped", "0.2"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 utterances to train on and 6 to evaluate on; three more are too long, damaged and without a transcript."""
    folder = write_corpus(tmp_path_factory.mktemp("corpus") / "recordings", num_train=40, num_test=6)
    write_clip(folder / "train/long.wav", 25, seed=3)
    (folder / "train/bad.wav").write_bytes(b"RIFFxxxx")
    rows = [("long", "on"), ("bad", "on"), ("000", "")]
    more = [{"audio": f"train/{name}.wav", "text": text} for name, text in rows]
    write_manifest(folder, "train", [*read_manifest(folder, "train"), *more])
    return folder


def planned(capsys: pytest.CaptureFixture[str], argv: list[str]) -> dict[str, str]:
    """What the command printed, by the word in front: its text on one line."""
    capsys.readouterr()
    assert main(["plan", *argv]) == 0
    said = capsys.readouterr()
    assert "Traceback" not in said.err and "speechtune-plan-" not in said.out + said.err
    assert max(len(line) for line in said.out.splitlines() if "/" not in line) <= 80  # a long path is not broken
    text = re.sub(r"\n {12}", " ", said.out)
    return {name: rest.strip() for name, _, rest in (line.partition(" ") for line in text.splitlines())}


def test_a_plan_has_splits_model_batches_and_steps(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    plan = planned(capsys, words(corpus, tmp_path / "out", *STEPS, "--no_measure"))
    assert plan == {
        "corpus": "recordings",
        "train": "train: 40 utterances, 18 s; 3 of 43 skipped: 1 undecodable, 1 too long, 1 with an empty transcript",
        "evaluation": "test: 6 utterances, 2.2 s",
        "model": "wav2vec2 (CTC) from random weights: 6,727 parameters, 5,511 trained, 19 tokens",
        "precision": plan["precision"],
        "batches": "4 utterances per step, of similar length",
        "steps": "10 per epoch, 20 in all",
        "disk": "decoded audio 1 MB, model 1 MB, 2 checkpoints of 1 MB, optimiser state of the last two 1 MB",
        "output": str(tmp_path / "out"),
    }
    assert plan["precision"].startswith("float32 on the CPU")
    assert not (tmp_path / "out").exists()


def test_memory_and_time_are_measured_on_trial_steps(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    plan = planned(capsys, words(corpus, tmp_path / "out", *STEPS))
    memory = re.fullmatch(r"([\d.]+) GB of memory, for the batch with the most audio", plan["memory"])
    assert memory is not None and 0 < float(memory[1]) < 100
    seconds = r"about ([\d.]+) s per epoch, ([\d.]+) s in all, without evaluation; measured on 3 steps"
    time = re.fullmatch(seconds, plan["time"])
    assert time is not None and 0 < float(time[1]) < float(time[2])
    assert plan["all"].startswith("weights 1 MB, estimated: weights 1 MB, gradients 1 MB, ")  # "all weights" in front
    assert plan["all"].endswith("; fits a GPU of 8 GB")
    assert not (tmp_path / "out").exists()


def test_all_weights_and_low_rank_updates_are_compared_whichever_is_asked_for(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from trained_folders import ctc_folder

    monkeypatch.setenv("COLUMNS", "80")
    base = ["--model_name_or_path", str(ctc_folder(tmp_path / "base")), "--mask_time_prob", "0", "--no_baseline"]
    argv = words(corpus, tmp_path / "out", *STEPS, *base)
    i = argv.index("--model_config")
    argv = [*argv[:i], *argv[i + 2 :]]
    full, low_rank = planned(capsys, argv), planned(capsys, [*argv, "--lora", "r=2"])
    for plan in (full, low_rank):
        assert "estimated" in plan["all"] and "estimated" in plan["LoRA"]
    assert "adapter 1 MB" in low_rank["disk"] and "model 1 MB" in full["disk"]


def test_what_the_user_should_know_comes_last(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    plan = planned(capsys, words(corpus, tmp_path / "out", *STEPS, "--no_measure", "--chars_to_ignore", "k"))
    assert list(plan)[-1] == "note" and plan["note"].startswith("warning: --chars_to_ignore deletes letters: k ")


def test_a_batch_size_that_trial_steps_would_find_is_left_open_without_them(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("speechtune.training.build._largest_batch_seconds", None)  # not called
    argv = [*words(corpus, tmp_path / "out", "--batch_seconds", "auto", "--no_measure"), "--max_skipped", "0.2"]
    plan = planned(capsys, argv)
    assert plan["batches"] == (
        "all the audio that fits (--batch_seconds auto): found by trial steps when training starts"
    )
    assert "steps" not in plan and "time" not in plan


def test_a_run_with_a_checkpoint_is_resumed_and_its_folder_stays_as_it_is(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "out"
    argv = words(corpus, out, *STEPS, "--do_eval", "false")
    assert main(["train", *argv, "--max_steps", "10"]) == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    plan = planned(capsys, [*argv, "--no_measure"])
    assert plan["steps"] == "10 per epoch, 20 in all, 10 done"
    assert plan["output"] == f"{out}: resumes from checkpoint-10"
    assert "evaluation" not in plan
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    again = planned(capsys, [*argv, "--no_measure", "--overwrite_output_dir"])
    assert again["output"] == f"{out}: replaces the results of an earlier run"


def test_an_output_folder_that_cannot_be_made_is_refused(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("")
    assert main(["plan", *words(corpus, tmp_path / "file" / "new" / "out", *STEPS, "--no_measure")]) == 2
    assert f"{tmp_path / 'file'}: can't be written: Not a directory." in capsys.readouterr().err


def test_a_plan_refuses_recordings_that_training_would_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    corpus = write_corpus(tmp_path / "corpus", num_train=4, num_test=2)
    for path in (corpus / "train").iterdir():
        one_nan(path)
    assert main(["plan", *words(corpus, tmp_path / "out")]) == 2
    assert "4 with non-finite samples" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--strict"], "train: skipped 3 of 43 utterances"),
        (["--eval_split_name", "exam"], "no split 'exam'"),
        (["--learnin_rate", "1"], "`speechtune plan --help` lists the options"),
    ],
)
def test_what_training_would_refuse_is_one_message(
    more: list[str], message: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["plan", *words(corpus, tmp_path / "out", *STEPS, "--no_measure", *more)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and message in said.err
    assert "skipped.jsonl" not in said.err and "Traceback" not in said.err
    assert not (tmp_path / "out").exists()
