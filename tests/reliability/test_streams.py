"""A killed run on a stream resumes in the same pass: the same utterances, the same weights."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from reliability.forks import ForkServer, read_seen
from reliability.tiny import RANDOMNESS, assert_same_weights, run, words, write_corpus
from standins.shards import audio_bytes as tone_of
from standins.shards import rows_of, write_tar

from speechtune.errors import CorpusError


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
        kill_at = ("speechtune.training.trainer:SpeechTrainer.compute_loss", call)
        assert server.run(commands["killed"], kill_at=kill_at, **how).code == -9
    again = server.run(commands["killed"], **how)
    assert again.code == 0 and "resuming from" in again.output, again.output
    assert read_seen(tmp_path / "seen-killed") == read_seen(tmp_path / "seen-whole")
    assert_same_weights(tmp_path / "killed", tmp_path / "whole")


def test_too_much_that_cannot_be_used_stops_a_stream_too(tmp_path: Path):
    trained = tmp_path / "trained"
    assert run(*words(write_corpus(tmp_path / "corpus"), trained, "--max_steps", "1")) == 0
    shards = tmp_path / "shards"
    shards.mkdir()
    write_tar(shards / "train-0.tar", rows_of(0, 60))
    write_tar(shards / "test-0.tar", rows_of(0))
    more = ["--streaming", "--max_steps", "60", "--tokenizer_name_or_path", str(trained), "--save_strategy", "no"]
    command = words(shards, tmp_path / "out", *more, "--chars_to_ignore", *"text0123456789")
    with pytest.raises(CorpusError, match="finds no utterance to train on"):
        run(*command)
    silence = io.BytesIO()
    sf.write(silence, np.zeros(8_000), 8_000, format="FLAC")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "standins.shards.audio_bytes", lambda key: silence.getvalue() if key.endswith("1") else tone_of(key)
        )
        write_tar(shards / "train-0.tar", rows_of(0, 120))
    with pytest.raises(CorpusError, match=r"train: skipped \d+ of \d+ utterances .* silent(.|\n)*--max_skipped 0.05"):
        run(*words(shards, tmp_path / "out", *more))
    with pytest.raises(CorpusError, match="--strict allows none"):
        run(*words(shards, tmp_path / "strict", *more, "--strict", "--max_skipped", "1"))
