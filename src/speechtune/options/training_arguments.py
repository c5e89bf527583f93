"""The options of transformers' `Seq2SeqTrainingArguments`: read from its source, with our ranges and choices.

The source is parsed, not imported: 10 ms instead of 6 s. A test compares what is read here with the imported
dataclasses, and that each option is used, or is in `renamed.OLD_NAMES`.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from pathlib import Path
from typing import Any

from speechtune.errors import OptionError
from speechtune.options.option import Option
from speechtune.options.table import METRICS

__all__ = ["HELP", "LIMITS", "TRACKERS", "training_options"]

_SEEDS = (0, 2**32 - 1)
_MANY = 10**9
# Smallest and largest number. Numbers of steps may also be a share of all steps (0.1).
LIMITS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), (1, 65_536)),
    **dict.fromkeys(("logging_steps", "eval_steps", "save_steps"), (0.0001, _MANY)),
    **dict.fromkeys(("warmup_steps", "eval_delay"), (0, _MANY)),
    **dict.fromkeys(("seed", "data_seed"), _SEEDS),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), (0, 0.999999)),
    **dict.fromkeys(("adam_epsilon", "label_smoothing_factor", "warmup_ratio"), (0, 1)),
    **{"num_train_epochs": (0.0001, 10**6), "max_steps": (-1, _MANY), "gradient_accumulation_steps": (1, 10**6)},
    **{"learning_rate": (0, 100), "weight_decay": (0, 100), "max_grad_norm": (0, 10**12)},
    **{"neftune_noise_alpha": (0, 1000), "torch_empty_cache_steps": (1, _MANY), "eval_accumulation_steps": (1, _MANY)},
    **{"save_total_limit": (-1, 10**6), "dataloader_num_workers": (0, 256), "dataloader_prefetch_factor": (1, 1000)},
    **{"ddp_bucket_cap_mb": (1, 10**6), "ddp_timeout": (1, 10**7), "local_rank": (-1, 10**6)},
    **{"generation_max_length": (1, 10_000), "generation_num_beams": (1, 100)},
    **{"fsdp_min_num_params": (0, 10**12), "past_index": (-1, 10**6), "tpu_num_cores": (1, 10**6)},
}
# --report_to -> the modules that it imports
TRACKERS = {
    **{
        name: (name,)
        for name in ("wandb", "mlflow", "clearml", "codecarbon", "dvclive", "neptune", "swanlab", "trackio")
    },
    **{"tensorboard": ("tensorboard",), "dagshub": ("dagshub", "mlflow"), "flyte": ("flytekit",)},
    **{"azure_ml": ("azureml",), "comet_ml": ("comet_ml",), "kubeflow": ()},
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "train_sampling_strategy": ("random", "sequential", "group_by_length"),
    "metric_for_best_model": tuple(f"{prefix}{m}" for prefix in ("", "eval_") for m in ("loss", *METRICS)),
    "report_to": ("none", "all", *TRACKERS),
    **dict.fromkeys(
        ("log_level", "log_level_replica"), ("detail", "debug", "info", "warning", "error", "critical", "passive")
    ),
    "torch_compile_backend": (
        *(
            "inductor",
            "cudagraphs",
            "eager",
            "aot_eager",
            "ipex",
            "onnxrt",
            "openxla",
            "tensorrt",
            "tvm",
            "hpu_backend",
        ),
    ),
    "torch_compile_mode": ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
}
# Help of those that do something else here, or have another default, than transformers says
HELP = {
    "output_dir": "folder for everything that the command writes",
    "do_train": "train; `speechtune train` does so by default",
    "do_eval": "evaluate at the end; `speechtune train` does so by default",
    "logging_steps": "number or share of steps between two lines of the log; default: 10",
    "log_level": "level of transformers' own messages; default: error",
    "metric_for_best_model": "metric that tells which checkpoint is the best; default: wer",
    "push_to_hub": "upload the trained model and its model card, once, at the end",
    "hub_strategy": "any value means the same: upload once, at the end",
    "dataloader_num_workers": "processes that prepare batches; by default as the machine allows",
    "train_sampling_strategy": "order of the training utterances; by default grouped by duration",
}


@functools.cache
def training_options() -> dict[str, Option]:
    """The options of `Seq2SeqTrainingArguments` by name, those of `TrainingArguments` among them.

    Raises:
        OptionError: transformers is not installed, or too new or old to be read.
    """
    options: dict[str, Option] = {}
    for file, name in (
        ("training_args.py", "TrainingArguments"),
        ("training_args_seq2seq.py", "Seq2SeqTrainingArguments"),
    ):
        # Only the fields are parsed: the methods behind them are two thirds of the file
        match = re.search(rf"^class {name}\b.*?(?=^    def |\Z)", _source(file), re.MULTILINE | re.DOTALL)
        if match is None:
            raise OptionError(f"{name} was not found in transformers. Install a version that speechtune supports.")
        body = ast.parse(match.group()).body[0]
        assert isinstance(body, ast.ClassDef)
        for node in body.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                options[node.target.id] = _training_option(node.target.id, node)
    return options


def _training_option(name: str, node: ast.AnnAssign) -> Option:
    """Return the option of a line `name: annotation = field(default=..., metadata={...})`."""
    keywords = {k.arg: k.value for k in node.value.keywords} if isinstance(node.value, ast.Call) else {}
    metadata = _literal(keywords.get("metadata"), {})
    default = _literal(keywords["default"], ...) if "default" in keywords else None
    annotation = ast.unparse(node.annotation)
    choices = _CHOICES.get(name) or tuple(metadata.get("choices", ())) or _enum_values(annotation.partition(" ")[0])
    return Option(
        name,
        annotation,
        [] if "default_factory" in keywords else default,
        HELP.get(name) or metadata.get("help", "").replace("%%", "%"),  # argparse's escape
        "TrainingArguments",
        choices=choices,
        bare="const" in metadata,
        secret=name == "hub_token",
        limits=LIMITS.get(name),
    )


def _literal(node: ast.expr | None, otherwise: Any) -> Any:
    try:
        return otherwise if node is None else ast.literal_eval(node)
    except ValueError:
        return otherwise


def _enum_values(name: str) -> tuple[str, ...]:
    """Values of transformers' enumeration `name`, such as IntervalStrategy; empty for any other type."""
    for file in ("trainer_utils.py", "training_args.py") if name[:1].isupper() else ():
        match = re.search(rf"^class {name}\(ExplicitEnum\):.*?(?=^\S|\Z)", _source(file), re.MULTILINE | re.DOTALL)
        if match is not None:
            return tuple(re.findall(r'^    [A-Z0-9_]+ = "(.*?)"', match.group(), re.MULTILINE))
    return ()


@functools.cache
def _source(file: str) -> str:
    """Source of a module of transformers, without importing it: the spec of a top-level package is found, not run."""
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        raise OptionError("transformers is not installed. Run: pip install speechtune")
    return Path(spec.origin).with_name(file).read_text(encoding="utf-8")
