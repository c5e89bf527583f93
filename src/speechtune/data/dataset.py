"""Turn rows of a prepared split into batches, in a loader worker, for training and evaluation.

A recording that turns out to be unusable when it is decoded is skipped and listed in the batch (`skipped`). A batch
without utterances (all skipped, or a process without a share of a short last step) becomes a dummy batch: one second of
silence with weight 0, so that processes stay in step.
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.queues import Queue
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from speechtune.audio.reader import AudioReader
from speechtune.data.batching import BatchSettings, EpochPart, plan_epoch, split_step
from speechtune.data.prepare import Limits, PreparedSplit, check_decoded
from speechtune.errors import AudioError
from speechtune.models.batch import IGNORED_LABEL, Batch, Item
from speechtune.models.inputs import ModelInput
from speechtune.types import Skipped, Utterance

__all__ = ["BatchMaker", "SpeechDataset", "StepSampler", "evaluation_loader", "stream_loader", "training_loader"]


class BatchMaker:
    """Makes a batch of items: reads and decodes the audio, computes features, pads.

    Args:
        reader: audio at the model's rate.
        model_input: samples to padded inputs.
        min_length: inputs are padded to at least this many samples or frames (SpecAugment's masks must fit).
        split: name, for what is skipped.
        limits: what training skips, checked again now that the audio is decoded; None (evaluation) skips only what
            can't be decoded, and lists what is too long for one pass in the batch's `long`.
    """

    def __init__(
        self,
        reader: AudioReader,
        model_input: ModelInput,
        *,
        min_length: int = 0,
        split: str = "",
        limits: Limits | None = None,
    ) -> None:
        self.reader, self.model_input, self.min_length, self.split = reader, model_input, min_length, split
        self.limits = limits

    def __call__(self, items: Sequence[Item], skipped: Sequence[Skipped] = ()) -> Batch:
        kept: list[Item] = []
        long: list[Item] = []
        features: list[Any] = []
        skipped = list(skipped)
        seconds = 0.0
        for item in items:
            try:
                limit_s = math.inf if self.limits is None else self.limits.max_decoded_s
                samples = self.reader.pcm(item.utterance, max_duration_s=limit_s)
                duration_s = len(samples) / self.reader.sampling_rate
                if self.limits is None and duration_s > self.model_input.max_whole_s:
                    long.append(item)
                else:
                    if self.limits is not None:
                        rate = self.reader.sampling_rate
                        check_decoded(item.utterance, item.text, item.labels, samples, rate, self.limits)
                    features.append(self.model_input.features(samples))
                    kept.append(item)
            except AudioError as error:
                utterance = item.utterance
                skipped.append(_skipped(self.split, utterance.id, utterance.file, error, utterance.duration_s))
                continue
            seconds += duration_s
        labels = [item.labels for item in kept]
        if not kept:
            silence = np.zeros(self.reader.sampling_rate, np.float32)
            features, labels = [self.model_input.features(silence)], [np.zeros(0, np.int64)]
        inputs = self.model_input.pad(features, min_length=self.min_length)
        return Batch(
            utterances=[_without_bytes(item.utterance) for item in kept],
            texts=[item.text for item in kept],
            rows=[item.row for item in kept],
            inputs={name: torch.from_numpy(value) for name, value in inputs.items()},
            labels=torch.from_numpy(_pad_labels(labels)),
            label_lengths=[len(row) for row in labels],
            input_lengths=[len(f) for f in features],
            seconds=seconds,
            skipped=skipped,
            long=long,
        )


def _without_bytes(utterance: Utterance) -> Utterance:
    """Drop a recording's bytes, which need not travel between processes; a path may."""
    return utterance if isinstance(utterance.audio, str) else replace(utterance, audio="")


def _skipped(split: str, id: str, file: str, error: AudioError, duration_s: float = float("nan")) -> Skipped:
    return Skipped(split, id, file, error.reason, " ".join(str(error).split()), duration_s)


class SpeechDataset(Dataset[Batch]):
    """Batches of rows of a prepared split."""

    def __init__(self, split: PreparedSplit, make_batch: BatchMaker) -> None:
        self.split = split
        self.make_batch = make_batch

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, row: int) -> Batch:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        split = self.split
        items: list[Item] = []
        skipped: list[Skipped] = []
        for row in rows:
            try:
                items.append(Item(row, split.table[row], split.texts[row], split.labels(row)))
            except AudioError as error:  # noqa: PERF203 - a shard changed or removed since it was indexed
                name = split.table.select([row]).ids[0]
                skipped.append(_skipped(split.table.split, name, name, error))
        return self.make_batch(items, skipped)


