"""Rows become batches: each once an epoch over all processes; what can't be used is named in the batch it left."""

from __future__ import annotations

import gc
import multiprocessing
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import audio_files
import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reliability.faults import one_nan, silent
from reliability.tiny import MODEL, write_clip

from speechtune.audio.cache import AudioCache
from speechtune.audio.reader import AudioReader
from speechtune.data.batching import BatchSettings, EpochPart
from speechtune.data.dataset import BatchMaker, Item, SpeechDataset, StepSampler, evaluation_loader, stream_loader
from speechtune.data.prepare import Limits, PreparedSplit
from speechtune.errors import AudioError
from speechtune.evaluation.evaluate import Evaluation, recognise_split
from speechtune.models.inputs import WaveformInput
from speechtune.types import Utterance

# ---- which rows


def taken(samplers: list[StepSampler], epoch: int) -> list[int]:
    rows = []
    for sampler in samplers:
        sampler.set_epoch(epoch)
        rows += [row for part in sampler for row in part]
    return sorted(rows)


def samplers_of(durations_s: Any, size: int, processes: int, rounds: int, order: str = "bucketed") -> list[StepSampler]:
    sizes = BatchSettings(utterances_per_step=size * processes * rounds, order=order)
    return [
        StepSampler(np.asarray(durations_s, float), sizes, rank=rank, world_size=processes, accumulation=rounds)
        for rank in range(processes)
    ]


@settings(max_examples=60, deadline=None)
@given(
    durations_s=st.lists(st.floats(0.1, 20), min_size=1, max_size=60),
    size=st.integers(1, 5),
    processes=st.integers(1, 4),
    rounds=st.integers(1, 3),
    order=st.sampled_from(["bucketed", "random", "sequential"]),
)
def test_processes_together_take_every_row_once_an_epoch(durations_s, size, processes, rounds, order):
    samplers = samplers_of(durations_s, size, processes, rounds, order)
    for epoch in (0, 1):
        assert taken(samplers, epoch) == list(range(len(durations_s)))
        parts = [list(sampler) for sampler in samplers]
        assert {len(of_one) for of_one in parts} == {samplers[0].num_steps * rounds} == {len(samplers[0])}


@settings(max_examples=60, deadline=None)
@given(
    durations_s=st.lists(st.floats(0.1, 20), min_size=1, max_size=60),
    before=st.tuples(st.integers(1, 5), st.integers(1, 3)),
    after=st.tuples(st.integers(1, 5), st.integers(1, 3)),
    share=st.floats(0, 1),
)
def test_a_resumed_epoch_takes_the_rest_once(durations_s, before, after, share):
    (first, *_), again = samplers_of(durations_s, *before, 1), samplers_of(durations_s, *after, 1)
    num_done = int(share * first.num_steps)
    done = np.concatenate([np.zeros(0, int), *first.steps(2)[:num_done]]).tolist()
    offsets = {sampler.resume(2, [EpochPart(first.settings, num_done)]) for sampler in again}
    assert len(offsets) == 1 and 0 <= offsets.pop() <= again[0].num_steps
    assert sorted(done + taken(again, 2)) == list(range(len(durations_s)))
    assert taken(again, 3) == list(range(len(durations_s)))


def test_the_same_command_resumes_with_the_same_steps():
    durations_s = np.linspace(1, 9, 40)
    (whole,), (again,) = samplers_of(durations_s, 3, 1, 1), samplers_of(durations_s, 3, 1, 1)
    assert again.resume(0, [EpochPart(whole.settings, 3), EpochPart(whole.settings, 2)]) == 5
    assert [rows.tolist() for rows in again.steps(0)] == [rows.tolist() for rows in whole.steps(0)[5:]]
    assert list(again)[:5] == [[]] * 5  # what a loader skips


# ---- what is in a batch


class Table:
    split = "train"

    def __init__(self, utterances: list[Utterance], gone: tuple[int, ...] = ()) -> None:
        self.utterances, self.gone = utterances, gone
        self.durations_s = np.array([said.duration_s for said in utterances], np.float32)

    def __getitem__(self, row: int) -> Utterance:
        if row in self.gone:
            raise AudioError("shard.tar: is cut short.", reason="truncated")
        return self.utterances[row]

    def select(self, rows: list[int]) -> Table:
        return Table([self.utterances[row] for row in rows])

    @property
    def ids(self) -> list[str]:
        return [said.id for said in self.utterances]


def split_of(folder: Path, durations_s: list[float], gone: tuple[int, ...] = ()) -> PreparedSplit:
    utterances = []
    for index, duration_s in enumerate(durations_s):
        path = folder / f"{index}.wav"
        write_clip(path, duration_s, seed=index)
        utterances.append(Utterance(f"id{index}", str(path), str(path), "bir", duration_s, path.name))
    ids = np.tile(np.array([1, 2, 3], np.int32), len(durations_s))
    texts = ["bir"] * len(durations_s)
    return PreparedSplit(Table(utterances, gone), texts, ids, 3 * np.arange(1, len(durations_s) + 1))


