"""A corpus, counted: durations, odd texts, what both splits share, and a sample of its audio."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import audio_files
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechtune.data.prepare import Limits, prepare_split
from speechtune.doctor import checks
from speechtune.doctor.checks import (
    EDGES_S,
    decode_sample,
    deleted_characters,
    duration_histogram,
    find_outliers,
    shared,
    signs_in,
)
from speechtune.doctor.roles import Role
from speechtune.errors import AudioError
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

    def role(self, limits: Limits | None = None) -> Role:
        texts = ["ab"] * len(self)
        return Role("train", self, texts, prepare_split(self, texts, encode=lambda text: [1, 2], limits=None), limits)

    skipped = ()

    def __getitem__(self, row: int) -> Utterance:
        self.asked.append(row)
        if row in self.gone:
            raise AudioError("a.tar:\n cut", reason="undecodable")
        path = str(self.paths[row])
        return Utterance(self.ids[row], path, path, "", float(self.durations_s[row]), path)


def decoded(table: Table, limits: Limits | None = None, **options: Any) -> Role:
    role = table.role(limits)
    decode_sample(role, **options)
    return role


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
    found = decoded(table, on_clip=seen.append)
    assert found.num_decoded == 5 and seen == [1, 2, 3, 4, 5]
    assert found.formats == {("WAV", 16_000, 1): 2, ("FLAC", 8_000, 2): 1}
    assert [(reason, utterance.id) for reason, utterance in found.doubtful] == [("silent", "silent")]
    assert [(row.id, row.reason) for row in found.unusable] == [("torn", "truncated"), ("good", "undecodable")]
    assert found.unusable[1].detail == "a.tar: cut" and found.unusable[1].file == ""


def test_training_can_not_use_silence_nor_recordings_that_are_shorter_than_their_header_says(table: Table):
    table.durations_s[0] = 3.0
    found = decoded(table, Limits(min_duration_s=1.0))
    reasons = [("good", "too_short"), ("silent", "silent"), ("torn", "truncated"), ("good", "undecodable")]
    assert [(row.id, row.reason) for row in found.unusable] == reasons and found.doubtful == []


def test_no_recording_at_all_is_no_error():
    assert decoded(Table([])).num_decoded == 0


def test_a_sample_is_spread_evenly_from_the_first_to_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checks, "MAX_DECODED", 5)
    table = Table([tmp_path / "none.wav"] * 101)
    assert decoded(table).num_decoded == 5 and table.asked == [0, 25, 50, 75, 100]


@pytest.mark.parametrize(("duration_s", "num_decoded"), [(900.0, 2), (7200.0, 1), (math.nan, 3)])
def test_long_recordings_are_sampled_by_their_length(duration_s: float, num_decoded: int, tmp_path: Path):
    table = Table([tmp_path / "none.wav"] * 3, [duration_s] * 3)
    assert decoded(table).num_decoded == num_decoded
