"""Resolve Options into a RunPlan: the one place where defaults and fallbacks are decided.

In the order in which they depend on each other. Nothing is written, built or trained here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechtune.corpora.corrections import corrections_hash, read_corrections
from speechtune.corpora.table import SplitTable
from speechtune.evaluation.result_files import protocol_hash
from speechtune.options.lora import read_lora
from speechtune.options.table import Family, Options, Settings
from speechtune.plan.arguments import training_arguments
from speechtune.plan.checkpoints import newest_whole
from speechtune.plan.corpus import (
    choose_train_split,
    corrections_note,
    find_corpus,
    read_split,
    shared_speech,
    split_plan,
)
from speechtune.plan.evaluations import add_evaluations
from speechtune.plan.hardware import Precision
from speechtune.plan.output_folder import inspect_folder
from speechtune.plan.plan import RunPlan, SplitPlan, identity_of
from speechtune.plan.spoken_language import needs_detection, spoken_language
from speechtune.plan.text import protocol_normaliser, text_normaliser
from speechtune.text.languages import language_of
from speechtune.text.normalise import TextFunction
from speechtune.text.vocab import num_pieces_of

if TYPE_CHECKING:
    from speechtune.corpora.corpus import Corpus

__all__ = ["resolve"]

log = logging.getLogger("speechtune")

WITHOUT_MODEL = ("doctor", "vocab")  # commands that run no model, and need no output folder


def resolve(options: Options) -> RunPlan:
    """Decide everything about a run.

    Reads names, configurations, the corpus' tables and the headers of its recordings; no samples, no weights.

    Raises:
        SpeechtuneError: whatever would keep the run from starting, as far as it can be known.
    """
    output_dir = options.output_dir
    corpus = find_corpus(options.config)  # before the libraries load: a misspelt corpus is answered at once
    model_config = _model_config(options.config)
    family = _family(model_config)
    if model_config is not None:
        options = options.for_family(family)
    settings, notes = _resolved(options, corpus, model_config, family)
    train, evaluation, warnings = _splits(options, settings, corpus)
    language = language_of(
        corpus.language or settings.dataset_config_name, settings.target_language or settings.language
    )
    if options.do_train and language is None and needs_detection(settings, model_config):
        language, note = _spoken_language(options, settings, corpus)
        settings, notes = replace(settings, language=language), [*notes, *note]
    normaliser, _ = text_normaliser(settings, language, family)
    if options.command in WITHOUT_MODEL:  # nothing is computed: no torch is loaded
        arguments: dict[str, Any] = {}
        precision = Precision(False, False, "highest", "none", True)
    else:
        arguments, precision = training_arguments(options.training, settings, output_dir)
    resumes, clears = False, False
    if options.do_train and output_dir is not None:
        resumes, clears = inspect_folder(output_dir, settings, identity_of(settings))

    def protocol_of(settings: Settings, language: str | None) -> dict[str, Any]:
        used = _unaided(settings) if options.do_train else settings  # with it there is an evaluation more
        return _protocol(used, family, protocol_normaliser(settings, language, family), language, precision, arguments)

    plan = RunPlan(
        command=options.command,
        family=family,
        settings=replace(settings, overwrite_cache=False),  # it was overwritten just now
        precision=precision,
        corpus=corpus.label,
        language=language,
        train=train,
        evaluation=evaluation,
        model_type=model_config.model_type if model_config is not None else "",
        has_trained_head=any("CTC" in name for name in getattr(model_config, "architectures", None) or ()),
        protocol=protocol_of(settings, language),
        aided_protocol=_protocol(
            settings, family, protocol_normaliser(settings, language, family), language, precision, arguments
        ),
        unaided_protocol=protocol_of(_unaided(settings), language),
        training_arguments=arguments,
        given=options.shareable(),
        output_dir=output_dir,
        resume_from=_resume_from(options, output_dir, resumes=resumes),
        clears_output=clears,
        do_train=options.do_train,
        do_eval=options.do_eval,
        push_to_hub=bool(options.training.get("push_to_hub")),
        notes=(*options.notes, *notes, *_ignored_letters(normaliser), *warnings),
    )

    return add_evaluations(plan, options, corpus, model_config, protocol_of=protocol_of)


def _model_config(settings: Settings) -> Any:
    """Return the model's transformers config, or None for a command that was given no model."""
    if not (settings.model_name_or_path or settings.model_config):
        return None
    from speechtune.models.loading import model_config_of

    return model_config_of(settings)


def _family(model_config: Any) -> Family:
    if model_config is None:
        return "ctc"
    from speechtune.models.loading import family_of

    return family_of(model_config)


def _resolved(options: Options, corpus: Corpus, model_config: Any, family: Family) -> tuple[Settings, list[str]]:
    """Fill in the defaults that depend on the corpus or the model; notes for the user beside them."""
    settings, notes = options.config, []
    num_pieces_of(settings.new_vocabulary)  # a misspelt one is answered now
    streaming = settings.streaming and corpus.layout.stream is not None
    if settings.streaming and not streaming:
        notes.append(f"--streaming: {corpus.label} is local and is read in place; nothing is decoded ahead")
    train_split, note = choose_train_split(corpus, settings.train_split_name, family)
    if note and (options.do_train or options.command in WITHOUT_MODEL):
        notes.append(note)
    context = settings.encoder_context
    if model_config is not None and model_config.model_type == "whisper" and context is None:
        from speechtune.models.whisper.context import tuned_context

        context = tuned_context(model_config)
    lora = read_lora(settings.lora)
    resolved = replace(
        settings,
        streaming=streaming,
        train_split_name=train_split,
        encoder_context=context,
        lora=str(lora) if lora else False,
    )
    resolved = _with_text_defaults(resolved, model_config, family, is_script=options.command == "script")
    if settings.lm is None:
        return resolved, notes
    from speechtune.plan.decoding import resolve_lm

    return resolve_lm(resolved, builds=options.do_train), notes


