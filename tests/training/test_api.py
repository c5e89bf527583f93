"""The Python API, as users type it in a notebook: the examples of docs/python.md run."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reliability.tiny import write_clip, write_corpus
from standins.running import session_place
from trained_folders import ctc_folder

import speechtune as st
from speechtune.errors import AudioError, CorpusError, ModelError, OptionError, OutputError

ROOT = Path(__file__).parents[2]
TRAIN: dict[str, Any] = {"max_steps": 2, "per_device_train_batch_size": 2, "use_cpu": True, "precision": "fp32"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "my-recordings", num_train=6, num_test=3)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ctc_folder(tmp_path_factory.mktemp("base"), letters="abcdefghijklmnopqrstuvwxyz")


@pytest.fixture(scope="module")
def mine(base: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> st.Model:
    return st.fine_tune(base, corpus, output_dir=tmp_path_factory.mktemp("runs") / "mine", **TRAIN)


def blocks() -> Iterator[str]:
    return iter(re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/python.md").read_text("utf-8"), re.M | re.S))


def test_the_examples_of_the_page_run(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """With a stand-in for Whisper, and two clips for each split."""
    place, folder = session_place(tmp_path_factory), tmp_path_factory.mktemp("notebook")
    place.provide(models=["openai/whisper-small"])
    place.enter(monkeypatch, folder)
    rows = ["file_name,transcription,split"]
    for number, split in enumerate(("train", "train", "validation", "test"), 1):
        write_clip(folder / f"my-recordings/clips/{number:04}.wav", 0.5, seed=number)
        rows.append(f"clips/{number:04}.wav,bir iki,{split}")
    (folder / "my-recordings/metadata.csv").write_text("\n".join(rows) + "\n")
    notebook: dict[str, Any] = {}
    for block in blocks():
        block = block.replace("num_train_epochs=3", "max_steps=1, generation_max_length=6")
        block = block.replace('split="test"', 'split="test", generation_max_length=6')
        exec(compile(block, "docs/python.md", "exec"), notebook)
    assert notebook["evaluation"].name == "test" and len(notebook["evaluation"].hypotheses) == 1
    assert "--learnin_rate: no such option. Nearest: --learning_rate" in capsys.readouterr().out
    assert (folder / "runs/mine/report.html").is_file() and not (folder / "runs/other").exists()


def test_fine_tune_trains_evaluates_and_returns_the_model(mine: st.Model, corpus: Path):
    names = {path.name for path in Path(mine.name).iterdir()}
    assert {"model.safetensors", "report.html", "eval_results.json"} <= names
    assert mine.evaluation is not None and len(mine.evaluation.hypotheses) == 3
    assert math.isfinite(mine.evaluation.wer) and mine.evaluation.results["split"] == "test"
    first = mine.evaluation.hypotheses[0].hypothesis
    assert mine.transcribe(corpus / "test/000.wav").text.lower().split() == first.split()


def test_evaluate_gives_the_scores_of_the_command(mine: st.Model, corpus: Path, tmp_path: Path):
    evaluation = st.evaluate(mine, corpus, split="train", output_dir=tmp_path, max_eval_samples=2)
    assert [h.id for h in evaluation.hypotheses] == ["train/000", "train/001"]
    assert evaluation.wer == evaluation.scores()["wer"]["rate"] == evaluation.results["eval_wer"]
    assert evaluation.cer == evaluation.results["eval_cer"]
    assert (tmp_path / "report.html").is_file()
    again = st.evaluate(mine.name, corpus, split="train", use_cpu=True, max_eval_samples=2)
    assert again.hypotheses == evaluation.hypotheses


def test_what_a_notebook_prints_is_one_line_without_the_token(mine: st.Model):
    model = st.load(mine.name, device="cpu", token="hf_secret")
    assert "hf_secret" not in repr(model) and "hf_secret" not in str(model)
    assert re.fullmatch(r"Evaluation\(test: WER [\d.]+%, CER [\d.]+%, 3 utterances\)", repr(mine.evaluation))


def test_a_recording_may_be_a_path_or_bytes(mine: st.Model, corpus: Path):
    path = corpus / "test/001.wav"
    transcript = mine.transcribe(str(path))
    assert str(transcript) == transcript.text == mine.transcribe(path.read_bytes()).text
    assert transcript.file == str(path)


def test_the_same_call_resumes_and_another_model_is_refused(mine: st.Model, base: Path, corpus: Path, tmp_path: Path):
    again = st.fine_tune(base, corpus, output_dir=mine.name, **TRAIN)
    assert again.evaluation is not None and mine.evaluation is not None
    assert again.evaluation.hypotheses == mine.evaluation.hypotheses
    with pytest.raises(OutputError, match="in use by another run, with --model_name_or_path"):
        st.fine_tune(ctc_folder(tmp_path / "other"), corpus, output_dir=mine.name, **TRAIN)


def test_a_loaded_model_can_be_trained_further(mine: st.Model, corpus: Path, tmp_path: Path):
    further = st.fine_tune(st.load(mine.name, device="cpu"), corpus, output_dir=tmp_path / "out", max_steps=1)
    assert (further.name, further.device) == (str(tmp_path / "out"), "cpu") and further.evaluation is not None


def test_an_interrupted_training_raises_keyboard_interrupt(
    base: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("speechtune.training.run.run", lambda options: 130)
    with pytest.raises(KeyboardInterrupt):
        st.fine_tune(base, corpus, output_dir=tmp_path / "out")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: st.load(s.tmp / "none"), ModelError, "no such folder"),
        (lambda s: st.load(s.mine.name, langauge="tr"), OptionError, "--langauge: no such option. Nearest: --language"),
        (lambda s: st.load(s.mine.name, encoder_context="long"), OptionError, "--encoder_context: expected a number"),
        (lambda s: st.load(s.mine.name, device="gpu0"), OptionError, "Device 'gpu0': not on this machine"),
        (lambda s: s.mine.transcribe(s.tmp / "none.wav"), AudioError, "none.wav: no such file"),
        (lambda s: st.evaluate(s.mine, s.corpus, split="exam"), CorpusError, "no split 'exam'.\nSplits: "),
        (lambda s: st.evaluate(s.mine, s.corpus, splitt="test"), OptionError, "--splitt: no such option"),
        (lambda s: st.evaluate(s.mine, s.corpus, eval_metrics=["mer"]), OptionError, "found 'mer'"),
        (lambda s: s.train("nowhere"), CorpusError, "nowhere"),
        (lambda s: s.train(s.corpus, learnin_rate=1), OptionError, "`speechtune train --help` lists the options"),
        (lambda s: s.train(s.corpus, max_steps="many"), OptionError, "found 'many'"),
        (lambda s: s.train(s.corpus, learning_rate=object()), OptionError, "--learning_rate: expected a number"),
    ],
)
def test_a_mistake_is_the_error_of_the_command(
    call: Any, error: type[Exception], message: str, mine: st.Model, base: Path, corpus: Path, tmp_path: Path
):
    class Given:
        tmp = tmp_path

        def train(self, *args: Any, **options: Any) -> Any:
            return st.fine_tune(base, *args, output_dir=tmp_path / "out", **options)

    given: Any = Given()
    given.mine, given.corpus = mine, corpus
    with pytest.raises(error) as raised:
        call(given)
    assert message in str(raised.value) and isinstance(raised.value, st.SpeechtuneError)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_the_import_takes_under_a_tenth_of_a_second_and_loads_nothing_heavy():
    code = (
        "import sys, time; start = time.perf_counter(); import speechtune; took = time.perf_counter() - start;"
        "heavy = {'torch', 'transformers', 'datasets', 'numpy', 'rich'} & set(sys.modules);"
        "print(min(took, 9), heavy or '', dir(speechtune))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    ]
    assert min(float(run.split()[0]) for run in runs) < 0.1  # the fastest of three: other programs use the CPU too
    assert "{" not in runs[0]
    assert all(name in runs[0] for name in st.__all__)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="no attribute 'transcribe'"):
        st.transcribe  # noqa: B018
