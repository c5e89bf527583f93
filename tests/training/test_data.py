"""What is skipped of training and excluded from the score, and which batches are made of the rest."""

from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from reliability.tiny import write_clip, write_corpus, write_manifest
from standins.shards import rows_of, write_tar

from speechtune.data.prepare import training_limits
from speechtune.data.streaming import StreamDataset
from speechtune.errors import CorpusError
from speechtune.models.inputs import WaveformInput
from speechtune.options.parse import parse_options
from speechtune.options.table import Settings
from speechtune.plan.plan import RunPlan
from speechtune.plan.resolve import resolve
from speechtune.training.data import audio_reader, build_datasets, encoder_store, read_corpus

ARGS: Any = SimpleNamespace(
    per_device_train_batch_size=2, per_device_eval_batch_size=3, process_index=0, world_size=1, seed=1
)


def plan_for(corpus: Path, *words: str) -> RunPlan:
    argv = ["--model_config", '{"model_type": "wav2vec2"}', "--dataset_name", str(corpus)]
    return resolve(parse_options([*argv, "--output_dir", str(corpus.parent / f"{corpus.name}-out"), *words]))


def recogniser(max_duration_s: float | None = None, max_labels: int | None = None) -> Any:
    """One frame every 20 ms; each letter is a label."""
    from transformers import Wav2Vec2FeatureExtractor

    model_input = WaveformInput(Wav2Vec2FeatureExtractor())
    return SimpleNamespace(
        encode=lambda text: [ord(char) for char in text],
        frames_of=lambda: lambda durations_s: (np.asarray(durations_s) * 50).astype(int),
        max_duration_s=max_duration_s,
        max_labels=max_labels,
        min_input_length=0,
        sampling_rate=16_000,
        model_input=model_input,
        training_input=model_input,
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), num_train=5, num_test=3)


def of_durations(folder: Path, split: str, rows: list[tuple[float, str]]) -> None:
    folder.mkdir(exist_ok=True)
    for index, (duration_s, _) in enumerate(rows):
        write_clip(folder / split / f"{index}.wav", duration_s, seed=index)
    write_manifest(folder, split, [{"audio": f"{split}/{n}.wav", "text": text} for n, (_, text) in enumerate(rows)])


# ---- texts


def test_transcripts_are_normalised_once_each_and_trimmed(corpus: Path):
    data = read_corpus(plan_for(corpus))
    assert data.train is not None
    assert data.train_texts == [data.normalise(text).strip() for text in data.train.texts]
    assert len(data.evaluation_texts) == 3


# ---- what is skipped


def prepared(corpus: Path, *words: str, model: Any = None) -> tuple[Any, Any]:
    plan = plan_for(corpus, *words)
    datasets = build_datasets(plan, read_corpus(plan), model or recogniser(), ARGS)
    return datasets.train.split, datasets.evaluation.split


LENGTHS = [(0.5, "bir"), (1.0, "iki"), (1.1, "üç"), (0.2, "on")]


@pytest.fixture(scope="module")
def lengths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lengths")
    for split in ("train", "test"):
        of_durations(folder, split, LENGTHS)
    return folder


DURATIONS = ["--max_duration_in_seconds", "1", "--min_duration_in_seconds", "0.3"]


def test_training_keeps_clips_of_exactly_a_limit_and_the_score_takes_all(lengths: Path):
    train, evaluation = prepared(lengths, *DURATIONS)
    assert train.texts == ["bir", "iki"]
    assert [row.reason for row in train.dropped] == ["too_long", "too_short"]
    assert evaluation.texts == ["bir", "iki", "üç", "on"] and evaluation.dropped == []


def test_the_readme_protocol_leaves_long_clips_out_of_the_score_too(lengths: Path, tmp_path: Path):
    _, evaluation = prepared(lengths, *DURATIONS, "--protocol", "readme")
    assert evaluation.texts == ["bir", "iki"]
    assert [row.reason for row in evaluation.dropped] == ["too_long", "too_short"]


@pytest.mark.parametrize("protocol", ["default", "readme"])
def test_an_empty_transcript_is_scored_but_not_trained_on(tmp_path: Path, protocol: str):
    for split in ("train", "test"):
        of_durations(tmp_path / "corpus", split, [(0.5, "bir"), (0.5, "")])
    words = ["--max_skipped", "0.6", "--protocol", protocol]
    train, evaluation = prepared(tmp_path / "corpus", *words)
    assert train.texts == ["bir"] and [row.reason for row in train.dropped] == ["empty_transcript"]
    assert evaluation.texts == ["bir", ""]


