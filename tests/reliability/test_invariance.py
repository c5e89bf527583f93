"""The same training and the same scores, however they are batched and shared out, or interrupted and resumed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from reliability.forks import ForkServer, read_seen
from reliability.tiny import (
    CALM,
    RANDOMNESS,
    assert_same_weights,
    losses,
    read_json,
    read_rows,
    run,
    weights,
    words,
    write_clip,
    write_corpus,
    write_manifest,
)

STEP = "speechtune.training.trainer:SpeechTrainer.compute_loss"
FOUR = ["--per_device_train_batch_size", "4"]


class Reference:
    """One process, four utterances a step."""

    def __init__(self, server: ForkServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.corpus = write_corpus(folder / "corpus", num_train=14, num_test=5)  # the last step is a short one
        self.losses, self.seen, self.scores = self.trained(folder / "one", *FOUR)

    def trained(
        self, output: Path, *more: str, processes: int = 1, stop: tuple[str, int] | None = None
    ) -> tuple[list[float], dict[int, tuple[int, list[str]]], dict[str, float]]:
        """Losses, rows and scores of a run, or of what there is of it where it is stopped."""
        command = ["train", *words(self.corpus, output, *CALM, *more)]
        seen = output.with_name(f"{output.name}-seen")
        ended = self.server.run(
            command,
            processes=processes,
            seen=seen,
            kill_at=stop,
            kill_with=(signal.SIGTERM,),
            environment={"SPEECHTUNE_CACHE": str(self.folder / "cache")},
        )
        assert set(ended.codes) == {143 if stop else 0}, ended.output
        if stop:
            return [], read_seen(seen), {}
        results = read_json(output / "eval_results.json")
        return losses(output), read_seen(seen), {name: results[name] for name in ("eval_wer", "eval_cer", "eval_loss")}


@pytest.fixture(scope="module")
def reference(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return Reference(server, tmp_path_factory.mktemp("reference"))


SHARED_OUT = {
    "two processes": (2, ["--per_device_train_batch_size", "2"]),
    "two rounds": (1, ["--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "2"]),
    "two processes, two rounds": (2, ["--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "2"]),
    "four processes": (4, ["--per_device_train_batch_size", "1", "--dataloader_num_workers", "1"]),
}


@pytest.mark.parametrize(
    "how", ["two processes", *(pytest.param(how, marks=pytest.mark.long) for how in list(SHARED_OUT)[1:])]
)
def test_a_step_does_not_depend_on_how_it_is_shared_out(how: str, reference: Reference, tmp_path: Path):
    processes, more = SHARED_OUT[how]
    found, seen, scores = reference.trained(tmp_path / "out", *more, processes=processes)
    assert seen == reference.seen
    assert found == pytest.approx(reference.losses, rel=1e-5)
    assert scores == pytest.approx(reference.scores, rel=1e-5)
    theirs = weights(reference.folder / "one")
    assert all(bool((tensor - theirs[name]).abs().max() < 1e-4) for name, tensor in weights(tmp_path / "out").items())


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_run_resumes_with_another_number_of_processes(before: int, after: int, reference: Reference, tmp_path: Path):
    output = tmp_path / "out"
    batch = {1: FOUR, 2: ["--per_device_train_batch_size", "2", "--dataloader_num_workers", "1"]}
    reference.trained(output, *batch[before], processes=before, stop=(STEP, 6))
    found, seen, scores = reference.trained(output, *batch[after], processes=after)
    assert seen == reference.seen
    assert found == pytest.approx(reference.losses, rel=1e-5)
    assert scores == pytest.approx(reference.scores, rel=1e-5)


@pytest.mark.parametrize("size", [["--per_device_train_batch_size", "3"], ["--batch_seconds", "1.5"]])
def test_a_run_resumes_with_another_batch_size_each_utterance_once_an_epoch(
    size: list[str], reference: Reference, tmp_path: Path
):
    output = tmp_path / "out"
    reference.trained(output, *FOUR, stop=(STEP, 6))  # the second step of the second epoch
    found, seen, _ = reference.trained(output, *size, "--num_train_epochs", "3")
    assert len(found) == len(seen)
    for epoch in (0, 1, 2):
        taken = [name for number, ids in seen.values() if number == epoch for name in ids]
        assert sorted(taken) == sorted({name for _, ids in reference.seen.values() for name in ids})


@pytest.mark.parametrize(("steps", "stop", "after"), [(15, 5, "1"), pytest.param(20, 15, "14", marks=pytest.mark.long)])
def test_max_steps_are_counted_over_an_interruption_with_another_batch_size(
    steps: int, stop: int, after: str, reference: Reference, tmp_path: Path
):
    more = ["--max_steps", str(steps), "--per_device_train_batch_size"]
    reference.trained(tmp_path / "out", *more, "7", stop=(STEP, stop))
    found, _, _ = reference.trained(tmp_path / "out", *more, after)
    assert len(found) == steps


def test_half_an_epoch_stays_half_an_epoch_over_an_interruption(reference: Reference, tmp_path: Path):
    output = tmp_path / "out"
    reference.trained(output, *FOUR, "--num_train_epochs", "1.5", stop=(STEP, 3))
    found, _, _ = reference.trained(output, *FOUR, "--num_train_epochs", "1.5")
    assert found == pytest.approx(reference.losses[:3] + found[3:], rel=1e-5) and len(found) == 6


# ---- to the bit


def test_loader_workers_change_nothing(corpus: Path, tmp_path: Path):
    for workers in ("0", "2"):
        more = [*RANDOMNESS, "--dataloader_num_workers", workers, "--num_train_epochs", "1", "--save_steps", "100"]
        assert run(*words(corpus, tmp_path / workers, *more)) == 0
    assert_same_weights(tmp_path / "0", tmp_path / "2")
    assert read_rows(tmp_path / "0" / "hypotheses.jsonl") == read_rows(tmp_path / "2" / "hypotheses.jsonl")


def test_the_audio_cache_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also for recordings that don't fit into 16 bits at the model's rate: at 44.1 kHz, as floats."""
    corpus = tmp_path / "corpus"
    rows = []
    for index in range(6):
        write_clip(corpus / f"{index}.wav", 0.3 + 0.05 * index, seed=index, sampling_rate=44_100, subtype="FLOAT")
        rows.append({"audio": f"{index}.wav", "text": "bir iki"})
    write_manifest(corpus, "train", rows)
    write_manifest(corpus, "test", rows[:2])
    monkeypatch.setenv("SPEECHTUNE_CACHE", str(tmp_path / "cache"))
    caches = {
        "off": ["--audio_cache_max_gb", "0"],
        "empty": [],
        "full": [],
        "too small": ["--audio_cache_max_gb", "0.00003"],
    }
    for name, more in caches.items():
        if name == "too small":
            monkeypatch.setenv("SPEECHTUNE_CACHE", str(tmp_path / "other"))
        assert run(*words(corpus, tmp_path / name, *RANDOMNESS, *more, "--save_steps", "100", "--force")) == 0
        assert_same_weights(tmp_path / name, tmp_path / "off")


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_scores_do_not_depend_on_the_evaluation_batch(norm: str, corpus: Path, tmp_path: Path):
    model = {"feat_extract_norm": norm, "do_stable_layer_norm": norm == "layer"}
    trained = tmp_path / "trained"
    assert run(*words(corpus, trained, "--max_steps", "2", model=model)) == 0
    found = {}
    for size in (1, 3, 4):
        output = tmp_path / str(size)
        argv = ["--model_name_or_path", str(trained), "--dataset_name", str(corpus), "--output_dir", str(output)]
        more = ["--per_device_eval_batch_size", str(size), "--precision", "fp32", "--use_cpu", "true"]
        assert run(*argv, *more, command="evaluate") == 0
        found[size] = read_json(output / "eval_results.json")
        assert read_rows(output / "hypotheses.jsonl") == read_rows(tmp_path / "1" / "hypotheses.jsonl")
        assert found[size]["scores"] == found[1]["scores"]
        assert found[size]["eval_loss"] == pytest.approx(found[1]["eval_loss"], rel=1e-5)
