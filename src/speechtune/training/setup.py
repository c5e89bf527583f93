"""TrainingArguments out of the user's words and our few defaults; processes in turn; seeds."""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

from speechtune.errors import OptionError
from speechtune.options.table import Options
from speechtune.plan.hardware import choose_num_workers, choose_precision

__all__ = ["in_turn", "set_seed", "training_arguments"]

log = logging.getLogger("speechtune")


def training_arguments(options: Options, *, seq2seq: bool = False) -> tuple[Any, str]:
    """TrainingArguments out of the user's words and our few defaults, and a line on precisions."""
    from transformers import Seq2SeqTrainingArguments, TrainingArguments

    given = dict(options.training)
    wish = options.config.precision
    if wish == "auto":
        wish = "bf16" if given.get("bf16") else "fp16" if given.get("fp16") else "auto"
    use_cpu = bool(given.get("use_cpu", False))
    precision = choose_precision(wish, use_cpu=use_cpu)
    precision.apply()
    import torch

    has_gpu = torch.cuda.is_available() and not use_cpu
    given.update(bf16=precision.bf16, fp16=precision.fp16, use_cpu=not has_gpu)
    given["dataloader_num_workers"] = choose_num_workers(given.get("dataloader_num_workers"), has_gpu=has_gpu)
    if given.get("fsdp") and not has_gpu:
        log.warning("--fsdp: accelerate shards models over GPUs only; here each process keeps the whole model")
        del given["fsdp"]
    given.setdefault("logging_steps", 10)
    given.setdefault("report_to", "none")
    given.setdefault("log_level", "error")
    if given.get("eval_strategy", "no") != "no":
        given.setdefault("metric_for_best_model", "wer")
        given.setdefault("greater_is_better", False)
    given.setdefault("output_dir", str(options.output_dir or "."))
    # Ours to decide: progress.py shows, the dataset makes ready batches, and a logged 0 must never stand for a NaN.
    given.update(disable_tqdm=True, remove_unused_columns=False, logging_nan_inf_filter=False, push_to_hub=False)
    if not has_gpu and given.get("ddp_backend", "gloo") == "gloo":
        _join_processes(timeout_s=float(given.get("ddp_timeout", TrainingArguments.ddp_timeout)))
    arguments_class = Seq2SeqTrainingArguments if seq2seq else TrainingArguments
    try:
        return arguments_class(**given), precision.line
    except (ValueError, TypeError, ImportError) as error:  # its own checks of options against each other
        raise OptionError(f"TrainingArguments: {str(error).strip()}") from error


def _join_processes(*, timeout_s: float) -> None:
    """Without GPUs transformers forgets --ddp_timeout: a process that hangs would hold the others for half an hour."""
    import torch.distributed as distributed

    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        distributed.init_process_group("gloo", timeout=timedelta(seconds=timeout_s))


def set_seed(args: Any) -> None:
    """Before the model is built: what of it starts from random weights is the same in each run and process."""
    from transformers import enable_full_determinism, set_seed

    (enable_full_determinism if args.full_determinism else set_seed)(args.seed)


def in_turn(args: Any) -> Any:
    """The first process goes first: what it indexes or builds in the cache, the others find there."""
    return args.main_process_first(local=False) if args is not None and args.world_size > 1 else nullcontext()
