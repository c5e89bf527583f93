"""TrainingArguments: the user's options, our few defaults, and what is fixed."""

from __future__ import annotations

import logging
import random
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from speechtune.errors import OptionError
from speechtune.options.table import Settings
from speechtune.plan.arguments import training_arguments
from speechtune.plan.plan import RunPlan
from speechtune.training.build import build_arguments, first_process_first


@pytest.fixture(autouse=True)
def _precision_as_before() -> Any:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def made(tmp_path: Any, *, seq2seq: bool = False, precision: Any = "fp32", **training: Any) -> tuple[Any, str]:
    """The TrainingArguments of a plan, and what is said of its precision."""
    settings = Settings(precision=precision)
    arguments, chosen = training_arguments({"use_cpu": True, **training}, settings, tmp_path)
    family: Any = "seq2seq" if seq2seq else "ctc"
    plan = RunPlan("train", family, settings, chosen, "c", None, None, None, training_arguments=arguments)
    return build_arguments(plan), chosen.description


def test_the_users_words_are_taken(tmp_path):
    args, _ = made(tmp_path, learning_rate=3e-4, logging_steps=7, report_to=["none"], seed=5, dataloader_num_workers=0)
    assert (args.learning_rate, args.logging_steps, args.seed, args.dataloader_num_workers) == (3e-4, 7, 5, 0)
    assert args.output_dir == str(tmp_path)


def test_our_defaults_are_few_and_give_way(tmp_path):
    args, _ = made(tmp_path)
    assert (args.logging_steps, args.report_to) == (10, [])
    assert made(tmp_path, log_level="info")[0].log_level == "info"


def test_what_is_ours_to_decide_is_decided(tmp_path):
    args, _ = made(tmp_path, disable_tqdm=False, push_to_hub=True, logging_nan_inf_filter=True)
    assert args.disable_tqdm and not args.push_to_hub and not args.logging_nan_inf_filter
    assert not args.remove_unused_columns


def test_evaluations_on_the_way_are_judged_by_the_lowest_wer(tmp_path):
    args, _ = made(tmp_path, eval_strategy="steps")
    assert (args.metric_for_best_model, args.greater_is_better) == ("wer", False)
    args, _ = made(tmp_path, eval_strategy="steps", metric_for_best_model="cer")
    assert (args.metric_for_best_model, args.greater_is_better) == ("cer", False)
    assert made(tmp_path)[0].metric_for_best_model is None


@pytest.mark.parametrize(("precision", "name"), [("fp32", "float32"), ("bf16", "bf16")])
def test_the_number_format_is_the_one_asked_for_and_said(tmp_path, precision: str, name: str):
    args, line = made(tmp_path, precision=precision)
    assert (args.bf16, args.fp16) == (precision == "bf16", False) and line.startswith(f"{name} on the CPU")


def test_half_precision_asked_of_transformers_is_ours(tmp_path):
    args, line = made(tmp_path, precision="auto", bf16=True)
    assert args.bf16 and line.startswith("bf16")
    args, line = made(tmp_path, precision="auto", fp16=True)
    assert not args.fp16 and "--fp16 needs a GPU" in line


def test_each_family_has_its_arguments(tmp_path):
    from transformers import Seq2SeqTrainingArguments

    assert not isinstance(made(tmp_path)[0], Seq2SeqTrainingArguments)
    args, _ = made(tmp_path, seq2seq=True, generation_max_length=9)
    assert isinstance(args, Seq2SeqTrainingArguments) and args.generation_max_length == 9


def test_sharding_without_a_gpu_is_left_out_and_said(tmp_path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "speechtune"):
        args, _ = made(tmp_path, fsdp="full_shard")
    assert not args.fsdp and "--fsdp: accelerate shards models over GPUs only" in caplog.text


@pytest.mark.parametrize(
    "training",
    [
        {"load_best_model_at_end": True, "eval_strategy": "steps", "save_strategy": "epoch"},
        {"no_such_argument": 1},
        {"lr_scheduler_type": "no such"},
    ],
)
def test_arguments_that_contradict_each_other_are_a_message(tmp_path, training: dict[str, Any]):
    with pytest.raises(OptionError, match=r"^TrainingArguments: "):
        made(tmp_path, **training)


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_a_seed_is_of_all_random_numbers(tmp_path):
    made(tmp_path, seed=11)
    first = drawn()
    made(tmp_path, seed=11)
    assert drawn() == first
    made(tmp_path, seed=12)
    assert all(one != other for one, other in zip(drawn(), first, strict=True))


def test_a_single_process_does_not_wait():
    assert isinstance(first_process_first(SimpleNamespace(world_size=1)), nullcontext)  # type: ignore[arg-type]
    turns: list[Any] = []
    several = SimpleNamespace(world_size=2, main_process_first=lambda **how: turns.append(how))
    first_process_first(several)  # type: ignore[arg-type]
    assert turns == [{"local": False}]


def test_low_rank_updates_have_a_learning_rate_of_their_own(tmp_path):
    lora = Settings(precision="fp32", lora=True)
    assert training_arguments({"use_cpu": True}, lora, tmp_path)[0]["learning_rate"] == 5e-4
    assert training_arguments({"use_cpu": True, "learning_rate": 1e-3}, lora, tmp_path)[0]["learning_rate"] == 1e-3
    assert "learning_rate" not in training_arguments({"use_cpu": True}, Settings(precision="fp32"), tmp_path)[0]


def test_sharding_is_refused_with_low_rank_updates(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("speechtune.plan.arguments.has_gpu", lambda: True)
    with pytest.raises(OptionError, match="--lora with --fsdp"):
        training_arguments({"fsdp": True}, Settings(precision="fp32", lora="r=8"), tmp_path)