def maker(limits: Limits | None = None, **how: Any) -> BatchMaker:
    from transformers import Wav2Vec2FeatureExtractor

    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    return BatchMaker(AudioReader(16_000), WaveformInput(extractor), split="train", limits=limits, **how)


def test_a_batch_is_padded_and_says_how_much_is_real(tmp_path: Path):
    batch = SpeechDataset(split_of(tmp_path, [0.5, 0.25]), maker()).__getitems__([0, 1])
    assert batch.inputs["input_values"].shape == (2, 8000) and batch.input_lengths == [8000, 4000]
    assert batch.inputs["attention_mask"].sum(1).tolist() == [8000, 4000]
    assert batch.labels.tolist() == [[1, 2, 3], [1, 2, 3]] and batch.label_lengths == [3, 3]
    assert batch.rows == [0, 1] and batch.seconds == 0.75 and batch.skipped == []


def test_recordings_dont_travel_twice(tmp_path: Path):
    table = Table(
        [replace(row, audio=Path(row.audio).read_bytes()) for row in split_of(tmp_path, [0.5]).table.utterances]
    )
    split = PreparedSplit(table, ["bir"], np.array([1, 2, 3], np.int32), np.array([3]))
    batch = SpeechDataset(split, maker()).__getitems__([0])
    assert [said.audio for said in batch.utterances] == [""] and batch.input_lengths == [8000]


@pytest.mark.parametrize(("fault", "reason"), [(one_nan, "non_finite"), (silent, "silent")])
def test_what_training_cannot_use_leaves_the_batch(fault: Any, reason: str, tmp_path: Path):
    split = split_of(tmp_path, [0.5, 0.25, 0.4])
    fault(tmp_path / "1.wav")
    batch = SpeechDataset(split, maker(Limits())).__getitems__([0, 1, 2])
    assert batch.rows == [0, 2] and [(row.id, row.reason) for row in batch.skipped] == [("id1", reason)]


def test_evaluation_recognises_whatever_can_be_decoded(tmp_path: Path):
    split = split_of(tmp_path, [0.5, 0.25])
    silent(tmp_path / "1.wav")
    batch = SpeechDataset(split, maker()).__getitems__([0, 1])
    assert batch.rows == [0, 1] and bool(torch.isfinite(batch.inputs["input_values"]).all())


def test_a_clip_that_is_not_as_long_as_its_header_says_is_looked_at_again(tmp_path: Path):
    split = split_of(tmp_path, [0.5, 0.5])
    write_clip(tmp_path / "1.wav", 0.1, seed=1)
    limits = Limits(min_duration_s=0.2)
    batch = SpeechDataset(split, maker(limits)).__getitems__([0, 1])
    assert [(row.id, row.reason) for row in batch.skipped] == [("id1", "too_short")]


@pytest.mark.parametrize("suffix", ["wav", "mp3", "m4a"])
def test_decoding_a_recording_far_longer_than_its_table_says_stops_at_the_limit(suffix: str, tmp_path: Path):
    path = audio_files.write(tmp_path / f"long.{suffix}", audio_files.voice(9.0, 16_000), 16_000)
    utterance = Utterance("id0", str(path), "key", "bir", 1.0, path.name)
    cache = AudioCache(tmp_path / "cache", 16_000, min_free_bytes=0)
    make_batch = maker(Limits(max_duration_s=2.0))
    make_batch.reader.cache = cache
    batch = make_batch([Item(0, utterance, "bir", np.array([1, 2], np.int64))])
    assert [(row.id, row.reason) for row in batch.skipped] == [("id0", "too_long")]
    assert len(cache) == 0, "the whole recording was decoded"


@pytest.mark.parametrize("duration_s", [2.0, 2.0005])
def test_a_recording_at_the_limit_is_used(duration_s: float, tmp_path: Path):
    path = audio_files.write(tmp_path / "a.wav", audio_files.voice(duration_s, 16_000), 16_000)
    utterance = Utterance("id0", str(path), "key", "bir", 2.0, path.name)
    batch = maker(Limits(max_duration_s=2.0))([Item(0, utterance, "bir", np.array([1, 2], np.int64))])
    assert batch.skipped == [] and batch.input_lengths == [round(16_000 * duration_s)]


@pytest.mark.parametrize("rows", [[], [1]])
def test_a_dummy_batch_is_a_second_of_silence_without_weight(rows: list[int], tmp_path: Path):
    split = split_of(tmp_path, [0.5, 0.25])
    (tmp_path / "1.wav").unlink()
    batch = SpeechDataset(split, maker(Limits())).__getitems__(rows)
    assert len(batch) == 0 and batch.seconds == 0 and batch.inputs["input_values"].shape == (1, 16_000)
    assert [row.reason for row in batch.skipped] == ["missing_file"] * len(rows)


def test_a_record_of_a_shard_that_is_gone_is_named(tmp_path: Path):
    split = split_of(tmp_path, [0.5, 0.25], gone=(1,))
    batch = SpeechDataset(split, maker(Limits())).__getitems__([0, 1])
    assert batch.rows == [0]
    assert [(row.id, row.reason, row.detail) for row in batch.skipped] == [
        ("id1", "truncated", "shard.tar: is cut short.")
    ]


