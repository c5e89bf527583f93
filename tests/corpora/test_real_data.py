from __future__ import annotations

from pathlib import Path

import pytest

from speechtune.corpora import open_corpus

ASSETS = Path(__file__).parents[3] / "shared" / "assets"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not (ASSETS / "common_voice").is_dir(), reason=f"no real speech at {ASSETS}"),
]


@pytest.mark.parametrize(
    ("language", "sizes"),
    [("tr", (63, 12, 25)), ("it", (63, 12, 25)), ("sv-SE", (61, 13, 26)), ("hi", (59, 16, 25)), ("de", (63, 12, 25))],
)
def test_common_voice_as_mozilla_ships_it(language, sizes):
    corpus = open_corpus("common_voice", language, corpora_dir=ASSETS)
    tables = [corpus.read(split) for split in ("train", "dev", "test")]
    assert tuple(map(len, tables)) == sizes
    assert all(not table.skipped for table in tables)
    assert all(1 < duration_s < 15 for table in tables for duration_s in table.durations_s)
    speakers = [set(table.speakers) for table in tables]
    assert not (speakers[0] & speakers[1] or speakers[0] & speakers[2] or speakers[1] & speakers[2])


def test_spoken_digits_as_an_audiofolder():
    corpus = open_corpus(str(ASSETS / "fsdd"))
    sizes = {split: len(corpus.read(split)) for split in ("train", "validation", "test")}
    assert sizes == {"train": 2520, "validation": 180, "test": 300}
    table = corpus.read("test")
    assert set(table.texts) == {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
    assert len(set(table.speakers)) == 6