def _with_text_defaults(settings: Settings, model_config: Any, family: Family, *, is_script: bool) -> Settings:
    """Fill in the options of text. Models that write case learn it; scores are without it and with."""
    as_asked = is_script or settings.protocol == "readme" or settings.do_lower_case or settings.phones
    if as_asked or not _writes_case(settings, model_config, family):
        lower = True if settings.do_lower_case is None else settings.do_lower_case
        return replace(settings, do_lower_case=lower, normaliser=settings.normaliser or "default")
    metrics = settings.eval_metrics
    if settings.normaliser is None:
        metrics = tuple(dict.fromkeys((*metrics, "wer_as_written")))
    return replace(
        settings, do_lower_case=False, normaliser=settings.normaliser or "whisper-basic", eval_metrics=metrics
    )


def _writes_case(settings: Settings, model_config: Any, family: Family) -> bool:
    if model_config is None:
        return False
    from speechtune.models.case import writes_case

    return writes_case(settings, model_config, family)


def _splits(
    options: Options, settings: Settings, corpus: Corpus
) -> tuple[SplitPlan | None, SplitPlan | None, list[str]]:
    """Read the splits that the command uses; warn where they share speech."""
    trains, evaluates = options.do_train, options.do_eval
    if options.command in WITHOUT_MODEL:
        # The original scripts' vocabulary has the evaluation text's characters too.
        trains, evaluates = True, options.command == "doctor" or settings.protocol == "readme"
    assert settings.train_split_name is not None
    parts = (
        (trains, settings.train_split_name, settings.max_train_samples),
        (evaluates, settings.eval_split_name, settings.max_eval_samples),
    )
    rows = [read_split(corpus, settings, name, max_samples=limit) if used else None for used, name, limit in parts]
    train, evaluation = (
        split_plan(part[1], split) if split is not None else None for part, split in zip(parts, rows, strict=True)
    )
    warnings = []
    tables = [split for split in rows if isinstance(split, SplitTable)]
    corrected = [corrections_note(settings, tables)] if settings.corrections else []
    if len(tables) == 2 and options.command not in WITHOUT_MODEL:  # the doctor reports it itself
        warnings = [shared_speech(tables[0], tables[1], force=settings.force)]
    return train, evaluation, [*corrected, *(f"warning: {text}" for text in warnings if text)]


def _spoken_language(options: Options, settings: Settings, corpus: Corpus) -> tuple[str | None, list[str]]:
    """Return the language that a multilingual Whisper hears in the training data, and a note."""
    assert settings.train_split_name is not None
    rows = read_split(corpus, settings, settings.train_split_name, max_samples=settings.max_train_samples)
    language, note = spoken_language(settings, rows, on_cpu=bool(options.training.get("use_cpu")))
    return language, [note] if note else []


def _ignored_letters(normaliser: TextFunction) -> list[str]:
    letters = getattr(normaliser, "letters_ignored", str)()
    text = f"warning: --chars_to_ignore deletes letters: {' '.join(letters)} (a shell may have expanded an unquoted ?)"
    return [text] if letters else []


def _protocol(
    settings: Settings,
    family: Family,
    normaliser: TextFunction,
    language: str | None,
    precision: Precision,
    arguments: Mapping[str, Any],
) -> dict[str, Any]:
    """Return how scores are computed. Everything that can change a hypothesis or its score is part of the hash."""
    filters = {}
    if settings.protocol == "readme":
        filters = {
            "min_duration_s": settings.min_duration_in_seconds,
            "max_duration_s": settings.max_duration_in_seconds,
        }
    protocol = {
        "name": settings.protocol,
        "normalizer": normaliser.describe(),
        "filters": filters,
        "padding": settings.padding,
    }
    if settings.corrections:  # other references: no score of the corpus as it was published
        protocol["corrections"] = corrections_hash(read_corrections(settings.corrections))
    decoding: dict[str, Any] = {"precision": "bf16" if precision.bf16 else "fp16" if precision.fp16 else "fp32"}
    if family == "seq2seq":
        decoding |= {
            "language": settings.language or language,
            "task": settings.task,
            "encoder_context": settings.encoder_context,
            "prompt": settings.prompt,
            "num_beams": arguments.get("generation_num_beams"),
            "max_length": arguments.get("generation_max_length"),
        }
    if settings.lm or settings.hotwords or settings.num_beams:
        from speechtune.plan.decoding import search_protocol

        decoding |= search_protocol(settings, family)
    protocol["decoding"] = {name: value for name, value in decoding.items() if value is not None}
    return {**protocol, "hash": protocol_hash({**protocol, "normalizer_hash": normaliser.hash()})}


def _unaided(settings: Settings) -> Settings:
    """Return the settings of what the model writes without language model and hot words."""
    return replace(settings, lm=None, hotwords=None, num_beams=None)


def _resume_from(options: Options, output_dir: Path | None, *, resumes: bool) -> Path | None:
    asked = options.training.get("resume_from_checkpoint")
    if isinstance(asked, str) and asked.lower() not in ("true", "false"):
        return Path(asked)
    if not resumes or output_dir is None:
        return None
    checkpoint = newest_whole(output_dir)
    if checkpoint is None:
        log.warning(f"{output_dir}: none of its checkpoints is whole; training starts from the model again")
    return checkpoint
