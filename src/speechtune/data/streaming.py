"""Batches from a stream: shuffled in a buffer, similar lengths together, starting at any batch.

A training stream never ends: it starts again with another shuffle, so that no process waits for one that ran out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import IterableDataset

from speechtune.corpora.stream import UtteranceStream
from speechtune.data.dataset import BatchMaker
from speechtune.data.prepare import Limits, reason_to_skip
from speechtune.errors import CorpusError
from speechtune.models.batch import Batch, Item
from speechtune.types import Skipped, Utterance

__all__ = ["StreamDataset"]

BATCHES_SORTED_TOGETHER = 8


class StreamDataset(IterableDataset[Batch]):
    """This process' share of a stream as batches.

    Args:
        stream: the whole stream.
        make_batch: items to a batch.
        normalise, encode: transcript -> text -> label ids.
        batch_size: utterances a batch.
        rank, world_size: this process among all.
        limits: what training skips; None (evaluation) skips nothing, doesn't shuffle, and ends with the stream.
        buffer_size: utterances that are shuffled together.
        max_samples: over all processes; None takes all.
        skip_batches: of this process, trained before an interruption; they are skipped without decoding.
    """

    def __init__(
        self,
        stream: UtteranceStream,
        make_batch: BatchMaker,
        *,
        normalise: Callable[[str], str],
        encode: Callable[[str], Sequence[int]],
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        limits: Limits | None = None,
        buffer_size: int = 500,
        seed: int = 42,
        max_samples: int | None = None,
        skip_batches: int = 0,
    ) -> None:
        self.stream, self.make_batch = stream, make_batch
        self.normalise, self.encode = normalise, encode
        self.batch_size, self.limits, self.buffer_size, self.seed = batch_size, limits, buffer_size, seed
        self.rank, self.world_size = rank, world_size
        self.max_samples, self.skip_batches = max_samples, skip_batches

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        number, of = (worker.id, worker.num_workers) if worker else (0, 1)
        # The loader takes batches from its workers in turn, from worker 0 on: it must be the one whose turn it was.
        number = (number + self.skip_batches) % of
        reader, num_readers = self.rank * of + number, self.world_size * of
        skip = (self.skip_batches - number + of - 1) // of
        batches = self._evaluation_batches if self.limits is None else self._training_batches
        for index, (items, skipped) in enumerate(batches(reader, num_readers)):
            if index < skip:
                continue
            batch = self.make_batch(items)
            batch.skipped += skipped
            yield batch

    def _evaluation_batches(self, reader: int, num_readers: int) -> Iterator[tuple[list[Item], list[Skipped]]]:
        skipped: list[Skipped] = []
        items = self._items(reader, num_readers, skipped)
        for pool in _chunks(items, self.batch_size * BATCHES_SORTED_TOGETHER):
            pool.sort(key=lambda item: -item.utterance.duration_s)
            for batch in _chunks(pool, self.batch_size):
                yield batch, skipped[:]
                skipped.clear()
        if skipped:
            yield [], skipped

    def _training_batches(self, reader: int, num_readers: int) -> Iterator[tuple[list[Item], list[Skipped]]]:
        skipped: list[Skipped] = []
        pass_number = 0
        while True:
            random = np.random.default_rng([self.seed, pass_number, reader])
            nothing = True
            shuffled = self._shuffled(self._items(reader, num_readers, skipped), random)
            for pool in _chunks(shuffled, self.batch_size * BATCHES_SORTED_TOGETHER):
                nothing = False
                pool.sort(key=lambda item: item.utterance.duration_s)
                batches = list(_chunks(pool, self.batch_size))
                for index in random.permutation(len(batches)):
                    yield batches[index], skipped[:]
                    skipped.clear()
            if nothing:
                raise CorpusError(
                    f"{self.stream.label}, split {self.stream.split}: process {self.rank} finds no utterance to train "
                    f"on ({len(skipped)} skipped).\nUse fewer processes, or look at the limits on durations."
                )
            pass_number += 1

    def _shuffled(self, items: Iterator[Item], random: np.random.Generator) -> Iterator[Item]:
        """Draw at random from a buffer that is kept full."""
        buffer: list[Item] = []
        for item in items:
            buffer.append(item)
            if len(buffer) >= self.buffer_size:
                yield _draw(buffer, random)
        while buffer:
            yield _draw(buffer, random)

    def _items(self, reader: int, num_readers: int, skipped: list[Skipped]) -> Iterator[Item]:
        # Evaluation is shared by record, so that --max_eval_samples means the first ones of the stream.
        share = self.stream.share(reader, num_readers, by_record=self.limits is None)
        most = None
        if self.max_samples is not None:
            most = self.max_samples // num_readers + (reader < self.max_samples % num_readers)
        for number, utterance in enumerate(share):
            skipped += share.skipped
            share.skipped.clear()
            if most is not None and number >= most:
                return
            item = self._item(number * num_readers + reader, utterance, skipped)
            if item is not None:
                yield item
        skipped += share.skipped  # those after the last usable one

    def _item(self, row: int, utterance: Utterance, skipped: list[Skipped]) -> Item | None:
        text = self.normalise(utterance.text).strip()
        labels = np.asarray(self.encode(text), np.int64)
        reason = None
        if self.limits is not None:
            reason = reason_to_skip(utterance.duration_s, text, labels, self.limits)
        if reason is None:
            return Item(row, utterance, text, labels)
        skipped.append(
            Skipped(self.stream.split, utterance.id, utterance.file, *reason, duration_s=utterance.duration_s)
        )
        return None


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    chunk: list[Item] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _draw(buffer: list[Item], random: np.random.Generator) -> Item:
    index = int(random.integers(len(buffer)))
    buffer[index], buffer[-1] = buffer[-1], buffer[index]
    return buffer.pop()
