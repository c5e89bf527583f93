"""Labels that are pieces of words: a checkpoint's own, and those learned from the training text."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_checkpoints import TEXTS, build, pieces

from speechtune.errors import OptionError, TextError
from speechtune.models.ctc.pieces import PieceDecoder, PieceLabeller, learn_pieces, unwritable_characters
from speechtune.models.ctc.setup import ctc_for_training
from speechtune.models.loading import model_config_of
from speechtune.options.table import Settings
from speechtune.text.vocab import num_pieces_of


@pytest.fixture(scope="module")
def parakeet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("parakeet"), "parakeet_ctc")


def for_training(folder: Path, out: Path, **options: Any) -> Any:
    settings = Settings(model_name_or_path=str(folder), **options)
    return ctc_for_training(
        settings, model_config_of(settings), vocabulary_texts=TEXTS, eval_texts=["on"], folder=out, where="TEXTS"
    )


def test_pieces_of_the_training_text_write_it_back_and_end_with_the_blank(tmp_path: Path):
    import transformers

    tokenizer = learn_pieces([*TEXTS, "on "], 24, where="TEXTS")
    vocabulary = tokenizer.get_vocab()
    assert sorted(vocabulary.values()) == list(range(25))
    assert (vocabulary["<unk>"], vocabulary["<pad>"], tokenizer.pad_token_id) == (0, 24, 24)
    assert max(len(piece) for piece in vocabulary if piece[0] != "<") > 2  # more than letters
    labeller, decoder = PieceLabeller(tokenizer), PieceDecoder(tokenizer, blank=24)
    for text in TEXTS:
        frames = [label for i in labeller(text + " ") for label in (24, i, i)]
        assert decoder(np.array(frames)) == text
    tokenizer.save_pretrained(tmp_path)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path).get_vocab() == vocabulary
    assert learn_pieces([*TEXTS, "on "], 24, where="TEXTS").get_vocab() == vocabulary  # a resumed run learns the same


def test_equal_pieces_with_a_blank_between_them_are_two():
    tokenizer = learn_pieces(["aa aa", "a a"], 5, where="")
    i, blank = tokenizer.get_vocab()["a"], tokenizer.pad_token_id
    decoder = PieceDecoder(tokenizer, blank=blank)
    assert decoder(np.array([i, i, blank, i])) == "aa"
    assert decoder(np.array([i, i, i])) == "a"
    assert decoder(np.array([], int)) == decoder(np.array([blank, blank])) == ""


def test_a_tokenizer_of_capital_letters_gets_those():
    labeller = PieceLabeller(learn_pieces([text.upper() for text in TEXTS], 24, where=""))
    assert labeller("on") == labeller("ON") and 0 not in labeller("on")


def test_characters_that_no_piece_has_are_counted():
    assert unwritable_characters(pieces(), ["on ş", "şx"]) == Counter({"ş": 2, "x": 1})


def test_a_checkpoint_with_pieces_keeps_tokenizer_and_head(parakeet: Path, tmp_path: Path):
    import torch
    import transformers

    recogniser = for_training(parakeet, tmp_path)
    assert recogniser.tokenizer.get_vocab() == pieces().get_vocab() and recogniser.blank == 24
    plain = transformers.AutoModelForCTC.from_pretrained(parakeet)
    assert torch.equal(recogniser.model.ctc_head.weight, plain.ctc_head.weight)
    assert len(recogniser.encode("on yedi")) < len("on yedi")


@pytest.mark.parametrize(("asked", "size"), [("characters", None), ("bpe:20", 21), ("bpe:24", 25)])
def test_a_new_vocabulary_starts_a_new_head(parakeet: Path, tmp_path: Path, asked: str, size: int | None):
    import torch
    import transformers

    recogniser = for_training(parakeet, tmp_path, new_vocabulary=asked)
    size = size or len(set("".join(TEXTS))) + 2
    assert recogniser.model.config.vocab_size == len(recogniser.model.ctc_head.bias) == size
    assert recogniser.blank == recogniser.model.config.pad_token_id == size - 1
    plain = transformers.AutoModelForCTC.from_pretrained(parakeet)
    if size == plain.config.vocab_size and asked == "bpe:24":  # the very same pieces: the head is no other's
        assert torch.equal(recogniser.model.ctc_head.weight, plain.ctc_head.weight)
    else:
        assert recogniser.model.ctc_head.bias.softmax(0)[-1].item() == pytest.approx(0.75)
    assert recogniser.decoder(np.array(recogniser.encode("on yedi "))) == "on yedi"


@pytest.mark.parametrize("asked", ["bpe", "bpe:", "bpe:0", "bpe:-3", "bpe:x", "letters", "bpe:99999999", ""])
def test_a_new_vocabulary_that_nobody_knows_is_one_message(asked: str):
    with pytest.raises(OptionError, match="give `characters`, or `bpe:256`"):
        num_pieces_of(asked)


def test_fewer_pieces_than_characters_are_one_message():
    with pytest.raises(TextError, match="has 13 characters, and each is a piece"):
        learn_pieces(["abcdefgh ijkl"], 13, where="corpus/tr")
    with pytest.raises(TextError, match="no pieces to learn"):
        learn_pieces(["", ""], 13, where="corpus/tr")


def test_options_that_contradict_a_new_vocabulary_are_named(parakeet: Path, tmp_path: Path):
    with pytest.raises(OptionError, match="--tokenizer_name_or_path"):
        for_training(parakeet, tmp_path, new_vocabulary="bpe:30", tokenizer_name_or_path=str(parakeet))
    with pytest.raises(OptionError, match="phones are labels already"):
        for_training(parakeet, tmp_path, new_vocabulary="bpe:30", phoneme_language="tr")
