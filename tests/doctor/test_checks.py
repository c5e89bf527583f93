"""A corpus, counted: durations, odd texts, what both splits share, and a sample of its audio."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import audio_files
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trained_folders import ctc_folder

from speechtune.data.prepare import Limits, PreparedSplit, prepare_split
from speechtune.doctor import checks
from speechtune.doctor.checks import (
    EDGES_S,
    deleted_characters,
    duration_histogram,
    find_outliers,
    model_needs,
    sample_audio,
    shared,
    signs_in,
)
from speechtune.doctor.old_data import Splits
from speechtune.errors import AudioError, TextError
from speechtune.models.loading import random_config
from speechtune.options.parse import parse_options
from speechtune.types import Utterance

# ---- durations and texts


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1e5) | st.just(math.nan), max_size=30))
def test_every_known_duration_is_in_one_bin(durations_s: list[float]):
    counts = duration_histogram(durations_s)
    assert len(counts) == len(EDGES_S) - 1 and sum(counts) == sum(d == d for d in durations_s)


def test_the_histogram_of_nothing_is_empty():
    assert sum(duration_histogram([])) == 0


def test_signs_are_punctuation_and_symbols_but_no_apostrophe_and_no_letters():
    assert signs_in(["don't — stop!!", "5 € ½ ş ़ _"]) == {"—": 1, "!": 2, "€": 1, "_": 1}
    assert signs_in([]) == {}


def test_a_character_that_is_only_changed_is_not_deleted():
    assert deleted_characters(["A!B ?", "!\u00a0"], lambda text: text.lower().replace("!", "")) == {"!": 2}


def test_what_is_shared_is_the_same_from_both_sides():
    assert shared([], ["a"]) == (0, 0) and shared(["a"], []) == (0, 0)
    assert shared(["a", "b"], ["b", "b", "a", "c"]) == (2, 3)


def test_a_speed_is_an_outlier_only_beyond_both_limits():
    durations, usual = np.full(40, 1.0, np.float32), ["x" * 10] * 39
    assert find_outliers(durations, [*usual, "x" * 25])[1] == []  # a factor of 2.5 is not beyond 2.5
    assert find_outliers(durations, [*usual, "x" * 26])[1] == [(39, pytest.approx(26))]
    spread = ["x" * 2 ** (n % 8) for n in range(39)]
    assert find_outliers(durations, [*spread, "x" * 2000])[1] == []  # all differ, so none is an outlier


def test_durations_of_zero_have_no_speed():
    median, outliers = find_outliers(np.zeros(40, np.float32), ["abc"] * 40)
    assert math.isnan(median) and outliers == []


# ---- audio


class Table:
    split = "train"

    def __init__(self, paths: list[Path], durations_s: list[float] | None = None, gone: tuple[int, ...] = ()) -> None:
        self.paths, self.gone = paths, gone
        self.durations_s = np.array(durations_s or [0.5] * len(paths), np.float32)
        self.ids = [path.stem for path in paths]
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.paths)

    def split_in_use(self) -> PreparedSplit:
        texts = ["ab"] * len(self)
        return prepare_split(self, texts, encode=lambda text: [1, 2], limits=None)

    skipped = ()

    def __getitem__(self, row: int) -> Utterance:
        self.asked.append(row)
        if row in self.gone:
            raise AudioError("a.tar:\n cut", reason="undecodable")
        path = str(self.paths[row])
        return Utterance(self.ids[row], path, path, "", float(self.durations_s[row]), path)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    voice = audio_files.voice(0.5, 16_000)
    good = audio_files.write(tmp_path / "good.wav", voice, 16_000)
    stereo = audio_files.write(tmp_path / "two.flac", np.stack([voice, voice], 1), 8_000)
    silent = audio_files.write(tmp_path / "silent.wav", voice * 0, 16_000)
    torn = tmp_path / "torn.wav"
    torn.write_bytes(good.read_bytes()[:1000])
    return Table([good, stereo, silent, torn, good], gone=(4,))


def test_formats_are_counted_and_what_evaluation_can_not_use_is_named(table: Table):
    seen: list[int] = []
    found = sample_audio(table.split_in_use(), None, on_clip=seen.append)
    assert found.num_decoded == 5 and seen == [1, 2, 3, 4, 5]
    assert found.formats == {("WAV", 16_000, 1): 2, ("FLAC", 8_000, 2): 1}
    assert [(reason, utterance.id) for reason, utterance in found.doubtful] == [("silent", "silent")]
    assert [(row.id, row.reason) for row in found.unusable] == [("torn", "truncated"), ("good", "undecodable")]
    assert found.unusable[1].detail == "a.tar: cut" and found.unusable[1].file == ""


def test_training_can_not_use_silence_nor_recordings_that_are_shorter_than_their_header_says(table: Table):
    table.durations_s[0] = 3.0
    found = sample_audio(table.split_in_use(), Limits(min_duration_s=1.0))
    reasons = [("good", "too_short"), ("silent", "silent"), ("torn", "truncated"), ("good", "undecodable")]
    assert [(row.id, row.reason) for row in found.unusable] == reasons and found.doubtful == []


def test_no_recording_at_all_is_no_error():
    assert sample_audio(Table([]).split_in_use(), None).num_decoded == 0


def test_a_sample_is_spread_evenly_from_the_first_to_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checks, "MAX_DECODED", 5)
    table = Table([tmp_path / "none.wav"] * 101)
    assert sample_audio(table.split_in_use(), None).num_decoded == 5 and table.asked == [0, 25, 50, 75, 100]


@pytest.mark.parametrize(("duration_s", "num_decoded"), [(900.0, 2), (7200.0, 1), (math.nan, 3)])
def test_long_recordings_are_sampled_by_their_length(duration_s: float, num_decoded: int, tmp_path: Path):
    table = Table([tmp_path / "none.wav"] * 3, [duration_s] * 3)
    assert sample_audio(table.split_in_use(), None).num_decoded == num_decoded


# ---- what a model asks


def splits_of(texts: list[str]) -> Splits:
    splits = Splits("corpus", "tr", SimpleNamespace(texts=texts), None, "train")
    splits.train_texts = texts
    return splits


def options_for(*words: str) -> Any:
    return parse_options(["--dataset_name", "c", *words], command="doctor", prog="speechtune doctor")


def test_without_a_model_letters_are_those_of_the_text_and_frames_are_the_usual_ones():
    needs = model_needs(options_for(), None, splits_of(["ba", "a"]))
    assert needs.vocabulary == {"|": 0, "a": 1, "b": 2, "[UNK]": 3, "[PAD]": 4}
    assert list(needs.encode("b aç")) == [2, 0, 1, 3]
    frames = needs.frames_of()
    assert frames is not None
    assert [frames(s) for s in (0.0, 0.0249, 0.025, 0.0449, 0.045, 1.0)] == [0, 0, 1, 1, 2, 49]


@pytest.mark.parametrize("duration_s", [0.0, 0.02, 0.025, 0.0449, 0.045, 0.5, 1.0, 19.99])
def test_the_usual_frames_are_those_of_the_usual_model(duration_s: float):
    usual = model_needs(options_for(), None, splits_of(["a"])).frames_of()
    of_model = model_needs(options_for(), random_config({"model_type": "wav2vec2"}), splits_of(["a"])).frames_of()
    assert usual is not None and of_model is not None and usual(duration_s) == of_model(duration_s)


def test_a_model_of_filter_banks_counts_no_frames_beforehand():
    config = random_config({"model_type": "wav2vec2-bert"})
    assert model_needs(options_for(), config, splits_of(["a"])).frames_of() is None


def test_a_given_tokenizers_letters_are_taken(tmp_path: Path):
    folder = ctc_folder(tmp_path / "run", letters="xyz")
    needs = model_needs(options_for("--tokenizer_name_or_path", str(folder)), None, splits_of(["ab"]))
    assert needs.vocabulary is not None and "x" in needs.vocabulary and "b" not in needs.vocabulary
    assert list(needs.encode("xb")) == [1, 4]


def test_no_letters_are_a_message():
    with pytest.raises(TextError, match="corpus, train: no "):
        model_needs(options_for(), None, splits_of(["", " "]))
