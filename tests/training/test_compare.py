"""`speechtune compare`: evaluations are found or made, kept, and compared."""

from __future__ import annotations

import json
import os
from pathlib import Path

import evaluations
import pytest
from evaluations import hypothesis
from reliability.tiny import write_corpus
from trained_folders import ctc_folder

import speechtune as st
from speechtune.cli.main import main
from speechtune.errors import OptionError, OutputError


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    write_corpus(folder / "corpus", num_train=2, num_test=6)
    for name in ("one", "two"):
        ctc_folder(folder / name, letters="abcdefghijklmnopqrstuvwxyz", group_norm=name == "two")
    return folder


def test_models_are_evaluated_on_the_way_and_their_evaluations_kept(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(place)
    words = ["compare", "one", "two", "--dataset_name", "corpus", "--use_cpu", "--precision", "fp32"]
    assert main(words) == 0
    out, err = capfd.readouterr()
    assert "one: evaluating on" in err and "two: evaluating on" in err
    assert "B - A" in out and "on these 6 utterances" in " ".join(out.split())
    found = json.loads((place / "runs/compare-one-two/comparison.json").read_text())
    assert [system["folder"] for system in found["systems"]] == [
        f"{name}/evaluation-corpus-test" for name in ("one", "two")
    ]
    assert (place / "runs/compare-one-two/comparison.html").is_file()

    os.utime(place / "two" / "model.safetensors")  # as if it was trained again
    assert main([*words, "--output_dir", "again"]) == 0
    err = capfd.readouterr().err
    assert "one: evaluated before, in one/evaluation-corpus-test" in err and "two: evaluating on" in err
    assert json.loads((place / "again/comparison.json").read_text())["pairs"] == found["pairs"]

    assert main(["report", "one", "two"]) == 0  # from what was kept
    assert "evaluat" not in capfd.readouterr().err


def test_the_python_function_takes_evaluations_folders_and_models(tmp_path: Path):
    rows = [[hypothesis(f"u{i}", "bir iki", text) for i in range(6)] for text in ("bir iki", "bir yok")]
    for name, own in zip("ab", rows, strict=True):
        evaluations.write(tmp_path / name, *own, model=name)
    from speechtune.evaluation.evaluate import Evaluation

    comparison = st.compare(tmp_path / "a", Evaluation.read(tmp_path / "b"), output_dir=tmp_path / "out")
    assert comparison.pairs[0].differences["wer"].difference == 0.5
    assert str(comparison).startswith("b makes 50.0 points more word errors than a")
    assert (tmp_path / "out" / "comparison.html").is_file()


def test_what_is_missing_is_one_message(tmp_path: Path, place: Path, capfd: pytest.CaptureFixture[str]):
    evaluations.write(tmp_path / "a", hypothesis("u0", "bir", "bir"))
    ctc_folder(tmp_path / "model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(OptionError, match="Two systems or more"):
        st.compare(tmp_path / "a")
    with pytest.raises(OptionError, match=r"no such folder.*--dataset_name"):
        st.compare(tmp_path / "a", "openai/no-such-model")
    with pytest.raises(OutputError, match=r"its model was not evaluated\.\nGive --dataset_name"):
        st.compare(tmp_path / "a", tmp_path / "model")
    with pytest.raises(OutputError, match="holds no evaluation"):
        st.compare(tmp_path / "a", tmp_path / "empty")
    assert main(["compare", "--dataset_name", "x", "a", "b"]) == 2
    assert "The systems come first: speechtune compare A B --dataset_name" in capfd.readouterr().err
    assert main(["compare", "a", "--sed", "1"]) == 2
