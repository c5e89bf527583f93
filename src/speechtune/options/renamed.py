"""Options of the original scripts and of transformers that are renamed, not needed or not supported: one row each.

Found by comparing the fields of `TrainingArguments` in 3.5, 4.6, 4.20, 4.41, 4.57 and 5.18 to 5.23, and the scripts'
own options over the years. Nothing is ignored silently: whoever gives such an option reads what became of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["OLD_NAMES", "Old"]


@dataclass(frozen=True)
class Old:
    """What became of an option.

    Args:
        line: shown to whoever gives it, unless it is empty.
        to: today's option; empty: there is none.
        annotation: the values it takes; empty: those of today's option, or of `TrainingArguments`.
        value: today's value for the old one; None leaves today's option unset.
        refused: any other value than its default is an error.
    """

    line: str
    to: str = ""
    annotation: str = ""
    value: Callable[[Any], Any] = lambda value: value
    refused: bool = False


def _renamed(to: str) -> Old:
    return Old(f"taken as --{to}", to)


def _changed(annotation: str, to: str, value: Callable[[Any], Any]) -> Old:
    return Old(f"taken as --{to}", to, annotation, value)


def _unneeded(why: str, annotation: str = "") -> Old:
    return Old(f"not needed, {why}", "", annotation)


def _refused(why: str) -> Old:
    return Old(f"not supported: {why}", refused=True)


def _dropped(annotation: str, why: str) -> Old:
    return Old(f"no longer does anything; {why}", "", annotation)


_TORCHRUN = "processes are started by torchrun"
_PLANNED = "batches are planned once, by duration, and divided among the processes"
_LOADER = "--dataloader_num_workers is enough; the rest is set for the machine"
_LIGER = "Liger has no kernels for speech models. Leave it out"

OLD_NAMES: dict[str, Old] = {
    # Options of today's TrainingArguments that have another name here
    "gradient_checkpointing": Old("", "activation_checkpointing"),
    "gradient_checkpointing_kwargs": Old("", "activation_checkpointing_kwargs"),
    "fp16": Old("", "precision", "bool", lambda on: "fp16" if on else None),
    "bf16": Old("", "precision", "bool", lambda on: "bf16" if on else None),
    "auto_find_batch_size": _changed("bool", "batch_seconds", lambda on: "auto" if on else None),
    # ... that are not needed
    "average_tokens_across_devices": _unneeded("a step's loss is always the mean over all processes"),
    **dict.fromkeys(("dataloader_drop_last", "sortish_sampler"), _unneeded(_PLANNED)),
    **dict.fromkeys(("dataloader_in_order", "dataloader_multiprocessing_context"), _unneeded(_LOADER)),
    **dict.fromkeys(("dataloader_persistent_workers", "dataloader_pin_memory"), _unneeded(_LOADER)),
    "dataloader_prefetch_factor": _unneeded(_LOADER),
    "disable_tqdm": _unneeded("progress is shown as plain lines where the output is not a terminal"),
    "do_predict": _unneeded("--do_eval writes the recognised text to hypotheses.jsonl"),
    "enable_jit_checkpoint": _unneeded("SIGTERM and Ctrl+C always save a checkpoint"),
    **dict.fromkeys(
        ("eval_accumulation_steps", "eval_do_concat_batches", "eval_use_gather_object"),
        _unneeded("evaluation keeps texts and counts errors, not logits"),
    ),
    "hub_always_push": _unneeded("the model is uploaded once, at the end"),
    "ignore_data_skip": _unneeded("a resumed run skips trained utterances without reading them"),
    "include_num_input_tokens_seen": _unneeded("seconds of audio are counted instead"),
    "label_names": _unneeded("labels are made from --text_column_name"),
    "length_column_name": _unneeded("durations come from the recordings' headers"),
    "local_rank": _unneeded(_TORCHRUN),
    "logging_nan_inf_filter": _unneeded("a step with a non-finite loss is skipped and reported"),
    "remove_unused_columns": _unneeded("--audio_column_name and --text_column_name choose the columns"),
    "restore_callback_states_from_checkpoint": _unneeded("no callback here has a state of its own"),
    # ... that would change the result, and are not supported
    "batch_eval_metrics": _refused("error rates are always counted batch by batch. Leave it out"),
    "bf16_full_eval": _refused("evaluation uses --precision. Give --precision bf16"),
    "fp16_full_eval": _refused("evaluation uses --precision. Give --precision fp16"),
    "data_seed": _refused("--seed also decides the order of the data. Leave it out"),
    "deepspeed": _refused("--fsdp shards a model over GPUs. Leave it out"),
    "include_for_metrics": _refused("--eval_metrics chooses the error rates. Leave it out"),
    "parallelism_config": _refused("torchrun with --fsdp shards a model over GPUs. Leave it out"),
    "prediction_loss_only": _refused("an evaluation always gives error rates. Leave it out"),
    **dict.fromkeys(("use_liger_kernel", "liger_kernel_config"), _refused(_LIGER)),
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
    "group_by_length": _unneeded("batches are always grouped by duration here", "bool"),
    "use_fast_tokenizer": _dropped("bool", "transformers has one kind of tokenizer left"),
    "text_column": _dropped("str | None", "the transcript's column is --text_column_name"),
    "forced_decoder_ids": _dropped("str | list[str] | None", "--language and --task set the decoder's prompt"),
    "suppress_tokens": _dropped("str | list[str] | None", "the model's generation_config.json has them"),
    "save_safetensors": _dropped("bool", "weights are always saved as safetensors"),
    "logging_dir": _dropped("str | None", "TensorBoard's folder is the variable TENSORBOARD_LOGGING_DIR"),
    "include_inputs_for_metrics": _dropped("bool", "error rates need no inputs"),
    "include_tokens_per_second": _dropped("bool", "seconds of audio per second are always shown"),
    **dict.fromkeys(
        ("fp16_backend", "half_precision_backend", "fp16_opt_level"), _dropped("str", "half precision is PyTorch's own")
    ),
    "past_index": _dropped("int", "speech models have no such state"),
    **dict.fromkeys(("jit_mode_eval", "use_ipex"), _dropped("bool", "--torch_compile compiles the model")),
    "use_legacy_prediction_loop": _dropped("bool", "evaluation has its own loop here"),
    "use_mps_device": _dropped("bool", "an Apple GPU is used where there is one"),
    "tpu_num_cores": _dropped("int | None", _TORCHRUN),
    "mp_parameters": _dropped("str", _TORCHRUN),
    "ray_scope": _dropped("str | None", "no hyper-parameter search is run here"),
    "sharded_ddp": _dropped("str | None", "--fsdp shards a model"),
    **dict.fromkeys(("dispatch_batches", "split_batches"), _dropped("bool | None", _PLANNED)),
}
