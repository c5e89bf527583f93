"""Which splits a run reads, what is done to their text, and what is skipped of training and of the score."""

from __future__ import annotations

import json
import logging
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from reliability.tiny import write_clip, write_corpus, write_manifest
from standins.shards import rows_of, write_tar

from speechtune.corpora.stream import UtteranceStream
from speechtune.errors import CorpusError
from speechtune.models.frames import min_ctc_frames
from speechtune.models.inputs import WaveformInput
from speechtune.options.parse import parse_options
from speechtune.options.table import Options
from speechtune.training.data import (
    Splits,
    dataset_of,
    encoder_store_for,
    open_splits,
    prepare_splits,
    reader_for,
    text_normaliser,
    training_limits,
)


def options_for(corpus: Path | str, *words: str, command: Any = "train") -> Options:
    model = ["--model_config", '{"model_type": "wav2vec2"}'] if command == "train" else ["MODEL"]
    return parse_options([*model, "--dataset_name", str(corpus), "--output_dir", "out", *words], command=command)


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


# ---- which splits


def test_the_default_splits_are_those_that_the_corpus_has(corpus: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "speechtune"):
        splits = open_splits(options_for(corpus), train=True, evaluate=True)
    assert (splits.train_split, len(splits.train), len(splits.evaluation)) == ("train", 5, 3)
    assert "has no split validation: train it is" in caplog.text


