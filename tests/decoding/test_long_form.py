"""Recordings of any length become text, in flat memory; transcription and evaluation give the same."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import audio_files
import numpy as np
import pytest
import tiny_families
import tiny_seq2seq
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trained_folders import ctc_folder

from speechtune.audio.reader import AudioReader
from speechtune.data.dataset import BatchMaker
from speechtune.decoding import ctc_windows, long_form, whisper_windows
from speechtune.decoding.ctc_path import best_path, best_paths, words_of_path
from speechtune.decoding.ctc_windows import windows_of
from speechtune.decoding.long_form import transcribe_samples
from speechtune.decoding.pauses import ENERGY_FRAME_S, SEARCH_S, WINDOW_S, cut_at_pauses
from speechtune.decoding.transcribe import Transcriber
from speechtune.decoding.whisper_windows import MIN_ADVANCE_S, TEMPERATURES
from speechtune.errors import ModelError
from speechtune.evaluation.evaluate import Evaluation, recognise_split
from speechtune.evaluation.metrics.cer import character_edits
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
    for module in (long_form, whisper_windows):
        monkeypatch.setattr(module, "cut_at_pauses", None)
    assert transcribe_samples(transcriber.recogniser, voices(31.0, 27.0))


def test_a_model_without_timestamps_gets_pieces_cut_at_pauses():
    recogniser = tiny_seq2seq.loaded("whisper without timestamps", language="tr")
    samples = voices(26, 27, 5)
    pieces = list(cut_at_pauses(samples, RATE))
    assert [round(len(piece) / RATE) for piece in pieces] == [26, 28, 7]
    texts = [transcribe_samples(recogniser, piece) for piece in pieces]
    assert transcribe_samples(recogniser, samples) == " ".join(text for text in texts if text)


def test_the_longest_input_of_a_model_does_not_grow_with_the_recording(transcriber: Transcriber):
    seen: list[int] = []
    hook = transcriber.recogniser.model.register_forward_pre_hook(
        lambda model, args, inputs: seen.append(inputs["input_values"].numel()), with_kwargs=True
    )
    transcribe_samples(transcriber.recogniser, np.tile(voices(20.0), 8))
    hook.remove()
    assert len(seen) >= 5 and max(seen) <= WINDOW_S * RATE


# ---- CTC: windows as long as the clips of training


def in_windows_and_in_one_pass(recogniser: Recogniser, samples: np.ndarray, patch: pytest.MonkeyPatch) -> list[str]:
    in_windows = transcribe_samples(recogniser, samples)
    patch.setattr(recogniser.model_input, "usual_whole_s", 1000.0)
    return [in_windows, transcribe_samples(recogniser, samples)]


@pytest.mark.parametrize("group_norm", [False, True])
def test_without_pauses_overlapping_windows_give_nearly_the_text_of_one_pass(
    group_norm: bool, transcriber: Transcriber, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Levels and norms over time are those of a window, so a few labels differ."""
    recogniser = transcriber.recogniser
    if group_norm:
        recogniser = Transcriber(str(ctc_folder(tmp_path / "run", group_norm=True)), device="cpu").recogniser
    samples = audio_files.voice(70.0, RATE, seed=4)
    in_windows, in_one_pass = in_windows_and_in_one_pass(recogniser, samples, monkeypatch)
    assert in_one_pass and character_edits(in_one_pass, in_windows).rate < 0.1


