"""The demo's corpus: Turkish sentences, splits that share none, voices that training never hears."""

from __future__ import annotations

import csv
import hashlib
import shutil
from pathlib import Path

import make_demo_base_model as base_recipe
import pytest

from speechtune.demo import corpus
from speechtune.demo.corpus import (
    RELEASE,
    RELEASE_UNSEEN_VOICE,
    UNSEEN_VARIANTS,
    VARIANTS,
    DemoCorpus,
    build_corpus,
    sentences,
)
from speechtune.errors import OutputError
from speechtune.text.espeak import is_installed

needs_voices = pytest.mark.skipif(not is_installed(), reason="espeakng-loader, an optional part, is not installed")


def make_small(patch: pytest.MonkeyPatch) -> None:
    for name, number in (("NUM_TRAIN", 20), ("NUM_DEV", 2), ("NUM_TEST", 4)):
        patch.setattr(corpus, name, number)


@pytest.fixture
def small(monkeypatch):
    make_small(monkeypatch)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> DemoCorpus:
    """A corpus of `small` size, built once; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        return build_corpus(tmp_path_factory.mktemp("built") / "corpus")


def rows(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_sentences_are_different_and_the_same_every_time():
    drawn = sentences(300)
    assert len(set(drawn)) == 300
    assert drawn == sentences(300)
    assert drawn[0] == "Mehmet bugün çok yorgun."


def test_sentences_begin_with_a_turkish_capital_and_end_in_a_mark():
    drawn = sentences(600)
    assert all(sentence[0] == sentence[0].upper() and sentence[-1] in ".?!" for sentence in drawn)
    assert any(sentence.startswith("İki") for sentence in drawn)  # not "Iki"
    assert {"İ", "I", "'", ","} <= set("".join(drawn))


def test_every_slot_of_the_grammar_is_filled_and_none_is_idle():
    slots, templates = corpus._grammar()
    used = {slot for template in templates for slot in corpus.re.findall(r"\{(.*?)\}", template)}
    assert used == set(slots)
    assert not any("{" in sentence or "[" in sentence for sentence in sentences(600))


def test_no_sentence_is_in_two_splits_but_for_the_two_tests():
    clips = corpus._plan()
    texts = {}
    for clip in clips:
        texts.setdefault((clip.release, clip.split), set()).add(clip.sentence)
    assert {key: len(value) for key, value in texts.items()} == {
        (RELEASE, "train"): corpus.NUM_TRAIN,
        (RELEASE, "dev"): corpus.NUM_DEV,
        (RELEASE, "test"): corpus.NUM_TEST,
        (RELEASE_UNSEEN_VOICE, "test"): corpus.NUM_TEST,
    }
    assert texts[RELEASE, "test"] == texts[RELEASE_UNSEEN_VOICE, "test"]
    assert not texts[RELEASE, "test"] & (texts[RELEASE, "train"] | texts[RELEASE, "dev"])
    assert not texts[RELEASE, "train"] & texts[RELEASE, "dev"]


def test_the_unseen_voices_are_heard_neither_in_training_nor_by_the_base_model():
    clips = corpus._plan()
    assert {c.variant for c in clips if c.release == RELEASE} == set(VARIANTS)
    assert {c.variant for c in clips if c.release == RELEASE_UNSEEN_VOICE} == set(UNSEEN_VARIANTS)
    assert not set(UNSEEN_VARIANTS) & (set(VARIANTS) | set(base_recipe.VARIANTS))


def test_the_base_model_heard_no_turkic_language():
    turkic = {"az", "ba", "cv", "kaa", "kk", "ky", "nog", "tk", "tr", "tt", "ug", "uz"}
    assert not turkic & {language.split("-")[0] for language in base_recipe.LANGUAGES}


@needs_voices
def test_the_corpus_is_read_as_common_voice(built):
    from speechtune.corpora import open_corpus

    assert built.num_clips == 30
    read = open_corpus(str(built.release), "tr")
    assert read.language == "tr"
    assert set(read.splits) == {"train", "validation", "test", "validated"}
    train = read.read("train", text_column="sentence", progress=False)
    assert len(train) == 20
    assert train.texts[0] == sentences(1)[0]
    assert train[0].speaker == "espeak-ng-tr+f1"
    unseen = open_corpus(str(built.release_unseen_voice), "tr").read("test", text_column="sentence", progress=False)
    assert {utterance.speaker for utterance in (unseen[i] for i in range(4))} == {
        "espeak-ng-tr+f5",
        "espeak-ng-tr+m8",
    }


@needs_voices
def test_durations_in_the_table_are_those_of_the_clips(built):
    import soundfile

    tr = built.release / "tr"
    for row in rows(tr / "clip_durations.tsv")[:5]:
        info = soundfile.info(tr / "clips" / row["clip"])
        assert info.format == "MP3"
        assert info.duration == pytest.approx(int(row["duration[ms]"]) / 1000, abs=0.15)  # the encoder pads


@needs_voices
def test_two_builds_are_the_same_to_the_byte(small, built, tmp_path):
    def digest(folder: Path) -> dict[str, str]:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    build_corpus(tmp_path / "again")
    assert digest(built.release.parent) == digest(tmp_path / "again")
    assert len(digest(tmp_path / "again")) == 30 + 1 + 5 + 3


@needs_voices
def test_a_corpus_that_is_there_is_used_and_another_version_replaced(small, built, tmp_path, monkeypatch):
    shutil.copytree(built.release.parent, tmp_path / "corpus")
    made = build_corpus(tmp_path / "corpus")
    clip = next((made.release / "tr" / "clips").iterdir())
    before = clip.stat().st_mtime_ns
    assert build_corpus(tmp_path / "corpus") == made
    assert clip.stat().st_mtime_ns == before
    monkeypatch.setattr(corpus, "NUM_TEST", 5)
    assert build_corpus(tmp_path / "corpus").num_clips == 32


def test_a_folder_that_is_not_the_demos_is_left_alone(tmp_path):
    mine = tmp_path / "corpus" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("years of work")
    with pytest.raises(OutputError, match="did not make"):
        build_corpus(mine.parent)
    assert mine.read_text() == "years of work"