def test_a_corpus_that_has_both_default_splits_gives_both(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write_corpus(tmp_path, num_train=3, num_test=1)
    of_durations(tmp_path, "validation", [(0.3, "bir"), (0.3, "iki")])
    with caplog.at_level(logging.INFO, "speechtune"):
        splits = open_splits(options_for(tmp_path), train=True, evaluate=False)
    assert (splits.train_split, len(splits.train), splits.evaluation) == ("train+validation", 5, None)
    assert "it is" not in caplog.text


@pytest.mark.parametrize("wanted", ["train+validation", "validation"])
def test_splits_that_are_asked_for_and_not_there_are_an_error(corpus: Path, wanted: str):
    with pytest.raises(CorpusError, match=r"no split 'validation'\.\nSplits: "):
        open_splits(options_for(corpus, "--train_split_name", wanted), train=True, evaluate=False)


def test_a_corpus_with_none_of_the_default_splits_names_its_own(tmp_path: Path):
    of_durations(tmp_path, "test", [(0.3, "bir")])
    with pytest.raises(CorpusError, match=r"no split 'train'\.\nSplits: test"):
        open_splits(options_for(tmp_path), train=True, evaluate=False)


def test_what_is_not_asked_for_is_not_opened(tmp_path: Path):
    of_durations(tmp_path, "test", [(0.3, "bir")])
    splits = open_splits(options_for(tmp_path), train=False, evaluate=True)
    assert (splits.train, splits.train_split, len(splits.evaluation)) == (None, "", 1)


@pytest.mark.parametrize(("asked", "taken"), [(1, 1), (4, 4), (5, 5), (9, 5)])
def test_the_first_utterances_are_taken_and_no_more_than_there_are(corpus: Path, asked: int, taken: int):
    whole = open_splits(options_for(corpus), train=True, evaluate=True)
    words = ["--max_train_samples", str(asked), "--max_eval_samples", str(asked)]
    cut = open_splits(options_for(corpus, *words), train=True, evaluate=True)
    assert cut.train.ids == whole.train.ids[:taken] and cut.evaluation.ids == whole.evaluation.ids[:taken]


def test_the_language_is_the_users_before_the_corpus_part(corpus: Path):
    assert open_splits(options_for(corpus), train=True, evaluate=False).language is None
    given = open_splits(options_for(corpus, "--language", "turkish"), train=True, evaluate=False)
    assert given.language == "tr"


def test_streaming_from_files_on_this_disk_reads_them_in_place(corpus: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "speechtune"):
        splits = open_splits(options_for(corpus, "--streaming", "--max_steps", "2"), train=True, evaluate=True)
    assert len(splits.train) == 5 and "lies on this disk and is read from there" in caplog.text


def test_shards_are_a_stream_only_on_request(tmp_path: Path):
    for number, split in enumerate(("train", "test")):
        write_tar(tmp_path / f"{split}-0.tar", rows_of(number))
    table = open_splits(options_for(tmp_path), train=True, evaluate=True)
    stream = open_splits(options_for(tmp_path, "--streaming", "--max_steps", "2"), train=True, evaluate=True)
    assert isinstance(stream.train, UtteranceStream) and isinstance(stream.evaluation, UtteranceStream)
    assert [said.text for said in stream.train] == table.train.texts
    stream.normalise(str.upper)
    assert stream.train_texts == stream.evaluation_texts == []


# ---- texts


def test_transcripts_are_normalised_once_each_and_trimmed(corpus: Path):
    splits = open_splits(options_for(corpus), train=True, evaluate=False)
    splits.normalise(lambda text: f" {text.upper()} ")
    assert splits.train_texts == [text.upper() for text in splits.train.texts] and splits.evaluation_texts == []


def test_hypotheses_are_normalised_as_transcripts_are(corpus: Path):
    normalise, of_hypotheses = text_normaliser(options_for(corpus, "--chars_to_ignore", "!"), "tr")
    assert normalise("İYİ!").strip() == of_hypotheses("İYİ!").strip() == "iyi"


def test_phonemes_are_made_of_normalised_text_and_hypotheses_are_phonemes_already(corpus: Path):
    options = options_for(corpus, "--phoneme_language", "tr", "--chars_to_ignore", "!")
    normalise, of_hypotheses = text_normaliser(options, "tr")
    plain, _ = text_normaliser(options_for(corpus, "--chars_to_ignore", "!"), "tr")
    assert normalise("İYİ!") == normalise("iyi") != "" and of_hypotheses("İ Y") == "İ Y"
    assert normalise.describe().startswith(plain.describe()) and normalise.hash() != plain.hash()
    assert len(normalise.hash()) == 12


def test_a_corpus_own_phones_are_folded_and_hypotheses_stay(corpus: Path):
    normalise, of_hypotheses = text_normaliser(options_for(corpus, "--text_column_name", "phones"), None)
    assert normalise("h# ao r").split() == ["sil", "aa", "r"] and of_hypotheses("ao") == "ao"


# ---- what is skipped


def prepared(corpus: Path, tmp_path: Path, *words: str, model: Any = None) -> tuple[Any, Any]:
    options = options_for(corpus, *words)
    splits = open_splits(options, train=True, evaluate=True)
    splits.normalise(str)
    return prepare_splits(splits, options, model or recogniser(), skipped_path=tmp_path / "skipped.jsonl")


LENGTHS = [(0.5, "bir"), (1.0, "iki"), (1.1, "üç"), (0.2, "on")]


@pytest.fixture(scope="module")
def lengths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lengths")
    for split in ("train", "test"):
        of_durations(folder, split, LENGTHS)
    return folder


DURATIONS = ["--max_duration_in_seconds", "1", "--min_duration_in_seconds", "0.3"]


def test_training_keeps_clips_of_exactly_a_limit_and_the_score_takes_all(lengths: Path, tmp_path: Path):
    train, evaluation = prepared(lengths, tmp_path, *DURATIONS)
    assert train.texts == ["bir", "iki"]
    assert [row.reason for row in train.dropped] == ["too_long", "too_short"]
    assert evaluation.texts == ["bir", "iki", "üç", "on"] and evaluation.dropped == []


def test_the_readme_protocol_leaves_long_clips_out_of_the_score_too(lengths: Path, tmp_path: Path):
    _, evaluation = prepared(lengths, tmp_path, *DURATIONS, "--protocol", "readme")
    assert evaluation.texts == ["bir", "iki"]
    assert [row.reason for row in evaluation.dropped] == ["too_long", "too_short"]


@pytest.mark.parametrize("protocol", ["default", "readme"])
def test_an_empty_transcript_is_scored_but_not_trained_on(tmp_path: Path, protocol: str):
    for split in ("train", "test"):
        of_durations(tmp_path / "corpus", split, [(0.5, "bir"), (0.5, "")])
    words = ["--max_skipped", "0.6", "--protocol", protocol]
    train, evaluation = prepared(tmp_path / "corpus", tmp_path, *words)
    assert train.texts == ["bir"] and [row.reason for row in train.dropped] == ["empty_transcript"]
    assert evaluation.texts == ["bir", ""]


def test_more_labels_than_frames_can_not_be_trained_on_but_are_scored(tmp_path: Path):
    for split in ("train", "test"):
        of_durations(tmp_path / "corpus", split, [(0.5, "a" * 13), (0.5, "a" * 14), (0.5, "ab" * 12)])
    train, evaluation = prepared(tmp_path / "corpus", tmp_path, "--max_skipped", "0.5")
    assert train.texts == ["a" * 13, "ab" * 12] and len(evaluation) == 3  # 25 frames; 14 equal labels need 27
    assert [row.detail for row in train.dropped] == ["25 frames, 14 labels need 27"]


def test_the_models_own_limits_hold_for_training_alone(lengths: Path, tmp_path: Path):
    train, evaluation = prepared(lengths, tmp_path, "--max_skipped", "1", model=recogniser(0.6, max_labels=2))
    assert train.texts == ["on"] and len(evaluation) == 4
    assert sorted(row.reason for row in train.dropped) == ["too_long", "too_long", "too_many_labels"]


def test_limits_are_the_lower_ones_of_user_and_model(corpus: Path):
    options = options_for(corpus, "--max_duration_in_seconds", "25")
    assert training_limits(options, recogniser(30.0)).max_duration_s == 25
    assert training_limits(options, recogniser(10.0)).max_duration_s == 10
    limits = training_limits(options, recogniser(None, max_labels=7))
    assert (limits.max_duration_s, limits.max_labels, limits.min_frames) == (25, 7, min_ctc_frames)
    without_frames = recogniser()
    without_frames.frames_of = lambda: None
    assert training_limits(options, without_frames).min_frames is None


def test_what_is_left_out_is_said_in_one_line(lengths: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "speechtune"):
        prepared(lengths, tmp_path, *DURATIONS)
    (line,) = caplog.messages
    assert line.startswith("train: skipped 2 of 4 utterances (50.0%, 0.00 h): 1 too long, 1 too short -> ")
    assert line.endswith(str(tmp_path / "skipped.jsonl"))


def test_more_broken_recordings_than_allowed_stop_the_run(tmp_path: Path):
    of_durations(tmp_path / "corpus", "train", [(0.5, "bir")] * 4)
    of_durations(tmp_path / "corpus", "test", [(0.5, "bir")])
    (tmp_path / "corpus" / "train" / "2.wav").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"1 of 4 can't be used, over --max_skipped 0\.05\. The first: .*2\.wav"):
        prepared(tmp_path / "corpus", tmp_path)
    train, _ = prepared(tmp_path / "corpus", tmp_path, "--max_skipped", "0.25")
    assert len(train) == 3 and len(train.dropped) == 1


