"""What is written is read again; a file that is no ARPA file is one message with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from speechtune.errors import ModelError, OutputError
from speechtune.text.ngrams import arpa
from speechtune.text.ngrams.arpa import read_arpa, write_arpa
from speechtune.text.ngrams.counts import count_ngrams
from speechtune.text.ngrams.estimate import estimate

SRILM = """
\\data\\
ngram 1=3
ngram 2=1

\\1-grams:
-0.5 </s>
-99 <s> -0.2
-0.3 günaydın -0.1

\\2-grams:
-0.4 <s> günaydın

\\end\\
"""


@pytest.mark.parametrize("name", ["lm.arpa", "sub/lm.arpa.gz"])
def test_a_model_is_read_as_it_was_written(name: str, tmp_path: Path):
    ngrams = estimate(*count_ngrams(["iyi günler", "iyi akşamlar size", "size iyi"], 3))
    write_arpa(ngrams, tmp_path / name)
    read = read_arpa(tmp_path / name)
    assert read.words == ngrams.words
    for ours, theirs in zip(ngrams.orders, read.orders, strict=True):
        assert np.array_equal(ours.rows, theirs.rows)
        assert np.allclose(ours.log10, theirs.log10, atol=1e-5) and np.allclose(ours.backoff, theirs.backoff, atol=1e-5)
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == [Path(name).name]


def test_equal_models_are_equal_files(tmp_path: Path):
    for name in ("a.arpa.gz", "b.arpa.gz"):
        write_arpa(estimate(*count_ngrams(["a b", "b a"], 2)), tmp_path / name)
    assert (tmp_path / "a.arpa.gz").read_bytes() == (tmp_path / "b.arpa.gz").read_bytes()


@pytest.mark.parametrize("block", [5, 64, 1 << 22])
def test_a_file_in_blocks_of_any_size_is_the_same_model(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ngrams = estimate(*count_ngrams(["iyi günler", "iyi akşamlar size", "size\u00a0iyi 3 -0.2", "size 3 iyi"], 3))
    write_arpa(ngrams, tmp_path / "lm")
    whole = read_arpa(tmp_path / "lm")
    text = (tmp_path / "lm").read_text("utf-8")
    # As SRILM writes it: no back-off of 0; and as Windows ends lines
    (tmp_path / "srilm").write_bytes(text.replace("\t0\n", "\n").replace("\n", "\r\n").encode())
    monkeypatch.setattr(arpa, "BLOCK_BYTES", block)
    for name in ("lm", "srilm"):
        if block == 5:
            with pytest.raises(ModelError, match="a line of millions of characters"):
                read_arpa(tmp_path / name)
            continue
        read = read_arpa(tmp_path / name)
        assert read.words == whole.words == ngrams.words
        for ours, theirs in zip(whole.orders, read.orders, strict=True):
            assert np.array_equal(ours.rows, theirs.rows) and ours.rows.dtype == theirs.rows.dtype
            assert np.array_equal(ours.log10, theirs.log10) and np.array_equal(ours.backoff, theirs.backoff)


def test_spaces_instead_of_tabs_are_read(tmp_path: Path):
    (tmp_path / "lm").write_text(SRILM, "utf-8")
    ngrams = read_arpa(tmp_path / "lm")
    assert ngrams.words == ["</s>", "<s>", "günaydın"] and ngrams.orders[0].backoff.tolist() == [0, -0.2, -0.1]
    assert ngrams.orders[1].rows.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not an arpa file\n", r"lm, line 1: no ARPA file"),
        (SRILM.replace("-0.3 g", "x g"), r"lm, line 9: no ARPA file: could not convert"),
        (SRILM.replace("-0.4 <s> g", "-0.4 <s> G"), r"lm, line 12: no ARPA file: the word 'Günaydın' has no"),
        (SRILM.replace("2-grams", "3-grams"), r"lm, line 11: no ARPA file: 3-grams follow 1-grams"),
        (SRILM.replace("-0.4 <s> g", "nan <s> g"), r"lm, line 12: no ARPA file: a probability is not a number"),
        (SRILM.replace("-0.4 <s> g", "-0.4 g"), r"lm, line 12: no ARPA file: expected a probability and 2 words, f"),
        (SRILM.replace("</s>", "<s>"), r"lm, line 8: no ARPA file: the word '<s>' has two unigrams"),
        (SRILM.replace("ngram 2=1", "ngram 2=2"), r"\[3, 1\] n-grams instead of \[3, 2\]"),
        (SRILM.replace("\\end\\", ""), r"ends before"),
    ],
)
def test_a_damaged_file_is_one_message(text: str, message: str, tmp_path: Path):
    (tmp_path / "lm").write_text(text, "utf-8")
    with pytest.raises(ModelError, match=message):
        read_arpa(tmp_path / "lm")


def test_what_can_not_be_read_or_written_is_said(tmp_path: Path):
    with pytest.raises(ModelError, match="no such file"):
        read_arpa(tmp_path / "lm.arpa")
    (tmp_path / "lm.bin").write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0\0")
    with pytest.raises(ModelError, match=r"a binary file of KenLM, which is not read, and .*\nGive the ARPA file"):
        read_arpa(tmp_path / "lm.bin")
    (tmp_path / "cut").write_bytes(b"\x1f\x8b\x08\x00damaged")
    with pytest.raises(ModelError, match="cut: can't be read"):
        read_arpa(tmp_path / "cut")
    with pytest.raises(OutputError, match="is a folder"):
        write_arpa(estimate(*count_ngrams(["a"], 1)), tmp_path)