class StepSampler(Sampler[list[int]]):
    """The rows that this process trains on: one list for each forward pass, in the order of the plan.

    Args:
        durations_s: of all rows, (N,).
        settings: size of a whole step, over processes and accumulation.
        rank, world_size: this process among all.
        accumulation: forward passes of one step on one process.
    """

    def __init__(
        self,
        durations_s: NDArray[np.floating[Any]],
        settings: BatchSettings,
        *,
        rank: int = 0,
        world_size: int = 1,
        accumulation: int = 1,
    ) -> None:
        self.durations_s = durations_s
        self.settings = settings
        self.rank, self.world_size, self.accumulation = rank, world_size, accumulation
        self.num_steps = len(plan_epoch(durations_s, settings, epoch=0))
        self.epoch = 0
        self._resumed_epoch = -1
        self._done: tuple[EpochPart, ...] = ()

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def resume(self, epoch: int, done: Sequence[EpochPart]) -> int:
        """Skip, in `epoch`, what was trained before; return the step of the epoch to resume at.

        An epoch started with other settings may have fewer steps left than its number of steps says; it is then
        counted from a later step.
        """
        self._resumed_epoch, self._done = epoch, tuple(done)
        remaining = len(plan_epoch(self.durations_s, self.settings, epoch=epoch, done=self._done))
        return max(self.num_steps - remaining, 0)

    def steps(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the steps of an epoch that are left, (n,) rows each."""
        done = self._done if epoch == self._resumed_epoch else ()
        steps = plan_epoch(self.durations_s, self.settings, epoch=epoch, done=done)
        if len(steps) > self.num_steps:  # other settings can need a step more than the whole epoch has
            steps[self.num_steps - 1 :] = [np.concatenate(steps[self.num_steps - 1 :])]
        return steps

    def __len__(self) -> int:
        return self.num_steps * self.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        steps = self.steps(self.epoch)
        # A loader that skips what was trained skips lists; those before the resumed step are placeholders.
        for _ in range((self.num_steps - len(steps)) * self.accumulation):
            yield []
        for rows in steps:
            parts = split_step(rows, self.durations_s, num_parts=self.world_size * self.accumulation)
            # Neighbours have similar lengths: different processes take them at the same time.
            for part in parts[self.rank :: self.world_size]:
                yield part.tolist()


def training_loader(
    dataset: SpeechDataset, sampler: StepSampler, *, num_workers: int, pin_memory: bool
) -> DataLoader[Batch]:
    """Return a loader over a step sampler; workers make whole batches."""
    return DataLoader(dataset, batch_sampler=sampler, pin_memory=pin_memory, **_workers(num_workers))


def evaluation_loader(
    dataset: SpeechDataset, *, batch_size: int, rank: int = 0, world_size: int = 1, num_workers: int = 0
) -> DataLoader[Batch]:
    """Return a loader of batches of similar length, longest first; each utterance goes to exactly one process."""
    durations = np.nan_to_num(dataset.split.table.durations_s, nan=np.inf)
    order = np.argsort(-durations, kind="stable")
    batches = [order[i : i + batch_size].tolist() for i in range(0, len(order), batch_size)]
    return DataLoader(dataset, batch_sampler=batches[rank::world_size], **_workers(num_workers))


def stream_loader(dataset: IterableDataset[Batch], *, num_workers: int, pin_memory: bool) -> DataLoader[Batch]:
    """Return a loader over an iterable dataset that makes whole batches."""
    return DataLoader(dataset, batch_size=None, pin_memory=pin_memory, **_workers(num_workers))


def _workers(num_workers: int) -> dict[str, Any]:
    return {
        "collate_fn": _as_is,
        "num_workers": num_workers,
        "prefetch_factor": 4 if num_workers else None,
        # Its own generator: making an iterator must not advance the training's.
        "generator": torch.Generator().manual_seed(0),
        "multiprocessing_context": "fork" if num_workers else None,
        "worker_init_fn": _begin_worker,
    }


# Of iterators whose start failed, as with a full /dev/shm: else torch's __del__ prints a traceback
_MultiProcessingDataLoaderIter._shutdown = True


def _as_is(batch: Batch) -> Batch:
    return batch


def _begin_worker(worker_id: int) -> None:
    Queue._on_queue_feeder_error = staticmethod(_end_worker)  # type: ignore[attr-defined]
    _leave_signals_to_parent()


def _end_worker(error: Exception, batch: Any) -> NoReturn:
    """End a loader worker that can't send a batch, as with a full /dev/shm: the parent would wait for it forever."""
    os._exit(1)


def _leave_signals_to_parent() -> None:
    """Keep a loader worker alive when a terminal or a scheduler signals all processes of a run.

    The parent handles the signal, and needs batches to finish its step and save; so the worker leaves the parent's
    process group. SIGTERM from the parent still ends it.
    """
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _pad_labels(labels: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    padded = np.full((len(labels), max(1, max(len(row) for row in labels))), IGNORED_LABEL, np.int64)
    for target, row in zip(padded, labels, strict=True):
        target[: len(row)] = row
    return padded