def test_splits_that_are_not_there_or_are_streams_are_not_prepared(tmp_path: Path):
    write_tar(tmp_path / "train-0.tar", rows_of(0))
    options = options_for(tmp_path, "--streaming", "--max_steps", "2")
    splits = open_splits(options, train=True, evaluate=False)
    splits.normalise(str)
    assert prepare_splits(splits, options, recogniser(), skipped_path=tmp_path / "x") == (None, None)


# ---- what makes batches


def test_audio_is_kept_decoded_unless_that_is_turned_off(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SPEECHTUNE_CACHE")
    cache = ["--cache_dir", str(tmp_path)]
    splits = open_splits(options_for(corpus, *cache), train=True, evaluate=False)
    assert reader_for(options_for(corpus, *cache, "--audio_cache_max_gb", "0"), 16_000).cache is None
    samples = []
    for _ in range(2):
        reader = reader_for(options_for(corpus, *cache), 16_000)
        assert reader.cache is not None and reader.sampling_rate == 16_000
        samples.append(reader.samples(splits.train[0]))
    assert np.array_equal(*samples) and len(list((tmp_path / "speechtune" / "audio" / "16000hz-v1").glob("*.pcm"))) == 1
    encoder_store_for(options_for(corpus, *cache)).put("a", np.zeros(3, np.int16))
    assert len(list((tmp_path / "speechtune" / "audio" / "encoder-v1").glob("*.pcm"))) == 1


ARGS = SimpleNamespace(
    per_device_train_batch_size=2, per_device_eval_batch_size=3, process_index=0, world_size=1, seed=1
)


def test_batches_of_training_are_held_to_its_limits_and_those_of_the_score_are_not(lengths: Path, tmp_path: Path):
    options = options_for(lengths, *DURATIONS)
    splits = open_splits(options, train=True, evaluate=True)
    splits.normalise(str)
    prepared_splits = prepare_splits(splits, options, recogniser(), skipped_path=tmp_path / "x")
    made = [
        dataset_of(
            rows, split, reader_for(options, 16_000), options=options, args=ARGS, recogniser=recogniser(),
            normalise=str, train=train,
        )
        for rows, split, train in zip((splits.train, splits.evaluation), prepared_splits, (True, False), strict=True)
    ]  # fmt: skip
    assert [len(dataset) for dataset in made] == [2, 4]
    assert [dataset.make_batch.limits is None for dataset in made] == [False, True]
    assert made[1].__getitems__([0, 2]).texts == ["bir", "üç"]
    how: Any = {"options": options, "args": ARGS, "recogniser": recogniser(), "normalise": str, "train": True}
    assert dataset_of(None, None, reader_for(options, 16_000), **how) is None


def test_a_stream_has_its_text_normalised_and_ends_at_the_asked_for_number(tmp_path: Path):
    write_tar(tmp_path / "train-0.tar", rows_of(0))
    options = options_for(tmp_path, "--streaming", "--max_steps", "2", "--max_train_samples", "5")
    splits = open_splits(options, train=True, evaluate=False)
    how: Any = {"options": options, "args": ARGS, "recogniser": recogniser(), "normalise": str.upper, "train": True}
    dataset = dataset_of(splits.train, None, reader_for(options, 16_000), **how)
    first_pass = [text for batch in islice(dataset, 3) for text in batch.texts]  # training begins anew for ever
    assert sorted(first_pass) == [text.upper() for _, text in rows_of(0)][:5]


def test_splits_name_corpus_and_part(corpus: Path):
    splits = open_splits(options_for(corpus), train=False, evaluate=True)
    assert splits.name == corpus.name and isinstance(splits, Splits)
    assert json.loads((corpus / "test.jsonl").read_text().splitlines()[0])["text"] == splits.evaluation.texts[0]


def test_letters_among_the_ignored_characters_are_pointed_out(corpus: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("WARNING", "speechtune"):
        text_normaliser(options_for(corpus, "--chars_to_ignore", ",", "?", "!"), "tr")
        assert not caplog.text
        text_normaliser(options_for(corpus, "--chars_to_ignore", ",", "a"), "tr")
    assert "deletes letters: a" in caplog.text