def test_a_clip_of_another_rate_is_resampled(tmp_path: Path):
    split = split_of(tmp_path, [0.5])
    sf.write(tmp_path / "0.wav", np.sin(np.arange(4000) / 10), 8000)
    assert SpeechDataset(split, maker()).__getitems__([0]).input_lengths == [8000]


# ---- the same scores, however an evaluation is cut and shared out


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoConfig, AutoModelForCTC

    from speechtune.models.ctc.recogniser import CtcRecogniser
    from speechtune.models.ctc.tokenizer import ctc_tokenizer
    from speechtune.models.encoder.padding import make_padding_invariant

    torch.manual_seed(0)
    fields = {**MODEL, "feat_extract_norm": "group", "do_stable_layer_norm": False, "vocab_size": 6, "pad_token_id": 5}
    model = AutoModelForCTC.from_config(AutoConfig.for_model(fields.pop("model_type"), **fields))  # type: ignore[arg-type]
    make_padding_invariant(model)
    vocabulary = {"a": 0, "b": 1, "c": 2, "|": 3, "[UNK]": 4, "[PAD]": 5}
    tokens = {"unk_token": "[UNK]", "pad_token": "[PAD]", "word_delimiter_token": "|"}
    tokenizer = ctc_tokenizer(vocabulary, tmp_path_factory.mktemp("vocabulary"), **tokens)
    return CtcRecogniser(model, tokenizer=tokenizer, model_input=maker().model_input)


class Clips:
    """A reader of noise as long as the utterance says."""

    sampling_rate = 16_000

    def pcm(self, utterance: Utterance, *, max_duration_s: float) -> Any:
        random = np.random.default_rng(int(utterance.id[2:]))
        return (3000 * random.standard_normal(int(utterance.duration_s * 16_000))).astype(np.int16)


def evaluated(recogniser: Any, durations_s: list[float], size: int, processes: int) -> Evaluation:
    utterances = [Utterance(f"id{i}", "", "", "abc", s, f"{i}.wav") for i, s in enumerate(durations_s)]
    ends = 3 * np.arange(1, len(utterances) + 1)
    ids = np.tile(np.array([0, 1, 2], np.int32), len(utterances))
    split = PreparedSplit(Table(utterances), ["abc"] * len(utterances), ids, ends)
    dataset = SpeechDataset(split, BatchMaker(Clips(), recogniser.model_input, split="test"))  # type: ignore[arg-type]
    whole = Evaluation()
    for rank in range(processes):
        loader = evaluation_loader(dataset, batch_size=size, rank=rank, world_size=processes)
        part = recognise_split(recogniser, recogniser.model, loader, device="cpu")
        assert part is not None
        whole.hypotheses += part.hypotheses
        whole.loss_sum += part.loss_sum
        whole.loss_items += part.loss_items
    whole.hypotheses.sort(key=lambda said: int(said.id[2:]))
    return whole


@settings(max_examples=12, deadline=None)
@given(
    durations_s=st.lists(st.floats(0.1, 1.5), min_size=1, max_size=9),
    size=st.integers(1, 9),
    processes=st.integers(1, 3),
)
def test_scores_do_not_depend_on_batches_and_processes(recogniser, durations_s, size, processes):
    alone = evaluated(recogniser, durations_s, 1, 1)
    found = evaluated(recogniser, durations_s, size, processes)
    assert [said.hypothesis for said in found.hypotheses] == [said.hypothesis for said in alone.hypotheses]
    assert [said.id for said in found.hypotheses] == [f"id{index}" for index in range(len(durations_s))]
    assert found.loss_items == alone.loss_items and found.loss_sum == pytest.approx(alone.loss_sum, rel=1e-4)


# ---- loader workers


class _CannotBeSent:
    """A batch for which the queue between processes has no room."""

    def __reduce__(self) -> Any:
        raise OSError(28, "No space left on device")


class _OneBatch(torch.utils.data.IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield _CannotBeSent()


@pytest.mark.timeout(60)
def test_a_batch_that_a_worker_cannot_send_ends_the_run_instead_of_waiting():
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        next(iter(stream_loader(_OneBatch(), num_workers=1, pin_memory=False)))


def test_workers_that_cannot_be_started_leave_no_traceback(monkeypatch: pytest.MonkeyPatch):
    """Without room in /dev/shm for a queue, only the error is raised: what torch had begun is dropped quietly."""
    ignored: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)

    def no_room(*args: Any, **kwargs: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(multiprocessing.get_context("fork"), "Queue", no_room)
    monkeypatch.setattr(multiprocessing.context.ForkContext, "Queue", no_room)
    monkeypatch.setattr(torch.multiprocessing, "Queue", no_room)
    with pytest.raises(OSError):
        iter(stream_loader(_OneBatch(), num_workers=1, pin_memory=False))
    gc.collect()
    assert ignored == []
