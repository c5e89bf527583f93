"""Options of the original scripts and of transformers that are gone, renamed, or not needed here: one row each.

Found by comparing the fields of `TrainingArguments` in 3.5, 4.6, 4.20, 4.41, 4.57 and 5.18 to 5.23, and the own
options of the scripts over the years. Nothing is swallowed silently: who gives an old name reads what became of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["OLD_NAMES", "Old"]


@dataclass(frozen=True)
class Old:
    """What became of an option: `line` is shown to who gives it, unless it is empty."""

    line: str
    to: str = ""  # today's option; empty: nothing is to be done
    annotation: str = ""  # which values it takes; empty: those of today's option
    value: Callable[[Any], Any] = lambda value: value  # today's value for the old one; None: leave today's unset


def _renamed(to: str) -> Old:
    return Old(f"taken as --{to}", to)


def _changed(annotation: str, to: str, value: Callable[[Any], Any]) -> Old:
    return Old(f"taken as --{to}", to, annotation, value)


def _unneeded(annotation: str, why: str) -> Old:
    return Old(f"not needed, {why}", "", annotation)


def _dropped(annotation: str, why: str) -> Old:
    return Old(f"no longer does anything; {why}", "", annotation)


_NO_GRAPH = "the model runs as PyTorch runs it (--torch_compile compiles it)"
_OWN_LAUNCH = "processes are started by torchrun"
_PLANNED = "batches are planned once, by duration, and shared out to the processes"

OLD_NAMES: dict[str, Old] = {
    # Options of today's TrainingArguments that something else does here
    "gradient_checkpointing": Old("", "activation_checkpointing"),
    "gradient_checkpointing_kwargs": Old("", "activation_checkpointing_kwargs"),
    "fp16": Old("", "precision", "bool", lambda on: "fp16" if on else None),
    "bf16": Old("", "precision", "bool", lambda on: "bf16" if on else None),
    "auto_find_batch_size": _changed("bool", "batch_seconds", lambda on: "auto" if on else None),
    "length_column_name": _unneeded("str", "durations come from the recordings' headers"),
    "train_sampling_strategy": _unneeded("str", _PLANNED),
    "sortish_sampler": _unneeded("bool", _PLANNED),
    "eval_accumulation_steps": _unneeded("int | None", "evaluation keeps texts, not logits"),
    "logging_nan_inf_filter": _unneeded("bool", "a step with a non-finite loss is skipped and named"),
    "do_predict": _unneeded("bool", "--do_eval writes what the model said to hypotheses.jsonl"),
    # Renamed
    "max_left_out": _renamed("max_skipped"),
    "arena_max_gb": _renamed("audio_cache_max_gb"),
    "evaluation_strategy": _renamed("eval_strategy"),
    "evaluate_during_training": _changed("bool", "eval_strategy", lambda on: "steps" if on else None),
    "warmup_ratio": _changed("float", "warmup_steps", lambda ratio: min(ratio, 0.999999)),  # a ratio there, if below 1
    "per_gpu_train_batch_size": _renamed("per_device_train_batch_size"),
    "per_gpu_eval_batch_size": _renamed("per_device_eval_batch_size"),
    "no_cuda": _renamed("use_cpu"),
    "adafactor": _changed("bool", "optim", lambda on: "adafactor" if on else None),
    "torchdynamo": _renamed("torch_compile_backend"),
    "xpu_backend": _renamed("ddp_backend"),
    "tpu_metrics_debug": _changed("bool", "debug", lambda on: "tpu_metrics_debug" if on else None),
    "fsdp_min_num_params": _changed("int", "fsdp_config", lambda number: {"min_num_params": number}),
    "fsdp_transformer_layer_cls_to_wrap": _changed(
        "str", "fsdp_config", lambda name: {"transformer_layer_cls_to_wrap": [name]}
    ),
    "push_to_hub_token": _renamed("hub_token"),
    "push_to_hub_model_id": _renamed("hub_model_id"),
    "push_to_hub_organization": _changed("str", "hub_model_id", lambda name: f"{name}/"),
    "use_auth_token": Old(
        "taken as --token; without a value, the token of `hf auth login` is used in any case",
        "token",
        "str | bool",
        lambda token: token if isinstance(token, str) else None,
    ),
    "freeze_feature_extractor": _renamed("freeze_feature_encoder"),
    "max_val_samples": _renamed("max_eval_samples"),
    "tokenizer_name": Old("", "tokenizer_name_or_path"),
    # Dropped, and why that is harmless
    "group_by_length": _unneeded("bool", "batches are always grouped by duration here"),
    "use_fast_tokenizer": _dropped("bool", "transformers has one kind of tokenizer left"),
    "text_column": _dropped("str | None", "the transcript's column is --text_column_name"),
    "forced_decoder_ids": _dropped("str | list[str] | None", "--language and --task set the decoder's prompt"),
    "suppress_tokens": _dropped("str | list[str] | None", "the model's generation_config.json has them"),
    "save_safetensors": _dropped("bool", "weights are always saved as safetensors"),
    "logging_dir": _dropped("str | None", "TensorBoard's folder is the variable TENSORBOARD_LOGGING_DIR"),
    "include_inputs_for_metrics": _dropped("bool", "error rates need no inputs"),
    "include_tokens_per_second": _dropped("bool", "seconds of audio per second are always shown"),
    "fp16_backend": _dropped("str", "half precision is PyTorch's own"),
    "half_precision_backend": _dropped("str", "half precision is PyTorch's own"),
    "fp16_opt_level": _dropped("str", "it was for NVIDIA's apex; half precision is PyTorch's own"),
    "past_index": _dropped("int", "speech models have no such state"),
    "jit_mode_eval": _dropped("bool", _NO_GRAPH),
    "use_ipex": _dropped("bool", _NO_GRAPH),
    "use_legacy_prediction_loop": _dropped("bool", "evaluation has its own loop here"),
    "use_mps_device": _dropped("bool", "an Apple GPU is used where there is one"),
    "tpu_num_cores": _dropped("int | None", _OWN_LAUNCH),
    "mp_parameters": _dropped("str", _OWN_LAUNCH),
    "ray_scope": _dropped("str | None", "no hyper-parameter search is run here"),
    "sharded_ddp": _dropped("str | None", "--fsdp shards a model"),
    "dispatch_batches": _dropped("bool | None", _PLANNED),
    "split_batches": _dropped("bool | None", _PLANNED),
}