def test_windows_end_in_pauses_and_their_texts_are_those_of_the_clips(tmp_path: Path):
    recogniser: Any = Transcriber(str(ctc_folder(tmp_path / "run")), device="cpu").recogniser
    recogniser.remember_clips(2.5)
    clips = [audio_files.voice(duration_s, RATE, seed=n) for n, duration_s in enumerate([2.0, 3.1, 1.6, 2.4] * 2)]
    samples = np.concatenate([part for clip in clips for part in (clip, np.zeros(RATE // 2, np.float32))])
    windows = list(windows_of(recogniser, samples, None))
    ends = np.cumsum([len(clip) + RATE // 2 for clip in clips])
    assert len(windows) == len(clips) and all(window.ends_in_pause for window in windows[:-1])
    assert all(0 <= end - window.end * 320 <= RATE // 2 for end, window in zip(ends, windows, strict=True))
    alone = " ".join(transcribe_samples(recogniser, clip) for clip in clips)
    assert character_edits(alone, transcribe_samples(recogniser, samples)).rate < 0.15


def test_a_word_never_spans_a_pause_that_was_cut(transcriber: Transcriber, monkeypatch: pytest.MonkeyPatch):
    """A model that writes one letter throughout: as many words as windows."""
    recogniser: Any = transcriber.recogniser
    bias = recogniser.model.lm_head.bias
    kept = bias.detach().clone()
    with torch.no_grad():
        bias[1] += 1e3
    try:
        samples = np.tile(voices(9.0), 8)
        assert transcribe_samples(recogniser, samples) == "a a a a a a a a"
        with torch.inference_mode():
            path = best_path(recogniser, samples, recogniser.model)
        starts = [round(word.start_s) for word in words_of_path(recogniser, path)]
        assert starts == list(range(0, 80, 10))
    finally:
        with torch.no_grad():
            bias.copy_(kept)


@pytest.mark.parametrize(("clip_s", "window_s", "whole_s"), [(None, 20, 60), (0.4, 2, 4), (4, 8, 16), (15, 20, 40)])
def test_windows_are_as_long_as_the_clips_of_training(
    clip_s: float | None, window_s: float, whole_s: float, tmp_path: Path
):
    folder = ctc_folder(tmp_path / "run")
    if clip_s is not None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"speechtune_clip_s": clip_s}))
    recogniser: Any = Transcriber(str(folder), device="cpu").recogniser
    assert (recogniser.window_s, recogniser.model_input.max_whole_s) == (window_s, whole_s)


@pytest.mark.parametrize("seconds", [60.01, 65.0, 65.02, 80.0])
@pytest.mark.parametrize("has_pauses", [True, False])
def test_each_frame_of_a_recording_has_one_label_and_is_in_one_window(
    seconds: float, has_pauses: bool, transcriber: Transcriber
):
    recogniser: Any = transcriber.recogniser
    samples = np.tile(voices(20.0), 5) if has_pauses else audio_files.voice(85.0, RATE)
    samples = samples[: int(seconds * RATE)]
    windows = list(windows_of(recogniser, samples, None))
    assert [window.first for window in windows] == [0, *(window.end for window in windows[:-1])]
    assert windows[-1].end == -(-len(samples) // 320)
    assert all(window.end - window.first <= 20 * 50 for window in windows)
    with torch.inference_mode():
        assert len(best_path(recogniser, samples, recogniser.model).labels) == windows[-1].end


def test_only_speech_is_heard(transcriber: Transcriber):
    recogniser: Any = transcriber.recogniser
    samples = np.concatenate([voices(5.0), np.zeros(60 * RATE, np.float32), voices(25.0)])
    speech = [(0, 5 * RATE), (66 * RATE, 91 * RATE)]
    windows = list(windows_of(recogniser, samples, speech))
    heard = np.concatenate([np.arange(w.from_frame, w.to_frame) for w in windows]) / 50
    assert not ((heard > 5.1) & (heard < 65.9)).any() and heard.max() <= 91
    with torch.inference_mode():
        labels = best_path(recogniser, samples, recogniser.model, speech=speech).labels
    assert (labels[5 * 50 + 1 : 66 * 50] == recogniser.blank).all() and (labels != recogniser.blank).any()


def test_several_recordings_at_once_have_the_texts_of_each_alone(transcriber: Transcriber):
    recogniser: Any = transcriber.recogniser
    recordings = [voices(70.0), voices(3.0), voices(1.0, 2.0)]
    with torch.inference_mode():
        together = best_paths(recogniser, recordings, recogniser.model, speech=[None, None, []])
        alone = [best_path(recogniser, samples, recogniser.model) for samples in recordings[:2]]
    for one, other in zip(together, alone, strict=False):
        assert (one.labels == other.labels).mean() > 0.99
    assert (together[2].labels == recogniser.blank).all()


@pytest.mark.parametrize("family", tiny_families.FAMILIES)
def test_windows_of_each_family_have_the_frames_of_one_pass(family: str, monkeypatch: pytest.MonkeyPatch):
    """Of a model that looks no further than its windows' context; random attention does, so some labels differ."""
    monkeypatch.setitem(ctc_windows.BATCH_S, "cpu", 0.1)  # one window each: these inputs have no mask
    model = tiny_families.tiny_model(family)
    is_mel = model.main_input_name == "input_features"
    step = 160 if is_mel else 1
    stack = 2 if model.config.model_type == "wav2vec2-bert" else 1

    def features(samples: np.ndarray) -> np.ndarray:
        return samples if not is_mel else np.repeat(samples[:: step * stack, None], 16, axis=1)

    model_input: Any = SimpleNamespace(
        name=model.main_input_name,
        max_whole_s=8,
        features=features,
        pad=lambda rows, min_length: {model.main_input_name: np.stack(rows)},
        feature_extractor=SimpleNamespace(stride=stack),
    )
    recogniser: Any = SimpleNamespace(
        model=model, sampling_rate=RATE, blank=0, search=None, window_s=6.0, phones=True, delimiter=None,
        decoder=None, tokenizer=None, model_input=model_input, min_input_length=0,
    )  # fmt: skip
    recogniser.tokenizer = SimpleNamespace(get_vocab=dict)
    samples = np.random.default_rng(0).standard_normal(10 * RATE + 7).astype(np.float32)
    with torch.inference_mode():
        labels = best_path(recogniser, samples, model).labels
        model_input.max_whole_s = 100
        one_pass = best_path(recogniser, samples, model).labels
    assert len(labels) == len(one_pass) and (labels == one_pass).mean() > 0.9


# ---- Whisper: windows by timestamps


class Written:
    """Whisper whose generations are given: a list of texts and seconds for each; and what it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *generations: list[str | float], probability: float = 0.9):
        self.recogniser = tiny_seq2seq.whisper()
        self.generations, self.probability = list(generations), probability
        self.starts_s: list[float] = []
        self.temperatures: list[float] = []
        model_input = self.recogniser.model_input
        features = model_input.features

        def start_of(piece: np.ndarray) -> Any:
            self.starts_s.append(round(float(piece[0]) * 1000, 2))  # see `ramp`
            return features(piece)

        monkeypatch.setattr(model_input, "features", start_of)
        monkeypatch.setattr(self.recogniser.model, "generate", self.generate)

    def generate(self, *, temperature: float, **options: Any) -> Any:
        from transformers.generation.utils import GenerateEncoderDecoderOutput

        self.temperatures.append(temperature)
        generation = self.generations.pop(0) if len(self.generations) > 1 else self.generations[0]
        first = self.recogniser.model.generation_config.no_timestamps_token_id + 1
        tokens: list[int] = []
        for part in generation:
            if isinstance(part, str):
                tokens += self.recogniser.tokenizer(part, add_special_tokens=False).input_ids
            else:
                tokens.append(first + round(part / 0.02))
        tokens.append(self.recogniser.end)
        vocabulary = self.recogniser.model.config.vocab_size
        rest = np.log((1 - self.probability) / (vocabulary - 1))
        scores = torch.full((len(tokens), 1, vocabulary), rest)
        scores[range(len(tokens)), 0, tokens] = np.log(self.probability)
        prompt = [self.recogniser.start]
        return GenerateEncoderDecoderOutput(
            sequences=torch.tensor([prompt + tokens]), scores=tuple(scores / (temperature or 1.0))
        )


def ramp(seconds: float) -> np.ndarray:
    """Samples that tell their place: thousandths of a second."""
    return (np.arange(int(seconds * RATE)) / RATE / 1000 + 0.0).astype(np.float32)


def test_the_next_window_starts_where_the_last_finished_segment_ended(monkeypatch: pytest.MonkeyPatch):
    written = Written(
        monkeypatch,
        [0.0, " bir", 6.0, 6.0, " iki", 10.0, 10.0, " üç"],  # unfinished: heard again
        [0.0, " üç", 9.0, 9.0, " dört", 20.0],  # nothing after 20 s: the next window follows
        [0.0, " beş", 2.0],
    )
    assert transcribe_samples(written.recogniser, ramp(42)) == "bir iki üç dört beş"
    first, second, third = written.starts_s
    assert (first, second) == (0.0, 10.0) and 35.0 <= third <= 40.0


def test_a_window_that_would_hardly_advance_is_taken_whole(monkeypatch: pytest.MonkeyPatch):
    written = Written(monkeypatch, [0.0, " bir", 0.5, 0.5, " iki"])
    assert transcribe_samples(written.recogniser, ramp(58)) == "bir iki bir iki bir iki"
    assert len(written.starts_s) == 3


def test_a_loop_is_generated_again_at_higher_temperatures_and_then_left(monkeypatch: pytest.MonkeyPatch):
    loop: list[str | float] = [0.0, " de pa" * 40]
    written = Written(monkeypatch, loop, [0.0, " bir", 20.0])
    assert transcribe_samples(written.recogniser, ramp(31)) == "bir bir"
    assert written.temperatures == [*TEMPERATURES[:2], 0.0]
    written = Written(monkeypatch, loop)
    transcribe_samples(written.recogniser, ramp(31))
    assert written.temperatures == [*TEMPERATURES, *TEMPERATURES]


def test_an_improbable_text_without_speech_is_dropped(monkeypatch: pytest.MonkeyPatch):
    written = Written(monkeypatch, [0.0, " bir", 20.0], probability=0.01)
    monkeypatch.setattr(whisper_windows.WhisperWindows, "_no_speech", lambda self, hidden: 0.7)
    assert transcribe_samples(written.recogniser, ramp(31)) == ""
    assert written.temperatures == [0.0, 0.0]


@pytest.mark.parametrize("options", [{}, {"generation": {"generation_max_length": 6, "generation_num_beams": 2}}])
def test_random_weights_cost_a_bounded_number_of_generations(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    recogniser = tiny_seq2seq.whisper(**options)
    calls: list[float] = []
    generate = recogniser.model.generate

    def counted(**inputs: Any) -> Any:
        calls.append(inputs["temperature"])
        return generate(**inputs)

    monkeypatch.setattr(recogniser.model, "generate", counted)
    samples = np.tile(voices(19.0), 4)
    text = transcribe_samples(recogniser, samples)
    assert 0 < len(calls) <= (80 / MIN_ADVANCE_S + 1) * len(TEMPERATURES)
    assert text == transcribe_samples(recogniser, samples)  # sampling included


def test_silence_is_no_text_and_no_generation(monkeypatch: pytest.MonkeyPatch):
    recogniser = tiny_seq2seq.whisper()
    monkeypatch.setattr(recogniser.model, "generate", None)
    assert transcribe_samples(recogniser, np.zeros(70 * RATE, np.float32)) == ""


def test_the_language_is_detected_once(monkeypatch: pytest.MonkeyPatch):
    recogniser = tiny_seq2seq.whisper(language=None)
    found: list[Any] = []
    detect = recogniser.model.detect_language
    monkeypatch.setattr(recogniser.model, "detect_language", lambda **given: found.append(detect(**given)) or found[-1])
    transcribe_samples(recogniser, voices(31, 31))
    assert len(found) == 1


# ---- evaluation


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
    assert f"recordings over {limit_s} s: 1, recognised window by window" in caplog.text
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


def test_a_language_model_that_windows_do_not_use_is_said(caplog: pytest.LogCaptureFixture):
    recogniser = tiny_seq2seq.whisper()
    recogniser.external_score = lambda text: 0.0
    with caplog.at_level(logging.WARNING, logger="speechtune"):
        transcribe_samples(recogniser, voices(31.0))
    assert "a recording of 32 s: written window by window, without --lm" in caplog.text
