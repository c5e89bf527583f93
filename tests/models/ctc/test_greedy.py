"""Best labels of the frames become the text that transformers' own tokenizer makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechtune.models.ctc.recogniser import GreedyDecoder
from speechtune.models.ctc.tokenizer import ctc_tokenizer

TOKENS = {"unk_token": "[UNK]", "pad_token": "[PAD]", "word_delimiter_token": "|"}
LETTERS = ["|", "a", "ç", "b", "[UNK]", "[PAD]"]
PHONES = ["|", "m", "tʃ", "ɛ", "[UNK]", "[PAD]"]
DELIMITER, A, C, B, UNKNOWN, BLANK = range(6)


def tokenizer_of(names: list[str], folder: Path, *, phones: bool = False):
    return ctc_tokenizer({name: n for n, name in enumerate(names)}, folder, phones=phones, **TOKENS)


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory):
    return tokenizer_of(LETTERS, tmp_path_factory.mktemp("letters"))


@pytest.fixture(scope="module")
def phones(tmp_path_factory: pytest.TempPathFactory):
    return tokenizer_of(PHONES, tmp_path_factory.mktemp("phones"), phones=True)


def decoded(tokenizer, *ids: int, num_labels: int = 6) -> str:
    return GreedyDecoder(tokenizer, num_labels=num_labels)(np.array(ids, np.int64))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=30))
def test_text_is_what_the_tokenizer_decodes(letters, ids: list[int]):
    assert decoded(letters, *ids) == letters.decode(ids)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 3, 4, 5]), min_size=1, max_size=30))
def test_phones_are_what_the_tokenizer_decodes(phones, ids: list[int]):
    assert decoded(phones, *ids) == phones.decode(ids)


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ((), ""),
        ((BLANK, BLANK), ""),
        ((A, A, A), "a"),
        ((A, BLANK, A), "aa"),
        ((A, BLANK, BLANK, A, A, C), "aaç"),
        ((DELIMITER, A, DELIMITER), "a"),
        ((A, DELIMITER, BLANK, DELIMITER, B), "a  b"),
        ((A, UNKNOWN, B), "a[UNK]b"),
    ],
)
def test_repeats_collapse_unless_a_blank_parts_them(letters, ids: tuple[int, ...], text: str):
    assert decoded(letters, *ids) == text


def test_phones_stand_apart_and_their_words_can_be_told(phones):
    assert decoded(phones, 1, 3, 0, BLANK, 2, 2, 3) == "m ɛ | tʃ ɛ"


def test_a_head_wider_than_the_vocabulary_says_unknown(letters):
    assert decoded(letters, A, 7, num_labels=8) == "a[UNK]"


def test_a_head_narrower_than_the_vocabulary_is_no_error(letters):
    assert decoded(letters, A, B, num_labels=4) == "ab"


def test_a_tokenizer_that_lowers_case_does_so(tmp_path: Path):
    from transformers import Wav2Vec2CTCTokenizer

    tokenizer_of(["|", "A", "B", "C", "[UNK]", "[PAD]"], tmp_path)
    lowering = Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"), do_lower_case=True, **TOKENS)
    keeping = Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"), do_lower_case=False, **TOKENS)
    assert decoded(lowering, 1, DELIMITER, 2) == lowering.decode([1, DELIMITER, 2]) == "a b"
    assert decoded(keeping, 1, DELIMITER, 2) == "A B"


def test_blank_is_the_padding_token_wherever_it_stands(tmp_path: Path):
    first = tokenizer_of(["[PAD]", "|", "a", "b", "[UNK]"], tmp_path)
    assert decoded(first, 0, 2, 2, 0, 2, 1, 3, 0, num_labels=5) == "aa b"
