"""Keyword arguments of `TrainingArguments`: the user's, and our few defaults."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechtune.errors import OptionError
from speechtune.options.lora import LEARNING_RATE as LORA_LEARNING_RATE
from speechtune.options.table import Settings
from speechtune.plan.hardware import Precision, choose_num_workers, choose_precision, has_gpu

__all__ = ["training_arguments"]

log = logging.getLogger("speechtune")


def training_arguments(
    given: Mapping[str, Any], settings: Settings, output_dir: Path | None
) -> tuple[dict[str, Any], Precision]:
    """Return the arguments and the precision that they ask for.

    Args:
        given: options of TrainingArguments that the user gave, typed.
    """
    arguments = dict(given)
    use_cpu = bool(arguments.get("use_cpu", False))
    asked = settings.precision
    if asked == "auto":
        asked = "bf16" if arguments.get("bf16") else "fp16" if arguments.get("fp16") else "auto"
    precision = choose_precision(asked, use_cpu=use_cpu)
    on_gpu = has_gpu() and not use_cpu
    if arguments.get("fsdp") and not on_gpu:
        log.warning("--fsdp: accelerate shards models over GPUs only; here each process keeps the whole model")
        del arguments["fsdp"]
    if settings.lora:
        if arguments.get("fsdp"):
            raise OptionError("--lora with --fsdp: the frozen model is whole on each GPU. Leave --fsdp out.")
        arguments.setdefault("learning_rate", LORA_LEARNING_RATE)
    arguments.setdefault("logging_steps", 10)
    arguments.setdefault("report_to", "none")
    arguments.setdefault("log_level", "error")
    if arguments.get("eval_strategy", "no") != "no":
        arguments.setdefault("metric_for_best_model", "wer")
        arguments.setdefault("greater_is_better", False)
    arguments.update(
        output_dir=str(output_dir or "."),
        bf16=precision.bf16,
        fp16=precision.fp16,
        use_cpu=not on_gpu,
        dataloader_num_workers=choose_num_workers(arguments.get("dataloader_num_workers"), on_gpu=on_gpu),
        # Fixed: our own display, ready batches from the dataset, a NaN is never logged as 0, one upload at the end.
        disable_tqdm=True,
        remove_unused_columns=False,
        logging_nan_inf_filter=False,
        push_to_hub=False,
    )
    return arguments, precision
