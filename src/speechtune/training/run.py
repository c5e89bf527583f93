"""Run a training or evaluation: resolve the plan, build what it names, train, evaluate, save, publish."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import Any

from speechtune.distributed import explain_lost_process, is_first_process, join_processes, on_first
from speechtune.options.table import Options
from speechtune.plan.checkpoints import explain_disk_full, remove_half_written
from speechtune.plan.output_folder import clear_results, lock_folder, write_settings
from speechtune.plan.plan import RunPlan
from speechtune.plan.resolve import resolve

__all__ = ["execute", "run"]

log = logging.getLogger("speechtune")


def run(options: Options) -> int:
    """Train, evaluate, or both, as the options ask; return the exit code.

    Raises:
        SpeechtuneError: a mistake that the user can fix, before training wherever it can be known.
    """
    folder = options.output_dir
    assert folder is not None, "parse_options requires it"
    with explain_disk_full("the results", folder), lock_folder(folder) if is_first_process() else nullcontext():
        with explain_lost_process():
            _join(options)
            plan = on_first(lambda: resolve(options))
        return execute(plan)


def execute(plan: RunPlan) -> int:
    """Build, train, evaluate and save what the plan says; return the exit code."""
    from speechtune.publishing.publish import check_push, publish_run

    publishes = is_first_process() and plan.do_train and not plan.settings.preprocessing_only
    repository = None
    if is_first_process():
        _prepare_folder(plan)
    if publishes and plan.push_to_hub:  # before the hours of training, not after them
        names = ("hub_model_id", "hub_strategy")
        given = {name: plan.given[name] for name in names if name in plan.given}
        repository = check_push(plan.folder, **given, **_hub_options(plan))
    with explain_lost_process():
        code = _build_and_run(plan)
    if publishes and code == 0:
        publish_run(plan.folder, repository, push_to_hub=plan.push_to_hub, **_hub_options(plan))
    return code


def _build_and_run(plan: RunPlan) -> int:
    from speechtune.training.build import build_arguments, build_recogniser, first_process_first, set_seeds
    from speechtune.training.data import build_datasets, read_corpus
    from speechtune.training.evaluations import evaluate_baseline
    from speechtune.training.lm_scores import build_language_model
    from speechtune.training.session import Session

    args = build_arguments(plan)
    if plan.baseline and not plan.settings.preprocessing_only:
        evaluate_baseline(plan, args)
        set_seeds(args)  # training is the same with it and without
    data = read_corpus(plan)
    with first_process_first(args):
        recogniser = build_recogniser(plan, data, args)
    datasets = build_datasets(plan, data, recogniser, args)
    session = Session(plan, args, recogniser, data, datasets)
    log.info(session.describe())
    if plan.settings.preprocessing_only:
        return 0
    if plan.do_train and (code := session.train()):
        return code
    if plan.mixes_weights:
        session.choose_weights()
    if plan.do_train and plan.settings.lm == "auto":
        build_language_model(plan, data.train_texts)
    if plan.do_eval:
        session.evaluate()
    session.finish()
    return 0


def _hub_options(plan: RunPlan) -> dict[str, Any]:
    names = ("hub_private_repo", "hub_revision")
    return {"hub_token": plan.hub_token, **{name: plan.given.get(name) for name in names}}


def _join(options: Options) -> None:
    asked = options.training
    timeout = {"timeout_s": float(asked["ddp_timeout"])} if "ddp_timeout" in asked else {}
    join_processes(use_cpu=bool(asked.get("use_cpu")), backend=asked.get("ddp_backend"), **timeout)


def _prepare_folder(plan: RunPlan) -> None:
    """Show the plan's notes, remove what an earlier run left, and claim the folder, also against a kill from now on."""
    for note in plan.notes:
        log.info(note)
    if not plan.do_train:
        return
    remove_half_written(plan.folder)
    if plan.clears_output:
        clear_results(plan.folder)
    if plan.resume_from is None:
        write_settings(plan)
