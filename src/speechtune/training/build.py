"""Builders: from a RunPlan to training arguments, recogniser, batch sizes and trainer."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from speechtune.corpora.table import SplitTable
from speechtune.data.batching import BatchSettings
from speechtune.data.dataset import SpeechDataset
from speechtune.errors import OptionError
from speechtune.models.recogniser import Recogniser
from speechtune.options.lora import read_lora
from speechtune.plan.checkpoints import newest_whole
from speechtune.plan.plan import RunPlan
from speechtune.training.data import CorpusData, Datasets, encoder_store

if TYPE_CHECKING:
    import torch
    from transformers import TrainingArguments

    from speechtune.training.trainer import SpeechTrainer

__all__ = ["batch_settings", "build_arguments", "build_recogniser", "build_trainer", "first_process_first", "set_seeds"]

log = logging.getLogger("speechtune")


def build_arguments(plan: RunPlan) -> TrainingArguments:
    """Apply the precision to this process and make its TrainingArguments.

    Raises:
        OptionError: transformers' own checks of options against each other fail.
    """
    from transformers import Seq2SeqTrainingArguments, TrainingArguments

    plan.precision.apply()
    arguments_class = Seq2SeqTrainingArguments if plan.is_seq2seq else TrainingArguments
    try:
        args = arguments_class(**plan.training_arguments)
    except (ValueError, TypeError, ImportError) as error:
        raise OptionError(f"TrainingArguments: {str(error).strip()}") from error
    set_seeds(args)
    return args


def set_seeds(args: TrainingArguments) -> None:
    """Set all random states. Before the model is built: random weights are the same in each run and process."""
    from transformers import enable_full_determinism, set_seed

    (enable_full_determinism if args.full_determinism else set_seed)(args.seed)


def first_process_first(args: TrainingArguments) -> AbstractContextManager[Any]:
    """Let the first process go first: what it writes to the cache or the output folder, the others find there."""
    return args.main_process_first(local=False) if args.world_size > 1 else nullcontext()


def build_recogniser(plan: RunPlan, data: CorpusData, args: TrainingArguments) -> Recogniser:
    """Load the model and make it ready to train or to evaluate.

    Raises:
        ModelError, OptionError, TextError: model, tokenizer, options and text do not fit together.
    """
    from speechtune.models.ctc.recogniser import CtcRecogniser

    recogniser = _loaded_recogniser(plan, data, args)
    if plan.do_train:
        _choose_trained(plan, recogniser, args)
        split = plan.train
        # A sharded model runs no windows: whatever fits is one pass
        if isinstance(recogniser, CtcRecogniser) and split and split.hours and split.num_utterances and not args.fsdp:
            recogniser.remember_clips(split.hours * 3600 / split.num_utterances)
    return recogniser


def _choose_trained(plan: RunPlan, recogniser: Recogniser, args: TrainingArguments) -> None:
    """Freeze what --freeze names, and with --lora everything but its updates."""
    from speechtune.models.freezing import freeze_by_name
    from speechtune.models.loading import checkpoint_of
    from speechtune.models.lora import add_lora, find_adapter

    settings, model = plan.settings, recogniser.model
    if settings.freeze:
        freeze_by_name(model, settings.freeze)
    lora = read_lora(settings.lora)
    if lora is not None:
        if find_adapter(settings.model_name_or_path, checkpoint_of(settings).hub_options):
            raise OptionError(
                f"--lora: {settings.model_name_or_path} is an adapter itself, and an adapter's base is a whole model.\n"
                f"Merge it first: speechtune export {settings.model_name_or_path} --output_dir DIR"
            )
        line = add_lora(model, lora, base=settings.model_name_or_path, revision=settings.model_revision)
        log.info(f"{line}; learning rate {args.learning_rate:g}")


def _loaded_recogniser(plan: RunPlan, data: CorpusData, args: TrainingArguments) -> Recogniser:
    from speechtune.models.ctc.setup import ctc_for_training, load_ctc
    from speechtune.models.ctc.tokenizer import makes_vocabulary
    from speechtune.models.loading import model_config_of
    from speechtune.models.seq2seq.setup import load_seq2seq, seq2seq_for_training
    from speechtune.models.transducer.setup import load_transducer, transducer_for_training

    settings = plan.settings
    if plan.is_seq2seq:
        if not plan.do_train:
            return load_seq2seq(settings, training_args=args, corpus_language=plan.language)
        model_config = model_config_of(settings)
        return seq2seq_for_training(settings, model_config, training_args=args, corpus_language=plan.language)
    if plan.is_transducer:
        if not plan.do_train:
            return load_transducer(settings, language=plan.language)
        return transducer_for_training(settings, eval_texts=data.evaluation_texts, language=plan.language)
    if not plan.do_train:
        return load_ctc(settings)
    model_config = model_config_of(settings)
    if settings.streaming and makes_vocabulary(settings, model_config):
        raise OptionError(
            "A stream has no vocabulary before its end, so it needs a tokenizer: give --tokenizer_name_or_path "
            "FOLDER.\n"
            "`speechtune vocab --dataset_name ... --output_dir FOLDER` makes one from a corpus' training text."
        )
    return ctc_for_training(
        settings,
        model_config,
        vocabulary_texts=[*data.train_texts, *(data.evaluation_texts if settings.protocol == "readme" else ())],
        eval_texts=data.evaluation_texts,
        folder=plan.folder,
        where=f"{plan.corpus}, {settings.train_split_name}",
        raw_texts=data.train.texts if isinstance(data.train, SplitTable) else (),
    )


def build_trainer(
    plan: RunPlan, data: CorpusData, recogniser: Recogniser, datasets: Datasets, args: TrainingArguments, **hooks: Any
) -> SpeechTrainer:
    """Make the trainer of a prepared model and its datasets.

    Args:
        hooks: callbacks of SpeechTrainer: `on_bad_step`, `check_skipped`, `callbacks`.
    """
    from speechtune.data.batching import with_total
    from speechtune.models.seq2seq.recogniser import Seq2SeqRecogniser
    from speechtune.training.trainer import SpeechTrainer

    if plan.settings.encoder_cache and isinstance(recogniser, Seq2SeqRecogniser) and datasets.train is not None:
        recogniser.keep_encoded(encoder_store(plan.settings))
    settings = batch_settings(plan, recogniser, datasets, args)
    return SpeechTrainer(
        recogniser,
        args,
        train_set=datasets.train,
        eval_set=datasets.evaluation,
        settings=with_total(settings, num_parts=args.world_size * args.gradient_accumulation_steps),
        normalise=data.normalise_hypothesis,
        metric_names=plan.metric_names,
        **hooks,
    )


def batch_settings(plan: RunPlan, recogniser: Recogniser, datasets: Datasets, args: TrainingArguments) -> BatchSettings:
    """Return what one forward and backward pass of a process takes, and the order of an epoch."""
    asked, train_set = plan.settings.batch_seconds, datasets.train
    # transformers' default is "random"; only what the user gives changes our order, by length.
    strategy = str(plan.training_arguments.get("train_sampling_strategy", "group_by_length"))
    order = {"random": "random", "sequential": "sequential"}.get(strategy, "bucketed")
    if asked is None or not isinstance(train_set, SpeechDataset):  # a stream's batches are counted
        return BatchSettings(utterances_per_step=args.per_device_train_batch_size, order=order, seed=args.seed)
    if asked == "auto":
        seconds = _earlier_batch_seconds(plan, args) or _largest_batch_seconds(recogniser, train_set, args)
    else:
        seconds = float(asked)
    return BatchSettings(seconds_per_step=seconds, order=order, seed=args.seed)


def _earlier_batch_seconds(plan: RunPlan, args: TrainingArguments) -> float | None:
    """Return what `--batch_seconds auto` found when the run began: a resumed run keeps its batch size."""
    from speechtune.distributed import from_first
    from speechtune.training.data_state import DataState

    seconds = None
    is_first = args.process_index == 0
    checkpoint = newest_whole(plan.folder, read=False) if is_first and plan.resume_from is not None else None
    if checkpoint is not None:
        state = DataState.read(checkpoint)
        total = state.done[-1].settings.seconds_per_step if state.done else None
        seconds = total / state.parts if total else None
    return from_first(seconds)


def _largest_batch_seconds(recogniser: Recogniser, train_set: SpeechDataset, args: TrainingArguments) -> float:
    """Return the largest batch that fits on every process's device, by trying."""
    import torch

    from speechtune.data.auto_batch import find_batch_seconds

    if args.fsdp:
        raise OptionError("--batch_seconds auto with --fsdp: a sharded model can't be tried. Give a number.")
    model = recogniser.model.to(args.device)
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable(args.gradient_checkpointing_kwargs)
    split = train_set.split
    found = find_batch_seconds(
        recogniser,
        split.table.durations_s,
        labels_per_s=len(split.label_ids) / max(split.hours * 3600, 1.0),
        device=args.device,
        autocast=lambda: _autocast(args),
        num_parts=args.world_size * args.gradient_accumulation_steps,
    )
    log.info(found.line)
    smallest = torch.tensor(found.seconds, device=args.device)
    if args.world_size > 1:
        torch.distributed.all_reduce(smallest, op=torch.distributed.ReduceOp.MIN)
    return float(smallest)


def _autocast(args: TrainingArguments) -> torch.autocast:
    import torch

    half = torch.float16 if args.fp16 else torch.bfloat16
    return torch.autocast(args.device.type, half, enabled=args.fp16 or args.bf16)
