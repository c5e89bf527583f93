"""A multilingual Whisper that is given no language: what is heard, what is read, and where they disagree."""

from __future__ import annotations

from pathlib import Path

import pytest
from reliability.tiny import write_clip, write_manifest
from standins.whisper import build_whisper

from speechtune.errors import OptionError
from speechtune.options.parse import parse_options
from speechtune.plan.plan import RunPlan
from speechtune.plan.resolve import resolve

ITALIAN = ("il gatto dorme sul tavolo", "domani andiamo al mare con gli amici", "la finestra della camera è aperta")
GERMAN = ("die Katze schläft auf dem Tisch", "morgen fahren wir ans Meer", "das Fenster des Zimmers ist offen")


@pytest.fixture(scope="module")
def undecided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper of random weights: no language is likelier than another."""
    folder = tmp_path_factory.mktemp("undecided")
    build_whisper(folder)
    return folder


@pytest.fixture(scope="module")
def hears_italian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper whose next token is <|it|>, whatever it hears."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("italian")
    build_whisper(folder)
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder)
    with torch.no_grad():
        model.model.decoder.embed_tokens.weight[model.generation_config.lang_to_id["<|it|>"], 0] = 30.0
    model.save_pretrained(folder)
    return folder


def corpus_of(folder: Path, texts: tuple[str, ...]) -> Path:
    for index in range(len(texts)):
        write_clip(folder / f"{index}.wav", 0.3, seed=index)
    write_manifest(folder, "train", [{"audio": f"{n}.wav", "text": text} for n, text in enumerate(texts)])
    write_manifest(folder, "test", [{"audio": "0.wav", "text": texts[0]}])
    return folder


def plan_for(model: Path, corpus: Path, *words: str) -> RunPlan:
    given = [
        "--model_name_or_path",
        str(model),
        "--dataset_name",
        str(corpus),
        "--train_split_name",
        "train",
        "--force",
    ]
    out = ["--output_dir", str(corpus.parent / "out")]
    return resolve(parse_options([*given, *out, *words], command="train"))


def test_the_language_that_is_heard_is_used_and_said(hears_italian: Path, tmp_path: Path):
    plan = plan_for(hears_italian, corpus_of(tmp_path / "corpus", ITALIAN))
    assert plan.language == plan.settings.language == "it"
    said = [note for note in plan.notes if "Italian (it) was heard in 3 clips" in note]
    assert len(said) == 1 and said[0].endswith("using --language it")


def test_transcripts_in_another_language_stop_the_run(hears_italian: Path, tmp_path: Path):
    with pytest.raises(OptionError, match=r"Italian \(it\) was heard .* look like German \(de\)\.\n.*--language de"):
        plan_for(hears_italian, corpus_of(tmp_path / "corpus", GERMAN))


@pytest.mark.parametrize("words", [("--language", "german"), ("--task", "translate", "--language", "it")])
def test_a_language_that_the_user_names_is_not_questioned(words: tuple[str, ...], hears_italian: Path, tmp_path: Path):
    plan = plan_for(hears_italian, corpus_of(tmp_path / "corpus", GERMAN), *words)
    assert plan.language == ("de" if words[1] == "german" else "it")
    assert not any("heard" in note for note in plan.notes)


def test_a_model_that_can_not_tell_leaves_the_default(undecided: Path, tmp_path: Path):
    plan = plan_for(undecided, corpus_of(tmp_path / "corpus", ITALIAN))
    assert plan.language is None and not any("heard" in note for note in plan.notes)


def test_a_few_words_do_not_decide_the_language_of_the_text(hears_italian: Path, tmp_path: Path):
    assert plan_for(hears_italian, corpus_of(tmp_path / "corpus", ("ok", "zero", "taxi"))).language == "it"
