"""Recordings of any length become text, in flat memory; transcription and evaluation give the same."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import audio_files
import numpy as np
import pytest
import tiny_seq2seq
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trained_folders import ctc_folder

from speechtune.audio.reader import AudioReader
from speechtune.data.dataset import BatchMaker
from speechtune.decoding import long_form
from speechtune.decoding.long_form import ENERGY_FRAME_S, SEARCH_S, WINDOW_S, cut_at_pauses, transcribe_samples
from speechtune.decoding.transcribe import Transcriber
from speechtune.errors import ModelError
from speechtune.evaluation.evaluate import Evaluation, recognise_split
from speechtune.models.batch import Item
from speechtune.models.recogniser import Recogniser
from speechtune.types import Utterance

RATE = 16_000


# ---- pieces


@settings(max_examples=60, deadline=None)
@given(duration_s=st.floats(0, 130), seed=st.integers(0, 9))
def test_every_sample_is_in_one_piece_and_no_piece_is_longer_than_a_window(duration_s: float, seed: int):
    rate = 1000
    samples = np.random.default_rng(seed).standard_normal(round(duration_s * rate)).astype(np.float32)
    pieces = list(cut_at_pauses(samples, rate))
    assert np.array_equal(np.concatenate(pieces), samples)
    assert all(len(piece) <= WINDOW_S * rate for piece in pieces)
    assert all(len(piece) >= (WINDOW_S - SEARCH_S) * rate for piece in pieces[:-1])


@pytest.mark.parametrize(("num_samples", "num_pieces"), [(0, 1), (1, 1), (30_000, 1), (30_001, 2)])
def test_a_recording_of_just_a_window_stays_whole(num_samples: int, num_pieces: int):
    assert len(list(cut_at_pauses(np.ones(num_samples, np.float32), 1000))) == num_pieces


@pytest.mark.parametrize("pause_s", [25.2, 27.0, 29.8])
def test_the_cut_lies_in_the_pause(pause_s: float):
    rate = 1000
    samples = np.random.default_rng(0).standard_normal(40 * rate).astype(np.float32)
    start, stop = round((pause_s - 0.1) * rate), round((pause_s + 0.1) * rate)
    samples[start:stop] *= 0.001
    first, second = cut_at_pauses(samples, rate)
    assert start < len(first) < stop and len(first) + len(second) == len(samples)


def test_the_quietest_of_several_pauses_is_taken():
    rate = 1000
    samples = np.ones(31 * rate, np.float32)
    samples[26 * rate : 27 * rate] = 0.1
    samples[28 * rate : 28 * rate + 100] = 0.01
    first, _ = cut_at_pauses(samples, rate)
    assert 0 < len(first) - 28 * rate <= 2 * ENERGY_FRAME_S * rate


# ---- text


@pytest.fixture(scope="module")
def transcriber(tmp_path_factory: pytest.TempPathFactory) -> Transcriber:
    return Transcriber(str(ctc_folder(tmp_path_factory.mktemp("model") / "run")), device="cpu")


def voices(*durations_s: float) -> np.ndarray:
    """Voices with a second of silence between them."""
    parts = [audio_files.voice(duration_s, RATE, seed=n) for n, duration_s in enumerate(durations_s)]
    return np.concatenate([part for voice in parts for part in (voice, np.zeros(RATE, np.float32))])


def test_a_recording_of_a_minute_is_recognised_in_one_piece(transcriber: Transcriber, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(long_form, "cut_at_pauses", None)
    assert transcribe_samples(transcriber.recogniser, voices(31.0, 27.0))


def test_the_text_of_a_long_recording_is_that_of_its_pieces(transcriber: Transcriber):
    samples = voices(26, 27, 5)
    assert len(samples) > 60 * RATE
    pieces = list(cut_at_pauses(samples, RATE))
    assert [round(len(piece) / RATE) for piece in pieces] == [26, 28, 7]
    texts = [transcribe_samples(transcriber.recogniser, piece) for piece in pieces]
    assert transcribe_samples(transcriber.recogniser, samples) == " ".join(text for text in texts if text)


def test_the_longest_input_of_a_model_does_not_grow_with_the_recording(transcriber: Transcriber):
    seen: list[int] = []
    hook = transcriber.recogniser.model.register_forward_pre_hook(
        lambda model, args, inputs: seen.append(inputs["input_values"].numel()), with_kwargs=True
    )
    transcribe_samples(transcriber.recogniser, np.tile(voices(20.0), 8))
    hook.remove()
    assert len(seen) >= 6 and max(seen) <= WINDOW_S * RATE


def evaluated(recogniser: Recogniser, paths: list[str], durations_s: list[float]) -> Evaluation:
    reader = AudioReader(RATE)
    make_batch = BatchMaker(reader, recogniser.model_input, split="test")
    items = [
        Item(row, Utterance(f"u{row}", path, path, "ab", s, path), "ab", np.asarray(recogniser.encode("ab"), np.int64))
        for row, (path, s) in enumerate(zip(paths, durations_s, strict=True))
    ]
    found = recognise_split(recogniser, recogniser.model, [make_batch(items)], device="cpu", read_audio=reader.pcm)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ["ctc", "whisper"])
def test_evaluation_gives_a_long_recording_the_text_of_transcription(
    kind: str, transcriber: Transcriber, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    recogniser = transcriber.recogniser if kind == "ctc" else tiny_seq2seq.whisper()
    limit_s, rest = (60, (29, 30, 1)) if kind == "ctc" else (30, (20, 12))
    clips = [voices(1.0), voices(*rest), voices(1.5)]
    paths = [str(audio_files.write(tmp_path / f"{n}.wav", clip, RATE)) for n, clip in enumerate(clips)]
    with caplog.at_level(logging.INFO, "speechtune"):
        found = evaluated(recogniser, paths, [len(clip) / RATE for clip in clips])
    assert f"recordings over {limit_s} s: 1, cut at pauses" in caplog.text
    assert [row.id for row in found.hypotheses] == ["u0", "u1", "u2"]
    rounded = AudioReader(RATE).samples(Utterance("", paths[1], "", "", 0.0, paths[1]))
    assert found.hypotheses[1].hypothesis == transcribe_samples(recogniser, rounded)
    short = evaluated(recogniser, paths[::2], [2.0, 2.5])
    assert (found.loss_items, found.nan_losses) == (short.loss_items, 0)
    assert found.audio_s == pytest.approx(sum(len(clip) for clip in clips) / RATE)


def test_a_sharded_model_takes_no_long_recording(transcriber: Transcriber):
    class FullyShardedDataParallel(torch.nn.Module):
        def forward(self, **inputs: Any) -> Iterator[None]:
            raise AssertionError

    with pytest.raises(ModelError, match="A recording of 61 s got into an evaluation with --fsdp"):
        transcribe_samples(transcriber.recogniser, np.zeros(61 * RATE, np.float32), model=FullyShardedDataParallel())
