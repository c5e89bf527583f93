"""`speechtune demo`: the whole of the product on a small corpus that it makes itself, in a few minutes on two cores.

Nothing here is special to the demo but the corpus, the small base model and the table at the end: training, evaluation
and transcription are those of `speechtune train`, `evaluate` and `transcribe`, called with the options of
`recipes/demo.yaml` (a test holds that the two agree; the recipes are not part of an installed package).
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from speechtune.demo.corpus import LANGUAGE, DemoCorpus, build_corpus

__all__ = ["BASE_MODEL", "TRAINING_OPTIONS", "run_demo"]

BASE_MODEL = Path(__file__).with_name("base_model")
UNSEEN_VOICE = "_unseen_voice"  # suffix of the second evaluation's files in the run's folder

# Options of `speechtune train`; docs and recipes/demo.yaml say the same.
TRAINING_OPTIONS: dict[str, Any] = {
    "dataset_config_name": LANGUAGE,
    "text_column_name": "sentence",
    "train_split_name": "train+validation",
    "eval_split_name": "test",
    "chars_to_ignore": [",", "?", ".", "!"],
    "num_train_epochs": 5,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 32,
    "learning_rate": 2e-3,
    "warmup_steps": 50,
    "freeze_feature_encoder": False,
    "mask_time_prob": 0.0,
    "logging_steps": 20,
    "save_strategy": "no",
    "seed": 0,
}

NOTICE = (
    "The voices of this demo are synthetic: espeak-ng reads sentences made from a small grammar. Its scores show that\n"
    "everything works; they say nothing about how well real Turkish speech would be recognised."
)


def run_demo(output_dir: Path | str = "runs/demo") -> int:
    """Build the corpus, fine-tune the base model on it, evaluate twice, transcribe a clip, say where the report is.

    Args:
        output_dir: the run's folder; what an earlier demo left there is replaced, its corpus is used again.

    Returns:
        Exit code: 0, or that of a training that was stopped.

    Raises:
        OptionError: espeakng-loader is not installed.
        OutputError: the folder holds something else where the corpus goes.
    """
    from speechtune.terminal.progress import console

    folder = Path(output_dir)
    took_s: dict[str, float] = {}
    console().print(NOTICE, markup=False, soft_wrap=True)
    with _timed(took_s, "corpus"):
        corpus = _corpus(folder)
    with _timed(took_s, "training and evaluation"):
        code = _train(folder, corpus)
    if code:
        return code
    with _timed(took_s, "evaluation on the unseen voice"):
        code = _evaluate_unseen_voice(folder, corpus)
    if code:
        return code
    with _timed(took_s, "report"):
        report = _report(folder)
    with _timed(took_s, "transcribing a clip"):
        transcript = _transcribe(folder)
    _print_summary(folder, report, transcript, took_s)
    return 0


@contextmanager
def _timed(took_s: dict[str, float], phase: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    took_s[phase] = time.monotonic() - start


def _corpus(folder: Path) -> DemoCorpus:
    from speechtune.terminal.display import BarWithFacts
    from speechtune.terminal.progress import console
    from speechtune.terminal.screen import screen

    bar = BarWithFacts("Speaking", total=1.0)

    def advance(done: int, total: int) -> None:
        bar.done = done / total

    live = screen().can_be_live
    if live:
        screen().show(bar)
    try:
        corpus = build_corpus(folder / "corpus", on_clip=advance)
    finally:
        if live:
            screen().hide(bar)
    console().print(
        f"corpus: {corpus.num_clips} clips, {corpus.duration_s / 60:.0f} min -> {corpus.release}", soft_wrap=True
    )
    return corpus


def _train(folder: Path, corpus: DemoCorpus) -> int:
    from speechtune.options.parse import parse_options
    from speechtune.training.run import run

    for stale in (*folder.glob(f"*{UNSEEN_VOICE}.json*"), *folder.glob("unseen-voice/*.json*")):
        stale.unlink()
    options = {
        "model_name_or_path": BASE_MODEL,
        "dataset_name": corpus.release,
        "output_dir": folder,
        "overwrite_output_dir": True,
        **TRAINING_OPTIONS,
    }
    return run(parse_options(as_words(options), prog="speechtune demo"))


def _evaluate_unseen_voice(folder: Path, corpus: DemoCorpus) -> int:
    """Evaluate in a folder of its own, and put the results beside the run's, where its report finds them."""
    from speechtune.options.parse import parse_options
    from speechtune.training.run import run

    aside = folder / "unseen-voice"
    names = ("dataset_config_name", "text_column_name", "chars_to_ignore", "per_device_eval_batch_size")
    options = {
        "model_name_or_path": folder,
        "dataset_name": corpus.release_unseen_voice,
        "output_dir": aside,
        **{name: TRAINING_OPTIONS[name] for name in names},
    }
    code = run(parse_options(as_words(options), command="evaluate", prog="speechtune demo"))
    if code == 0:
        shutil.copy(aside / "eval_results.json", folder / f"eval_results{UNSEEN_VOICE}.json")
        shutil.copy(aside / "hypotheses.jsonl", folder / f"hypotheses{UNSEEN_VOICE}.jsonl")
    return code


def _report(folder: Path) -> Path:
    from speechtune.reporting.report import write_report

    return write_report(folder, title="speechtune demo: Turkish by synthetic voices")


def _transcribe(folder: Path) -> tuple[str, str, str]:
    """One clip of the unseen voice: its file, what was said, and what the trained model hears."""
    from speechtune.decoding.transcribe import Transcriber

    clip = json.loads((folder / f"hypotheses{UNSEEN_VOICE}.jsonl").read_text("utf-8").splitlines()[0])
    return clip["file"], clip["reference"], Transcriber(str(folder))(clip["file"])


def _print_summary(folder: Path, report: Path, transcript: tuple[str, str, str], took_s: Mapping[str, float]) -> None:
    from speechtune.terminal.progress import console, print_scores_table

    rows = []
    for name, suffix in (("unseen sentences", ""), ("unseen sentences, unseen voice", UNSEEN_VOICE)):
        results = json.loads((folder / f"eval_results{suffix}.json").read_text("utf-8"))
        rows.append({"name": name, "scores": results["scores"], "utterances": results["eval_samples"]})
    print_scores_table(rows)
    file, said, heard = transcript
    phases = ", ".join(f"{phase} {seconds:.0f} s" for phase, seconds in took_s.items())
    console().print(
        f"speechtune transcribe {folder} {file}\n  said:  {said}\n  heard: {heard}\n"
        f"{sum(took_s.values()):.0f} s: {phases}\n{NOTICE}\nreport: {report}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def as_words(options: Mapping[str, Any]) -> list[str]:
    """Options as the words of a command line."""
    words: list[str] = []
    for name, value in options.items():
        words.append(f"--{name}")
        words += [str(part) for part in (value if isinstance(value, list) else [value])]
    return words
