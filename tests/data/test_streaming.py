"""Batches of a stream: each utterance once a pass for any number of readers, exact resume, skipped ones are named."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest

from speechtune.data.dataset import stream_loader
from speechtune.data.prepare import Limits
from speechtune.data.streaming import StreamDataset
from speechtune.errors import CorpusError
from speechtune.types import Skipped, Utterance


class Stream:
    """Numbered utterances of growing length; those of `bad` can't be read."""

    label, split = "numbers", "train"

    def __init__(self, number: int, bad: tuple[int, ...] = ()) -> None:
        self.number, self.bad = number, bad
        self.mine, self.skipped = (0, 1), []
        self.read: list[int] = []
        self.durations_s = 1.0 + np.arange(number) / 10

    def share(self, reader: int, num_readers: int, *, by_record: bool = False) -> Stream:
        other = copy.copy(self)
        other.mine, other.skipped = (reader, num_readers), []
        return other

    def __iter__(self) -> Iterator[Utterance]:
        for index in range(self.mine[0], self.number, self.mine[1]):
            self.read.append(index)
            if index in self.bad:
                self.skipped.append(Skipped("train", str(index), f"{index}.wav", "truncated"))
            else:
                yield Utterance(str(index), "", str(index), "bir", self.durations_s[index], f"{index}.wav")


class Made:
    """What a BatchMaker makes, without audio."""

    def __init__(self, items: Any) -> None:
        self.ids = [item.utterance.id for item in items]
        self.rows = [item.row for item in items]
        self.skipped: list[Skipped] = []


def dataset(stream: Stream, **how: Any) -> StreamDataset:
    settings = {"batch_size": 2, "limits": Limits(), "buffer_size": 6, **how}
    return StreamDataset(stream, Made, normalise=str, encode=lambda text: [1, 2, 3], **settings)  # type: ignore[arg-type]


def ids(batches: Any) -> list[str]:
    return [name for batch in batches for name in batch.ids]


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_has_every_utterance_once_whoever_reads_it(processes: int, workers: int):
    found = []
    for rank in range(processes):
        loader = stream_loader(
            dataset(Stream(24), rank=rank, world_size=processes), num_workers=workers, pin_memory=False
        )
        found += ids(islice(loader, 12 // processes))
    assert sorted(found, key=int) == [str(index) for index in range(24)]


@pytest.mark.parametrize("buffer_size", [1, 3, 100])
def test_a_pass_is_whole_whatever_the_buffer(buffer_size: int):
    batches = islice(iter(dataset(Stream(7), buffer_size=buffer_size)), 4)
    assert sorted(ids(batches)) == [str(index) for index in range(7)]


def test_passes_differ_and_the_same_run_is_the_same():
    batches = list(islice(iter(dataset(Stream(20))), 20))
    first, second = ids(batches[:10]), ids(batches[10:])
    assert sorted(first) == sorted(second) and first != second
    assert first == ids(islice(iter(dataset(Stream(20))), 10))
    assert first != ids(islice(iter(dataset(Stream(20), seed=7)), 10))


def test_like_lengths_are_together():
    batches = list(islice(iter(dataset(Stream(64), buffer_size=64)), 32))
    assert np.mean([abs(int(batch.ids[0]) - int(batch.ids[1])) for batch in batches]) < 8


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("skip", [1, 5, 14])
def test_a_stream_resumes_at_any_batch(skip: int, workers: int):
    def batches(**how: Any) -> Any:
        return stream_loader(dataset(Stream(20), **how), num_workers=workers, pin_memory=False)

    whole = [batch.ids for batch in islice(batches(), 20)]
    rest = [batch.ids for batch in islice(batches(skip_batches=skip), 20 - skip)]
    assert rest == whole[skip:]


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_evaluation_keeps_the_order_and_ends(processes: int):
    found: dict[int, str] = {}
    for rank in range(processes):
        for batch in dataset(Stream(7), limits=None, rank=rank, world_size=processes):
            found |= dict(zip(batch.rows, batch.ids, strict=True))
    assert [found[row] for row in sorted(found)] == [str(index) for index in range(7)]


def test_evaluation_holds_some_batches_not_the_whole_stream():
    stream = Stream(1_000)
    batches = iter(dataset(stream, limits=None))
    next(batches)
    assert len(stream.read) <= 8 * 2  # eight batches of two are sorted by length together
    assert len(ids(batches)) == 998


def test_evaluation_has_like_lengths_together():
    order = np.random.default_rng(0).permutation(64)
    stream = Stream(64)
    stream.durations_s = 1.0 + order / 10
    batches = list(dataset(stream, limits=None, batch_size=4))
    assert np.mean([np.ptp(order[batch.rows]) for batch in batches]) < 10  # unsorted about 38
    assert sorted(row for batch in batches for row in batch.rows) == list(range(64))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_evaluation_of_the_first_so_many(processes: int):
    found = []
    for rank in range(processes):
        found += ids(dataset(Stream(20), limits=None, rank=rank, world_size=processes, max_samples=5))
    assert sorted(found) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("bad", [(0,), (3,), (6,), (5, 6), tuple(range(7))])
def test_what_cannot_be_read_is_named_wherever_it_is(bad: tuple[int, ...]):
    batches = list(dataset(Stream(7, bad), limits=None))
    assert sorted(ids(batches)) == [str(index) for index in range(7) if index not in bad]
    assert sorted(int(row.id) for batch in batches for row in batch.skipped) == list(bad)
    if len(bad) < 7:
        batches = list(islice(iter(dataset(Stream(7, bad))), 8))
        assert {int(row.id) for batch in batches for row in batch.skipped} == set(bad)


def test_what_training_cannot_use_is_named():
    batches = list(islice(iter(dataset(Stream(10), limits=Limits(max_duration_s=1.5))), 6))
    assert set(ids(batches)) == {"0", "1", "2", "3", "4", "5"}
    rows = {row.id: row.reason for batch in batches for row in batch.skipped}
    assert rows == dict.fromkeys(["6", "7", "8", "9"], "too_long")


def test_a_process_without_anything_to_train_on_is_an_error():
    with pytest.raises(CorpusError, match=r"process 3 finds no utterance to train on \(0 skipped\)"):
        next(iter(dataset(Stream(3), rank=3, world_size=4)))
    with pytest.raises(CorpusError, match=r"\(3 skipped\)"):
        next(iter(dataset(Stream(3), limits=Limits(max_duration_s=0.5))))
