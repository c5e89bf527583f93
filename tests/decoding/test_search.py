"""A recogniser searches as its options say; batches over processes give the same, in the same order."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import audio_files
import numpy as np
import pytest
import tiny_seq2seq
import torch
from tiny_checkpoints import build
from trained_folders import ctc_folder

from speechtune.decoding.beam_search import BeamSearch
from speechtune.decoding.ctc_path import best_path
from speechtune.decoding.fusion import Fusion, Piece
from speechtune.decoding.long_form import transcript_of
from speechtune.decoding.search import (
    CtcSearch,
    attach_search,
    attached_search,
    default_beams,
    find_lm,
    hotword_weights,
    pieces_of,
    tuned_weights,
)
from speechtune.errors import OptionError
from speechtune.models.ctc.recogniser import CtcRecogniser
from speechtune.models.ctc.setup import load_ctc
from speechtune.options.table import Settings
from speechtune.text.ngrams.arpa import write_arpa
from speechtune.text.ngrams.build import build_ngrams
from speechtune.text.ngrams.model import NgramModel


def test_several_processes_give_the_paths_of_one_in_order():
    letters = [Piece("", starts_word=True), Piece("a"), Piece("b"), Piece("?")]
    fusion = Fusion(NgramModel(build_ngrams(["a b ab", "ba ab a"])), hotwords={"bb": 2.0})
    search = BeamSearch(letters, 3, fusion=fusion, num_beams=8)
    draw = np.random.default_rng(0)
    utterances = [np.log(draw.dirichlet([1.0] * 4, size=60 + 13 * n)).astype(np.float32) for n in range(12)]
    alone, several = CtcSearch(search), CtcSearch(search, num_processes=2)
    expected, found = alone(utterances), several(utterances)
    assert several._pool is not None
    several.close()
    assert all(np.array_equal(*pair) for pair in zip(expected, found, strict=True))
    assert [len(path) for path in found] == [len(utterance) for utterance in utterances]
    assert alone([np.zeros((0, 4), np.float32)])[0].tolist() == []


@pytest.mark.parametrize(
    ("words", "weights"),
    [(["ankara"], {"ankara": 8.0}), (["new  york=12", "a=-1.5"], {"new york": 12.0, "a": -1.5}), ([], {})],
)
def test_hot_words_have_a_weight_each(words: list[str], weights: dict[str, float]):
    assert hotword_weights(words) == weights


@pytest.mark.parametrize("entry", ["ankara=", "=3", "a=b", "a=nan", "a=1e9", " "])
def test_a_hot_word_without_word_or_number_is_named(entry: str):
    with pytest.raises(OptionError, match="--hotwords"):
        hotword_weights([entry])


def test_weights_are_the_users_then_those_of_the_file_then_ours(tmp_path: Path):
    lm = tmp_path / "lm.arpa"
    assert vars(tuned_weights(lm, Settings())) == {"alpha": 0.5, "beta": 1.0, "unknown": -5.0}
    tuned = {"alpha": 0.9, "beta": 0.1, "unknown": -2.0}
    (tmp_path / "lm.json").write_text(json.dumps({"lm": "lm.arpa", "weights": tuned}))
    assert vars(tuned_weights(lm, Settings())) == tuned
    assert vars(tuned_weights(lm, Settings(lm_beta=0.0))) == tuned | {"beta": 0.0}
    assert tuned_weights(tmp_path / "other.arpa", Settings()).alpha == 0.5  # tuned for another model


def test_auto_is_the_file_in_the_models_folder(tmp_path: Path):
    with pytest.raises(OptionError, match=r"no lm\.arpa\.gz in .*\nBuild one: speechtune lm build"):
        find_lm("auto", str(tmp_path))
    (tmp_path / "lm.arpa").touch()
    assert find_lm("auto", str(tmp_path)) == tmp_path / "lm.arpa"
    with pytest.raises(OptionError, match="--lm nowhere: no such file"):
        find_lm("nowhere", str(tmp_path))


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> CtcRecogniser:
    return load_ctc(Settings(model_name_or_path=str(ctc_folder(tmp_path_factory.mktemp("m") / "run"))))


def test_labels_are_letters_and_the_space_starts_a_word(recogniser: CtcRecogniser):
    pieces = pieces_of(recogniser)
    assert pieces[0] == ("", True) and pieces[1:6] == [(letter, False) for letter in "abcde"]


def test_a_search_is_attached_for_a_while(recogniser: CtcRecogniser, tmp_path: Path):
    write_arpa(build_ngrams(["abc de", "de"]), tmp_path / "lm.arpa")
    with attached_search(recogniser, Settings(lm=str(tmp_path / "lm.arpa"), num_beams=7, hotwords=("abc",))):
        assert isinstance(recogniser.search, CtcSearch)
        search = recogniser.search.search
        assert search.num_beams == 7 and search.fusion is not None and search.fusion.hotwords == {"abc": 8.0}
    assert recogniser.search is None
    with attached_search(recogniser, Settings()):
        assert recogniser.search is None


def test_a_long_recording_is_searched_in_parts_as_a_whole(recogniser: CtcRecogniser, monkeypatch: pytest.MonkeyPatch):
    samples = np.tile(audio_files.voice(9.0, 16_000, seed=2), 8)
    with torch.inference_mode():
        greedy = best_path(recogniser, samples, recogniser.model)
        monkeypatch.setattr(recogniser, "search", lambda utterances: [rows.argmax(axis=1) for rows in utterances])
        searched = best_path(recogniser, samples, recogniser.model, speech=[(0, len(samples))])
        silent = best_path(recogniser, samples, recogniser.model, speech=[(0, 16_000)])
    assert len(searched.labels) == len(greedy.labels) == len(silent.labels) > 2 * 1500
    assert np.array_equal(searched.labels, greedy.labels)
    assert np.allclose(searched.probabilities, greedy.probabilities, atol=1e-5)
    assert (silent.labels[60:] == recogniser.blank).all()


@pytest.mark.parametrize("kind", ["letters", "phones", "pieces"])
def test_pieces_spell_what_the_decoder_writes(kind: str, recogniser: CtcRecogniser, tmp_path: Path):
    if kind == "pieces":
        recogniser = load_ctc(Settings(model_name_or_path=str(build(tmp_path, "parakeet_ctc"))))
    if kind == "phones":
        recogniser = copy.copy(recogniser)
        recogniser.decoder = copy.copy(recogniser.decoder)
        recogniser.decoder.joint = " "
    search = BeamSearch(pieces_of(recogniser), recogniser.blank)
    draw, num_labels = np.random.default_rng(0), int(recogniser.model.config.vocab_size)
    unknown = recogniser.tokenizer.unk_token_id
    for _ in range(20):
        labels = [int(n) for n in draw.integers(0, num_labels, 9) if n not in (recogniser.blank, unknown)]
        frames = [frame for label in labels for frame in (label, recogniser.blank)]
        assert search.text(labels) == " ".join(recogniser.decoder(np.array(frames, np.int64)).split())


def test_hot_words_are_refused_for_other_models():
    with pytest.raises(OptionError, match=r"--hotwords is for CTC models.*\nWhisper takes them as --prompt"):
        attach_search(tiny_seq2seq.whisper(), Settings(hotwords=("ankara",)))


# ---- a text before


def test_a_text_before_is_refused_for_other_models(recogniser: CtcRecogniser):
    for other in (recogniser, tiny_seq2seq.joined()):
        with pytest.raises(OptionError, match="--prompt is for Whisper"):
            attach_search(other, Settings(prompt="ankara"))


def test_a_transducer_has_no_search():
    with pytest.raises(OptionError, match="transducers are decoded greedily"):
        default_beams("transducer")


@pytest.mark.parametrize("num_beams", [None, 3])
def test_a_text_before_changes_what_whisper_writes_and_is_not_in_it(num_beams: int | None):
    recogniser = tiny_seq2seq.whisper()
    batch = tiny_seq2seq.batch_of(recogniser)
    beams = {"num_beams": num_beams} if num_beams else {}
    with torch.inference_mode():
        before = [row.text for row in recogniser.recognise(recogniser.model, batch, with_loss=False)]
        with attached_search(recogniser, Settings(prompt="bir iki üç", num_beams=num_beams)):
            found = [row.text for row in recogniser.recognise(recogniser.model, batch, with_loss=False)]
            recogniser.keeps_evidence = True
            first = [row.unaided for row in recogniser.recognise(recogniser.model, batch, with_loss=False)]
            recogniser.keeps_evidence = False
        prompt_ids = torch.tensor(recogniser.tokenizer.get_prompt_ids("bir iki üç"))
        made = recogniser.model.generate(batch.inputs["input_features"], prompt_ids=prompt_ids, **beams)
        after = [row.text for row in recogniser.recognise(recogniser.model, batch, with_loss=False)]
    assert found == recogniser.tokenizer.batch_decode(made, skip_special_tokens=True)
    assert first == [text.strip() for text in found] and before == after != found


def test_a_text_before_is_given_to_each_window_of_a_long_recording(monkeypatch: pytest.MonkeyPatch):
    recogniser = tiny_seq2seq.whisper()
    samples = np.concatenate([audio_files.voice(s, 16_000, seed=n) for n, s in enumerate((20.0, 14.0))])
    generate, given = recogniser.model.generate, []
    monkeypatch.setattr(recogniser.model, "generate", lambda **options: given.append(options) or generate(**options))
    attach_search(recogniser, Settings(prompt="bir iki"))
    found = transcript_of(recogniser, samples)
    assert len(given) > 1 and all(row["prompt_ids"].tolist() == recogniser.preceding for row in given)
    assert found.text != "" and "bir iki" not in found.text
