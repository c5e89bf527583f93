"""`speechtune compare`: find or make an evaluation of each system, compare them, write comparison.json and its page."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechtune.errors import OptionError, OutputError
from speechtune.evaluation.compare import Scored, compare_evaluations, find_evaluation, short_names
from speechtune.evaluation.comparison import Comparison
from speechtune.evaluation.evaluate import Evaluation
from speechtune.files import explain_write_errors, read_json
from speechtune.options.parse import parse_options
from speechtune.plan.plan import RunPlan
from speechtune.plan.resolve import resolve
from speechtune.reporting.audio import AUDIO_MB
from speechtune.training.evaluations import evaluation_identity

__all__ = ["compare_systems", "main_compare", "scored_system", "write_comparison"]

log = logging.getLogger("speechtune")


def main_compare(
    systems: Sequence[str],
    *,
    options: Sequence[str] = (),
    output_dir: Path | None = None,
    report_audio_mb: float = AUDIO_MB,
) -> int:
    """Compare systems, print what was found, and write it; return the exit code.

    Args:
        systems: folders or files of evaluations, or models.
        options: words of `speechtune evaluate`, for models that are evaluated on the way.
        output_dir: of comparison.json and comparison.html; by default runs/compare-A-B.
        report_audio_mb: size of the recordings in the page, in MB.
    """
    from speechtune.terminal.comparison import print_comparison

    comparison = compare_systems([scored_system(system, options) for system in systems])
    names = (re.sub(r"[^\w.-]+", "_", system.name)[:40] for system in comparison.systems)
    folder = output_dir or Path("runs") / "-".join(["compare", *names])
    page = write_comparison(comparison, folder, report_audio_mb=report_audio_mb)
    print_comparison(comparison)
    log.info(f"comparison: {page}")
    return 0


def write_comparison(comparison: Comparison, folder: Path, *, report_audio_mb: float = AUDIO_MB) -> Path:
    """Write comparison.json and comparison.html into `folder`; return the path of the page.

    Raises:
        OutputError: the folder can't be written to.
    """
    from speechtune.reporting.comparison import write_comparison_page

    with explain_write_errors("the comparison", folder):
        comparison.write(folder / "comparison.json")
    return write_comparison_page(comparison, folder, report_audio_mb=report_audio_mb)


def compare_systems(systems: Sequence[Scored]) -> Comparison:
    """Compare systems under the shortest names that tell them apart.

    Raises:
        OptionError: they are fewer than two, or can't be compared.
    """
    if len(systems) < 2:
        raise OptionError("Two systems or more are compared: speechtune compare A B")
    names = short_names([one.name for one in systems])
    return compare_evaluations(
        [Scored(name, one.evaluation, one.folder) for name, one in zip(names, systems, strict=True)]
    )


def scored_system(system: str, options: Sequence[str] = ()) -> Scored:
    """Return the evaluation of a system, made now where it is a model and a corpus is given.

    Args:
        system: folder or file of an evaluation, folder of a model, or a name on the hub.
        options: words of `speechtune evaluate`, with --dataset_name.

    Raises:
        SpeechtuneError: it is not there, holds no evaluation, or can't be evaluated.
    """
    path = Path(system).expanduser()
    is_there = os.path.exists(path)  # noqa: PTH110 - Path raises on a name that is too long for a file
    is_model = not is_there or (path / "config.json").is_file()
    if options and is_model:
        return _evaluated(system, options)
    found = find_evaluation(path) if is_there else None
    if found is not None:
        return found
    if is_there:
        what = "its model was not evaluated" if is_model else "it holds no evaluation: no hypotheses.jsonl"
        advice = (
            "Give --dataset_name to evaluate it now" if is_model else "Name a folder that `speechtune evaluate` wrote"
        )
        raise OutputError(f"{system}: {what}.\n{advice}.")
    raise OptionError(
        f"{system}: no such folder. Give the folder of an evaluation; or, if it is a model of the hub, the corpus to "
        "evaluate it on: --dataset_name."
    )


def _evaluated(model: str, words: Sequence[str]) -> Scored:
    """Return the evaluation of a model that `speechtune evaluate` with these words made before, or makes now."""
    parsed = parse_options([*words, "--model_name_or_path", model], command="evaluate", prog="speechtune compare")
    plan = resolve(parsed)
    for folder in (plan.folder, Path(model)):
        if _is_kept(folder, plan):
            log.info(f"{model}: evaluated before, in {folder}")
            return Scored(model, Evaluation.read(folder), str(folder))
    log.info(f"{model}: evaluating on {plan.corpus} {plan.settings.eval_split_name}")
    from speechtune.training.run import run

    code = run(parsed)
    if code:
        raise KeyboardInterrupt(f"stopped with exit code {code}")
    return Scored(model, Evaluation.read(plan.folder), str(plan.folder))


def _is_kept(folder: Path, plan: RunPlan) -> bool:
    """Whether a folder holds this very evaluation, later than the model's weights."""
    file = folder / "eval_results.json"
    results: dict[str, Any] = read_json(file)
    settings = plan.settings
    wanted = {"dataset": plan.corpus, "split": settings.eval_split_name}
    if folder == plan.folder:  # a training's own results name the weights that it started from
        wanted = evaluation_identity(plan)
    if any(results.get(name) != value for name, value in wanted.items()):
        return False
    protocol = results.get("protocol") or {}
    num_rows = (results.get("eval_samples") or 0) + (protocol.get("skipped") or 0)
    if protocol.get("hash") != plan.protocol.get("hash") or plan.evaluation is None:
        return False
    if plan.evaluation.num_utterances is not None and num_rows < plan.evaluation.num_utterances:
        return False  # of the first N utterances only
    weights = [
        *Path(settings.model_name_or_path).glob("*.safetensors"),
        *Path(settings.model_name_or_path).glob("*.bin"),
    ]
    return all(path.stat().st_mtime <= file.stat().st_mtime for path in weights)
