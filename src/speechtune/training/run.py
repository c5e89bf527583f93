"""Fine-tune a model on a corpus and see how well it recognises: `run` reads as the table of contents.

The evaluation alone (`--do_eval`, `speechtune evaluate`) takes the same road without the training.
"""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechtune.errors import OptionError
from speechtune.options.table import Options
from speechtune.training.checkpoint import explain_disk_full
from speechtune.training.data import Splits, open_splits, prepare_splits, text_normaliser
from speechtune.training.output_folder import claim_output_folder, identity_of, write_settings
from speechtune.training.setup import in_turn, set_seed, training_arguments

__all__ = ["run"]

log = logging.getLogger("speechtune")


def run(options: Options) -> int:
    """Train, evaluate, or both, as the options say; returns the exit code.

    Raises:
        SpeechtuneError: what the user can mend, before training wherever it can be known.
    """
    from speechtune.distributed import lost_process_means
    from speechtune.publishing.publish import check_push, publish_run
    from speechtune.training.signals import run_lock

    folder = _checked_output_folder(options)
    first = int(os.environ.get("RANK", "0")) == 0
    for note in options.notes if first else ():
        log.info(note)
    with explain_disk_full("the results", folder), run_lock(folder) if first else nullcontext():
        resumes = claim_output_folder(options, identity_of(options)) if first and options.do_train else False
        if first and options.do_train and not resumes:
            write_settings(options)  # whose folder it is from now on, also after a kill
        makes_model = first and options.do_train and not options.config.preprocessing_only
        pushes = makes_model and bool(options.training.get("push_to_hub"))
        given = options.training
        hub = {name: given.get(name) for name in ("hub_private_repo", "hub_revision")}
        hub["hub_token"] = given.get("hub_token") or options.config.token
        repository = None
        if pushes:  # before the hours of training, not after
            strategy = given.get("hub_strategy", "end")
            repository = check_push(folder, hub_model_id=given.get("hub_model_id"), hub_strategy=strategy, **hub)
        with lost_process_means():
            code = _run(options, folder, resumes=resumes)
        if makes_model and code == 0:
            publish_run(folder, repository, push_to_hub=pushes, **hub)
        return code


def _run(options: Options, folder: Path, *, resumes: bool) -> int:
    from speechtune.models.loading import family_of, model_config_of
    from speechtune.training.session import Session

    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    # Alone, a mistake in the corpus' name shows before the seconds that the libraries take to load.
    splits = open_splits(options, train=options.do_train, evaluate=options.do_eval) if alone else None
    model_config = model_config_of(options.config)
    options = options.for_family(family_of(model_config))
    args, precision = training_arguments(options, seq2seq=options.kind == "seq2seq")
    if splits is None:
        with in_turn(args):
            splits = open_splits(options, train=options.do_train, evaluate=options.do_eval)
    normalise, normalise_hypothesis = text_normaliser(options, splits.language, seq2seq=options.kind == "seq2seq")
    splits.normalise(normalise)
    set_seed(args)
    with in_turn(args):
        recogniser = _recogniser(options, args, model_config, splits, folder)
    train_split, eval_split = prepare_splits(splits, options, recogniser, skipped_path=folder / "skipped.jsonl")
    session = Session(options, args, folder, recogniser, splits, normalise, precision=precision)
    session.build(train_split, eval_split, normalise_hypothesis)
    log.info(session.opening_line())
    if options.config.preprocessing_only:
        return 0
    if options.do_train:
        code = session.train(resumes=resumes)
        if code:
            return code
    if options.do_eval:
        session.evaluate()
    session.finish()
    return 0


def _checked_output_folder(options: Options) -> Path:
    folder = options.output_dir
    if folder is None:
        raise OptionError("--output_dir is missing: where should the results go?")
    if not (options.do_train or options.do_eval):
        raise OptionError("Nothing to do: give --do_train, --do_eval or both.")
    return folder


def _recogniser(options: Options, args: Any, model_config: Any, splits: Splits, folder: Path) -> Any:
    from speechtune.models.ctc.setup import ctc_for_training, load_ctc

    config = options.config
    if options.kind == "seq2seq":
        from speechtune.models.seq2seq.setup import load_seq2seq, seq2seq_for_training

        if options.do_train:
            return seq2seq_for_training(config, model_config, training_args=args, corpus_language=splits.language)
        return load_seq2seq(config, training_args=args, corpus_language=splits.language)
    if not options.do_train:
        return load_ctc(config)
    if "adapter_attn_dim" not in options.given:
        config = replace(config, adapter_attn_dim=None)  # type: ignore[arg-type]
    makes_vocabulary = config.tokenizer_name_or_path is None or config.target_language is not None
    if makes_vocabulary and config.streaming and not splits.train_texts:
        raise OptionError(
            "A stream has no vocabulary before its end, so it needs a tokenizer: give --tokenizer_name_or_path "
            "FOLDER.\n"
            "`speechtune vocab --dataset_name ... --output_dir FOLDER` makes one from a corpus' training text."
        )
    readme = config.protocol == "readme"
    return ctc_for_training(
        config,
        model_config,
        vocabulary_texts=[*splits.train_texts, *splits.evaluation_texts] if readme else splits.train_texts,
        eval_texts=splits.evaluation_texts,
        folder=folder,
        where=f"{splits.name}, {splits.train_split}",
        raw_texts=splits.train.texts if splits.train_texts else (),
    )