def test_more_labels_than_frames_can_not_be_trained_on_but_are_scored(tmp_path: Path):
    for split in ("train", "test"):
        of_durations(tmp_path / "corpus", split, [(0.5, "a" * 13), (0.5, "a" * 14), (0.5, "ab" * 12)])
    train, evaluation = prepared(tmp_path / "corpus", "--max_skipped", "0.5")
    assert train.texts == ["a" * 13, "ab" * 12] and len(evaluation) == 3  # 25 frames; 14 equal labels need 27
    assert [row.detail for row in train.dropped] == ["25 frames, 14 labels need 27"]


def test_the_models_own_limits_hold_for_training_alone(lengths: Path):
    train, evaluation = prepared(lengths, "--max_skipped", "1", model=recogniser(0.6, max_labels=2))
    assert train.texts == ["on"] and len(evaluation) == 4
    assert sorted(row.reason for row in train.dropped) == ["too_long", "too_long", "too_many_labels"]


def test_limits_are_the_lower_ones_of_user_and_model(corpus: Path):
    settings = Settings(max_duration_in_seconds=25)
    assert training_limits(settings, recogniser(30.0)).max_duration_s == 25
    assert training_limits(settings, recogniser(10.0)).max_duration_s == 10
    limits = training_limits(settings, recogniser(None, max_labels=7))
    assert (limits.max_duration_s, limits.max_labels) == (25, 7) and limits.frames is not None
    without_frames = recogniser()
    without_frames.frames_of = lambda: None
    assert training_limits(settings, without_frames).frames is None


def test_what_is_skipped_is_said_in_one_line(lengths: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "speechtune"):
        prepared(lengths, *DURATIONS)
    (line,) = caplog.messages
    assert line.startswith("train: skipped 2 of 4 utterances (50.0%, 0.00 h): 1 too long, 1 too short -> ")
    assert line.endswith(f"{lengths.name}-out/skipped.jsonl")


def test_more_broken_recordings_than_allowed_stop_the_run(tmp_path: Path):
    of_durations(tmp_path / "corpus", "train", [(0.5, "bir")] * 4)
    of_durations(tmp_path / "corpus", "test", [(0.5, "bir")])
    (tmp_path / "corpus" / "train" / "2.wav").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"1 of 4 can't be used, over --max_skipped 0\.05\. The first: .*2\.wav"):
        prepared(tmp_path / "corpus")
    train, _ = prepared(tmp_path / "corpus", "--max_skipped", "0.25")
    assert len(train) == 3 and len(train.dropped) == 1


# ---- what makes batches


def test_audio_is_kept_decoded_unless_that_is_turned_off(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SPEECHTUNE_CACHE")
    settings = Settings(cache_dir=str(tmp_path))
    train = read_corpus(plan_for(corpus, "--cache_dir", str(tmp_path))).train
    assert train is not None
    assert audio_reader(Settings(cache_dir=str(tmp_path), audio_cache_max_gb=0), 16_000).cache is None
    samples = []
    for _ in range(2):
        reader = audio_reader(settings, 16_000)
        assert reader.cache is not None and reader.sampling_rate == 16_000
        samples.append(reader.samples(train[0]))
    assert np.array_equal(*samples) and len(list((tmp_path / "speechtune").rglob("16000hz-v2/*.pcm"))) == 1
    encoder_store(settings).put("a", np.zeros(3, np.int16))
    assert len(list((tmp_path / "speechtune").rglob("encoder-v1/*.pcm"))) == 1


def test_batches_of_training_are_held_to_its_limits_and_those_of_the_score_are_not(lengths: Path):
    plan = plan_for(lengths, *DURATIONS)
    datasets = build_datasets(plan, read_corpus(plan), recogniser(), ARGS)
    train: Any = datasets.train
    evaluation: Any = datasets.evaluation
    assert [len(train), len(evaluation)] == [2, 4]
    assert [dataset.make_batch.limits is None for dataset in (train, evaluation)] == [False, True]
    assert evaluation.__getitems__([0, 2]).texts == ["bir", "üç"]


def test_a_stream_has_its_text_normalised_and_ends_at_the_asked_for_number(tmp_path: Path):
    write_tar(tmp_path / "train-0.tar", rows_of(0))
    write_tar(tmp_path / "test-0.tar", rows_of(1))
    plan = plan_for(tmp_path, "--streaming", "--max_steps", "2", "--max_train_samples", "5")
    dataset = build_datasets(plan, read_corpus(plan), recogniser(), ARGS).train
    assert isinstance(dataset, StreamDataset)
    first_pass = [text for batch in islice(dataset, 3) for text in batch.texts]  # training repeats the stream
    assert sorted(first_pass) == [text.lower() for _, text in rows_of(0)][:5]
