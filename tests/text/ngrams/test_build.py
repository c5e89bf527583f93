"""Text comes from files, plain or zipped, and standard input."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from speechtune.errors import OptionError, TextError
from speechtune.text.ngrams.build import build_ngrams, check_pruning, text_lines


def test_lines_of_plain_and_zipped_files_are_normalised(tmp_path: Path):
    (tmp_path / "a.txt").write_text("Bir\nIKI\n", "utf-8")
    (tmp_path / "b.gz").write_bytes(gzip.compress("Üç\n".encode()))
    files = [str(tmp_path / name) for name in ("a.txt", "b.gz")]
    assert [line.strip() for line in text_lines(files, str.lower)] == ["bir", "iki", "üç"]


def test_a_file_that_is_no_text_is_named(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    for name, message in (("a.txt", "a.txt: can't be read as text"), ("b.txt", "b.txt: .*No such file")):
        with pytest.raises(TextError, match=message):
            list(text_lines([str(tmp_path / name)]))


@pytest.mark.parametrize("prune", [(1,), (0, 2, 1), (0, 0, 0, 0)])
def test_thresholds_that_fall_or_remove_words_are_refused(prune: tuple[int, ...]):
    with pytest.raises(OptionError, match="--prune"):
        check_pruning(prune, 3)
    check_pruning((0, 0, 1), 3)


def test_a_model_of_characters_is_counted_in_characters():
    assert set(build_ngrams(["ab a"], order=2, of_characters=True).words[3:]) == {"a", "b", "<space>"}
