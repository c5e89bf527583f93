"""`speechtune plan` writes nothing but caches, and refuses what training would refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from reliability.faults import one_nan
from reliability.tiny import words, write_corpus

from speechtune.cli.main import main


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), num_train=4, num_test=2)


def test_a_plan_leaves_no_output_folder(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["plan", *words(corpus, tmp_path / "out", "--no_measure")]) == 0
    assert "train: 4 utterances" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_cannot_be_made_is_refused(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("")
    assert main(["plan", *words(corpus, tmp_path / "file" / "new" / "out", "--no_measure")]) == 2
    assert f"{tmp_path / 'file'}: can't be written: Not a directory." in capsys.readouterr().err


def test_a_plan_refuses_recordings_that_training_would_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    corpus = write_corpus(tmp_path / "corpus", num_train=4, num_test=2)
    for path in (corpus / "train").iterdir():
        one_nan(path)
    assert main(["plan", *words(corpus, tmp_path / "out")]) == 2
    assert "4 with non-finite samples" in capsys.readouterr().err
