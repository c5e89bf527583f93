"""Vocabularies: order, what is missing, files, and labels equal to the tokenizers'."""

from __future__ import annotations

import json
import pickle
import random
from collections import Counter
from pathlib import Path

import pytest

from speechtune.errors import ModelError, TextError
from speechtune.text.vocab import (
    Labeller,
    build_vocabulary,
    is_nested,
    missing_characters,
    name_character,
    save_vocabulary,
)


def original_vocabulary(texts: list[str]) -> dict[str, int]:
    """The arithmetic of the original scripts, whose file ours must equal."""
    vocabulary = {char: index for index, char in enumerate(sorted(set(" ".join(texts))))}
    vocabulary["|"] = vocabulary.pop(" ")
    vocabulary["[UNK]"] = len(vocabulary)
    vocabulary["[PAD]"] = len(vocabulary)
    return vocabulary


def test_order_is_delimiter_sorted_characters_unknown_padding():
    assert build_vocabulary(["ba", "a c"]) == {"|": 0, "a": 1, "b": 2, "c": 3, "[UNK]": 4, "[PAD]": 5}


def test_vocabulary_equals_the_original_scripts_for_the_same_text():
    texts = ["merhaba dünya ", "işte 25 'il' ", "ğöç "]
    assert build_vocabulary(texts) == original_vocabulary(texts)


def test_vocabulary_does_not_depend_on_the_order_of_the_text():
    texts = ["çok güzel", "bir gün", "kış"]
    assert list(build_vocabulary(texts)) == list(build_vocabulary(iter(texts[::-1])))


def test_one_word_texts_still_get_a_word_delimiter():
    assert build_vocabulary(["bir", "iki"])["|"] == 0


def test_delimiter_in_the_text_leaves_no_hole_in_the_ids():
    vocabulary = build_vocabulary(["a|b c"])
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert vocabulary["|"] == 0


def test_special_tokens_can_be_skipped():
    assert build_vocabulary(["b a"], unk_token=None, pad_token=None, word_delimiter_token=None) == {
        " ": 0,
        "a": 1,
        "b": 2,
    }


def test_phone_vocabulary_has_phones_as_tokens():
    vocabulary = build_vocabulary(["tʃ ɑː | b", "b"], phones=True)
    assert list(vocabulary) == ["|", "b", "tʃ", "ɑː", "[UNK]", "[PAD]"]


def test_empty_vocabulary_says_what_was_removed():
    with pytest.raises(TextError) as caught:
        build_vocabulary(["", " "], where="common_voice/tr, train", raw_texts=["ab", "a c"])
    assert str(caught.value) == (
        "common_voice/tr, train: no character is left after normalisation, so the vocabulary is empty.\n"
        "--chars_to_ignore removed: 'a' (2 times) 'b' (1 times) 'c' (1 times).\n"
        "Try it without the letters of the language."
    )


def test_empty_corpus_says_where_to_look():
    with pytest.raises(TextError, match=r"no transcript has a character.*\n.*--text_column_name"):
        build_vocabulary([])


def test_missing_characters_are_counted_and_the_space_is_not_one():
    vocabulary = build_vocabulary(["ab c"])
    assert missing_characters(vocabulary, ["a x", "xb y c"]) == Counter({"x": 2, "y": 1})
    assert missing_characters(build_vocabulary(["a b"], phones=True), ["a tʃ"], phones=True) == Counter({"tʃ": 1})


def test_characters_are_named_so_that_one_finds_them():
    assert name_character("ğ") == "ğ (U+011F, LATIN SMALL LETTER G WITH BREVE)"
    assert name_character("\u093c") == "◌\u093c (U+093C, DEVANAGARI SIGN NUKTA)"


@pytest.mark.parametrize("extra", [[], ["ch", "chh", "<wd>"]])
def test_labels_equal_the_tokenizers_input_ids(tmp_path: Path, extra: list[str]):
    from transformers import Wav2Vec2CTCTokenizer

    vocabulary = build_vocabulary(["merhaba dünya ch x"])
    vocabulary |= {token: len(vocabulary) + index for index, token in enumerate(extra)}
    tokenizer = Wav2Vec2CTCTokenizer(
        str(save_vocabulary(vocabulary, tmp_path)), unk_token="[UNK]", pad_token="[PAD]", bos_token=None, eos_token=None
    )
    pieces = ["a", "m", "ch", "chh", "chch", " ", "  ", "[UNK]", "[PAD]", "q", "|", "\t", "\n", "[", "]", "<wd>", "h"]
    rng = random.Random(0)
    labeller = Labeller(vocabulary)
    for _ in range(500):
        text = "".join(rng.choices(pieces, k=rng.randint(0, 8)))
        assert labeller(text) == tokenizer(text).input_ids, repr(text)
    assert labeller("merhaba x") == tokenizer("merhaba x").input_ids


def test_phone_labels_equal_the_phoneme_tokenizers_input_ids(tmp_path: Path):
    from transformers import Wav2Vec2PhonemeCTCTokenizer

    vocabulary = build_vocabulary(["tʃ ɑː | b"], phones=True)
    tokenizer = Wav2Vec2PhonemeCTCTokenizer(
        str(save_vocabulary(vocabulary, tmp_path)),
        unk_token="[UNK]",
        pad_token="[PAD]",
        bos_token=None,
        eos_token=None,
        word_delimiter_token="|",
        do_phonemize=False,
    )
    for text in ("tʃ ɑː | b", "b x | | tʃ", "", " b "):
        assert Labeller(vocabulary, phones=True)(text) == tokenizer(text).input_ids


def test_labeller_travels_to_worker_processes():
    labeller = Labeller(build_vocabulary(["ab"]))
    assert pickle.loads(pickle.dumps(labeller))("ba z") == [2, 1, 0, 3]


def test_labels_need_an_unknown_token():
    with pytest.raises(ModelError, match=r"no unknown token '\[UNK\]'"):
        Labeller({"a": 0})


def test_a_flat_vocabulary_is_not_nested():
    assert not is_nested(build_vocabulary(["a"]))


def test_vocabulary_file_is_readable_and_alone_in_its_folder(tmp_path: Path):
    vocabulary = build_vocabulary(["ğı a"])
    path = save_vocabulary(vocabulary, tmp_path / "flat")
    assert "ğ" in path.read_text(encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8")) == vocabulary
    assert [entry.name for entry in (tmp_path / "flat").iterdir()] == ["vocab.json"]


def test_nested_vocabulary_is_what_the_mms_tokenizer_reads(tmp_path: Path):
    from transformers import Wav2Vec2CTCTokenizer

    nested = {"tur": build_vocabulary(["ğa"]), "swe": build_vocabulary(["åb"])}
    path = save_vocabulary(nested, tmp_path)
    tokenizer = Wav2Vec2CTCTokenizer(
        str(path), unk_token="[UNK]", pad_token="[PAD]", bos_token=None, eos_token=None, target_lang="tur"
    )
    assert tokenizer("ğa").input_ids == [2, 1]
    tokenizer.set_target_lang("swe")
    assert tokenizer("åb").input_ids == Labeller(nested["swe"])("åb")
    assert json.loads(path.read_text(encoding="utf-8")) == nested
