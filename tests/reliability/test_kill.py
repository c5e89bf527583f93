"""kill -9 at any moment, then the same command again: the same final weights, every utterance once an epoch."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from reliability.forks import ForkServer, read_seen
from reliability.tiny import RANDOMNESS, assert_same_weights, read_json, words, write_corpus

KILLED = -9
EVALUATING = ["--eval_strategy", "steps", "--eval_steps", "3", "--save_total_limit", "2"]
POINTS = [
    ("speechtune.models.ctc.setup:ctc_model", 1),  # the vocabulary is in the output folder, nothing else
    ("speechtune.audio.cache_files:_write_all", 6),  # samples in the decoded-audio cache without their record
    ("speechtune.training.trainer:SpeechTrainer.compute_loss", 8),  # in the second epoch, beside a checkpoint
    ("speechtune.training.resume:finish_checkpoint", 2),  # all files written, not yet renamed
    ("speechtune.training.resume:DataState.write", 3),  # amid the files of a checkpoint
    ("speechtune.training.trainer:recognise_split", 2),  # in an evaluation
]
MORE_POINTS = [
    ("speechtune.corpora.index:TableWriter.write", 1),  # the index of the training split is read, not yet written
    ("speechtune.corpora.index:json.dump", 2),  # the second index has its table, not its last file
    ("speechtune.training.trainer:SpeechTrainer.compute_loss", 1),  # before the first step
    ("speechtune.plan.checkpoints:write_atomically", 4),  # somewhere in a checkpoint's manifest or before
    ("speechtune.training.resume:rotate_checkpoints", 3),
    ("speechtune.training.session:Session._save_model", 1),  # trained, not saved
    ("speechtune.training.evaluations:write_evaluation", 1),
]


class Undisturbed:
    """The corpus, and a run that nothing happened to."""

    def __init__(self, server: ForkServer, folder: Path) -> None:
        self.corpus = write_corpus(folder / "corpus")
        self.output = folder / "undisturbed"
        cache = {"SPEECHTUNE_CACHE": str(folder / "cache")}
        ended = server.run(self.command(self.output), environment=cache, seen=folder / "seen")
        assert ended.code == 0, ended.output
        self.seconds = ended.seconds
        self.seen = read_seen(folder / "seen")

    def command(self, output: Path, *more: str) -> list[str]:
        return ["train", *words(self.corpus, output, *RANDOMNESS, *EVALUATING, *more)]


@pytest.fixture(scope="module")
def undisturbed(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(server, tmp_path_factory.mktemp("undisturbed"))


def assert_same_run(output: Path, seen: Path, undisturbed: Undisturbed) -> None:
    assert_same_weights(output, undisturbed.output)
    assert read_seen(seen) == undisturbed.seen
    ours, theirs = (read_json(folder / "eval_results.json") for folder in (output, undisturbed.output))
    assert ours["scores"] == theirs["scores"] and ours["eval_loss"] == theirs["eval_loss"]
    states = [read_json(folder / "trainer_state.json") for folder in (output, undisturbed.output)]
    for name in ("global_step", "best_metric", "best_global_step"):
        assert states[0][name] == states[1][name]
    assert not list(output.glob("tmp-*")) and not list(output.glob(".*.tmp"))


def test_an_undisturbed_run_takes_every_utterance_once_an_epoch(undisturbed: Undisturbed):
    for epoch in (0, 1):
        taken = [name for number, ids in undisturbed.seen.values() if number == epoch for name in ids]
        assert len(taken) == len(set(taken)) == 12


@pytest.mark.parametrize(
    "kill_at",
    [*POINTS, *(pytest.param(point, marks=pytest.mark.long) for point in MORE_POINTS)],
    ids=lambda point: f"{point[0].rpartition(':')[2]}-{point[1]}",
)
def test_killed_at_a_chosen_moment_the_same_command_ends_with_the_same_weights(
    kill_at: tuple[str, int], server: ForkServer, undisturbed: Undisturbed, tmp_path: Path
):
    output = tmp_path / "out"
    how = {"environment": {"SPEECHTUNE_CACHE": str(tmp_path / "cache")}, "seen": tmp_path / "seen"}
    killed = server.run(undisturbed.command(output), kill_at=kill_at, **how)
    assert killed.code == KILLED, killed.output
    again = server.run(undisturbed.command(output), **how)
    assert again.code == 0, again.output
    assert_same_run(output, tmp_path / "seen", undisturbed)


def test_killed_when_some_of_the_models_files_have_moved_it_is_written_again(
    server: ForkServer, undisturbed: Undisturbed, tmp_path: Path
):
    output, cache = tmp_path / "out", {"SPEECHTUNE_CACHE": str(tmp_path / "cache")}
    setup = "reliability.faults:die_moving_model"
    killed = server.run(undisturbed.command(output), setup=setup, environment=cache)
    assert killed.code == KILLED and (output / "config.json").exists() and (output / "tmp-model").exists()
    assert server.run(undisturbed.command(output), environment=cache).code == 0
    assert_same_weights(output, undisturbed.output)
    assert not (output / "tmp-model").exists()


def test_a_batch_size_that_was_found_is_kept(server: ForkServer, undisturbed: Undisturbed, tmp_path: Path):
    cache, setup = {"SPEECHTUNE_CACHE": str(tmp_path / "cache")}, "reliability.faults:random_batch_seconds"
    command = ["train", *words(undisturbed.corpus, tmp_path / "out", *RANDOMNESS, "--batch_seconds", "auto")]
    kill_at = ("speechtune.training.trainer:SpeechTrainer.compute_loss", 4)
    assert server.run(command, setup=setup, environment=cache, kill_at=kill_at).code == KILLED
    for _ in range(2):
        ended = server.run(command, setup=setup, environment=cache)
        assert ended.code == 0, ended.output
    state = read_json(tmp_path / "out" / "trainer_state.json")
    parts = read_json(tmp_path / "out" / f"checkpoint-{state['global_step']}" / "data_state.json")["done"]
    assert len({part["settings"]["seconds_per_step"] for part in parts}) == 1


@pytest.mark.parametrize("number", [0, *(pytest.param(number, marks=pytest.mark.long) for number in range(1, 20))])
def test_killed_at_random_moments_the_same_command_ends_with_the_same_weights(
    number: int, server: ForkServer, undisturbed: Undisturbed, tmp_path: Path
):
    output, seen = tmp_path / "out", tmp_path / "seen"
    cache = {"SPEECHTUNE_CACHE": str(tmp_path / "cache")}
    moments = random.Random(number)
    command = undisturbed.command(output, "--dataloader_num_workers", str((number + 1) % 2))
    for most_s in (undisturbed.seconds, undisturbed.seconds / 2):
        server.run(command, kill_after_s=moments.uniform(0, most_s), environment=cache, seen=seen)
    again = server.run(command, environment=cache, seen=seen)
    assert again.code == 0, again.output
    assert_same_run(output, seen, undisturbed)
