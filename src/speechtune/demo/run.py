"""`speechtune demo`: train, evaluate and transcribe on a small synthetic corpus, in a few minutes on two CPU cores.

Only the corpus, the small base model and the final table are the demo's own: the rest is `speechtune train`, `evaluate`
and `transcribe` with the options of `recipe.yaml`.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from speechtune.demo.corpus import DemoCorpus, build_corpus
from speechtune.files import explain_write_errors

__all__ = ["BASE_MODEL", "RECIPE", "run_demo"]

BASE_MODEL = Path(__file__).with_name("base_model")
RECIPE = Path(__file__).with_name("recipe.yaml")
UNSEEN_VOICE = "_unseen_voice"  # suffix of the second evaluation's files in the run's folder
NOTICE = (
    "The voices of this demo are synthetic: espeak-ng reads sentences made from a small grammar. Its scores show that "
    "everything works; they say nothing about how well real Turkish speech would be recognised."
)


def run_demo(output_dir: Path | str = "runs/demo") -> int:
    """Build the corpus, fine-tune the base model on it, evaluate twice, transcribe a clip, write the report.

    Args:
        output_dir: the run's folder; replaces an earlier demo there but keeps its corpus.

    Returns:
        Exit code: 0, or that of a training that was stopped.

    Raises:
        OptionError: espeakng-loader is not installed.
        OutputError: the folder has other files where the corpus goes.
    """
    from speechtune.decoding.transcribe import Transcriber
    from speechtune.reporting.report import write_report

    folder = Path(output_dir)
    took_s: dict[str, float] = {}
    _say(NOTICE)
    with _timed(took_s, "corpus"):
        corpus = _build_corpus(folder)
    with _timed(took_s, "training and evaluation"):
        for stale in (*folder.glob(f"*{UNSEEN_VOICE}.json*"), *folder.glob("unseen-voice/*.json*")):
            stale.unlink()
        code = _speechtune("train", BASE_MODEL, corpus.release, folder, "--overwrite_output_dir")
    if code:
        return code
    with _timed(took_s, "evaluation on the unseen voice"):
        code = _evaluate_unseen_voice(folder, corpus)
    if code:
        return code
    with _timed(took_s, "report"):
        report = write_report(folder, title="speechtune demo: Turkish by synthetic voices")
    with _timed(took_s, "transcribing a clip"):
        clip = json.loads((folder / f"hypotheses{UNSEEN_VOICE}.jsonl").read_text("utf-8").splitlines()[0])
        transcript = Transcriber(str(folder))(clip["file"])
    _print_scores(folder)
    phases = ", ".join(f"{phase} {seconds:.0f} s" for phase, seconds in took_s.items())
    _say(f"speechtune transcribe {folder} {clip['file']}")
    _say(f"  reference:  {clip['reference']}\n  hypothesis: {transcript}")
    _say(f"{sum(took_s.values()):.0f} s: {phases}\n{NOTICE}\nreport: {report}")
    return 0


@contextmanager
def _timed(took_s: dict[str, float], phase: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    took_s[phase] = time.monotonic() - start


def _say(text: str) -> None:
    from speechtune.terminal.progress import console

    console().print(text, markup=False, highlight=False, soft_wrap=not console().is_terminal)


def _build_corpus(folder: Path) -> DemoCorpus:
    from speechtune.terminal.progress import progress_bar

    with explain_write_errors("the corpus", folder), progress_bar("building the corpus", unit="clips") as update:
        corpus = build_corpus(folder / "corpus", on_clip=update)
    _say(f"corpus: {corpus.num_clips} clips, {corpus.duration_s / 60:.0f} min -> {corpus.release}")
    return corpus


def _speechtune(command: Literal["train", "evaluate"], model: Path, corpus: Path, output_dir: Path, *more: str) -> int:
    """Run a command of speechtune with the options of the recipe."""
    from speechtune.options.parse import parse_options
    from speechtune.training.run import run

    places = {"--model_name_or_path": model, "--dataset_name": corpus, "--output_dir": output_dir}
    words = [word for name, path in places.items() for word in (name, str(path))]
    return run(parse_options([str(RECIPE), *words, *more], command=command, prog="speechtune demo"))


def _evaluate_unseen_voice(folder: Path, corpus: DemoCorpus) -> int:
    """Evaluate in a separate folder and copy the results to the run's, for its report."""
    results = folder / "unseen-voice"
    code = _speechtune("evaluate", folder, corpus.release_unseen_voice, results)
    if code == 0:
        for name in ("eval_results.json", "hypotheses.jsonl"):
            stem, suffix = name.split(".")
            shutil.copy(results / name, folder / f"{stem}{UNSEEN_VOICE}.{suffix}")
    return code


def _print_scores(folder: Path) -> None:
    from speechtune.terminal.scores import print_scores_table

    rows = []
    for name, suffix in (("unseen sentences", ""), ("unseen sentences, unseen voice", UNSEEN_VOICE)):
        results = json.loads((folder / f"eval_results{suffix}.json").read_text("utf-8"))
        rows.append({"name": name, "scores": results["scores"], "utterances": results["eval_samples"]})
    print_scores_table(rows)
