"""A killed run on a stream goes on in the same pass of it: the same utterances, the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from reliability.forks import ForkServer, read_seen
from reliability.tiny import RANDOMNESS, assert_same_weights, run, words, write_corpus
from standins.shards import rows_of, write_tar


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.long)])
def test_killed_on_a_stream_the_same_command_ends_with_the_same_weights(
    workers: str, server: ForkServer, tmp_path: Path
):
    tokenizer = tmp_path / "trained"
    assert run(*words(write_corpus(tmp_path / "corpus"), tokenizer, "--max_steps", "1")) == 0
    shards = tmp_path / "shards"
    shards.mkdir()
    for number in range(3):
        write_tar(shards / f"train-{number}.tar", rows_of(number))
    write_tar(shards / "test-0.tar", rows_of(0))
    more = ["--streaming", "--shuffle_buffer_size", "8", "--max_steps", "8", "--tokenizer_name_or_path", str(tokenizer)]
    commands = {
        name: ["train", *words(shards, tmp_path / name, *RANDOMNESS, *more, "--dataloader_num_workers", workers)]
        for name in ("whole", "killed")
    }
    cache = {"SPEECHTUNE_CACHE": str(tmp_path / "cache")}
    whole = server.run(commands["whole"], environment=cache, seen=tmp_path / "seen-whole")
    assert whole.code == 0, whole.output
    how = {"environment": cache, "seen": tmp_path / "seen-killed"}
    for call in (6, 2):  # the second time, between two checkpoints of the resumed run
        kill_at = ("speechtune.trainer:SpeechTrainer.compute_loss", call)
        assert server.run(commands["killed"], kill_at=kill_at, **how).code == -9
    again = server.run(commands["killed"], **how)
    assert again.code == 0 and "going on from" in again.output, again.output
    assert read_seen(tmp_path / "seen-killed") == read_seen(tmp_path / "seen-whole")
    assert_same_weights(tmp_path / "killed", tmp_path / "whole")
