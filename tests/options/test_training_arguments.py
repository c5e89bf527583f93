"""Every option of TrainingArguments is used, translated or refused, and its value is checked before anything loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from speechtune.errors import OptionError
from speechtune.options.parse import parse_options
from speechtune.options.renamed import OLD_NAMES
from speechtune.options.table import Options
from speechtune.options.training_arguments import training_options

WHOLE = ["--model_name_or_path", "m", "--dataset_name", "d", "--output_dir", "o"]
# Trainer or speechtune does what these ask for.
USED = """
    output_dir per_device_train_batch_size per_device_eval_batch_size num_train_epochs max_steps learning_rate
    lr_scheduler_type lr_scheduler_kwargs warmup_steps optim optim_args weight_decay adam_beta1 adam_beta2
    adam_epsilon optim_target_modules gradient_accumulation_steps max_grad_norm label_smoothing_factor tf32
    activation_checkpointing activation_checkpointing_kwargs torch_compile torch_compile_backend
    torch_compile_mode use_cache neftune_noise_alpha torch_empty_cache_steps logging_strategy logging_steps
    logging_first_step log_on_each_node log_level log_level_replica report_to run_name project trackio_space_id
    trackio_bucket_id trackio_static_space_id eval_strategy eval_steps eval_delay eval_on_start save_only_model
    save_strategy save_steps save_on_each_node save_total_limit push_to_hub hub_token hub_private_repo
    hub_model_id hub_strategy hub_revision load_best_model_at_end metric_for_best_model greater_is_better
    full_determinism seed use_cpu accelerator_config dataloader_num_workers train_sampling_strategy
    ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout
    fsdp fsdp_config debug skip_memory_metrics do_train do_eval resume_from_checkpoint predict_with_generate
    generation_max_length generation_num_beams generation_config
"""


def train(*words: str) -> Options:
    return parse_options([*WHOLE, *words])


def wrong(*words: str) -> str:
    with pytest.raises(OptionError) as caught:
        train(*words)
    return str(caught.value)


def test_every_option_of_training_arguments_is_used_translated_or_refused():
    used = set(USED.split())
    assert set(training_options()) - used - set(OLD_NAMES) == set()
    assert used & set(OLD_NAMES) == set()
    assert used <= set(training_options())


@pytest.mark.parametrize("name", [name for name, old in OLD_NAMES.items() if old.refused])
def test_a_refused_option_gets_a_sentence_unless_it_asks_for_nothing(name: str):
    option = training_options()[name]
    value = "true" if option.is_switch else "{}" if "dict" in option.kinds else "1"
    assert wrong(f"--{name}", value) == f"--{name} is {OLD_NAMES[name].line}."
    if option.is_switch:
        assert name not in train(f"--{name}", "false").training


def test_label_smoothing_is_not_ignored_for_ctc():
    options = train("--label_smoothing_factor", "0.1")
    assert options.for_family("seq2seq").training["label_smoothing_factor"] == 0.1
    with pytest.raises(OptionError, match="--label_smoothing_factor is for sequence-to-sequence models"):
        options.for_family("ctc")


@pytest.mark.parametrize("strategy", ["random", "sequential", "group_by_length"])
def test_a_sampling_strategy_reaches_training(strategy: str):
    options = train("--train_sampling_strategy", strategy)
    assert options.training["train_sampling_strategy"] == strategy and options.notes == ()


@pytest.mark.parametrize(
    "words",
    [
        "--seed -1",
        "--seed " + "5" * 5000,
        "--per_device_train_batch_size 0",
        "--per_device_eval_batch_size -4",
        "--gradient_accumulation_steps 0",
        "--learning_rate -1",
        "--learning_rate 1e999",
        "--learning_rate inf",
        "--learning_rate nan",
        "--adam_beta1 2",
        "--weight_decay -0.1",
        "--num_train_epochs 0",
        "--logging_steps 0",
        "--save_steps -5",
        "--warmup_ratio 2",
        "--dataloader_num_workers 100000",
        "--mask_time_length 100000",
        "--max_duration_in_seconds 1e999",
        "--batch_seconds inf",
        "--preprocessing_num_workers 100000",
        "--accelerator_config nope",
        "--fsdp_config nope.json",
        "--model_config nope.json",
        "--torch_compile_backend nope",
        "--torch_compile_mode nope",
        "--metric_for_best_model nope",
        "--train_sampling_strategy nope",
        "--report_to nope",
        "--log_level nope",
        "--log_level_replica 30",
        '--lr_scheduler_kwargs {"eta":1e999}',
        '--lr_scheduler_kwargs {"eta":' + "[" * 100_000,
    ],
    ids=lambda words: words[:40],
)
def test_a_value_out_of_range_is_one_line_that_says_what_is_expected(words: str):
    line = wrong(*words.split())
    assert line.startswith(f"{words.split()[0]}: expected ") and "found" in line and len(line) < 400
    assert "\n" not in line


@pytest.mark.parametrize(
    "text",
    [
        '{"learning_rate": 1e999}',
        '{"learning_rate": Infinity}',
        '{"learning_rate": NaN}',
        '{"seed": ' + "5" * 5000 + "}",
        '{"dataset_config_name": "\\ud800"}',
        '{"dataset_config_name": "a\\u0000"}',
        '{"fsdp_config": {"min_num_params": 1e999}}',
        '{"lr_scheduler_kwargs": {"eta": ' + "5" * 5000 + "}}",
    ],
    ids=lambda text: text[:40],
)
def test_the_same_holds_for_a_file_of_options(text: str, tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text(text)
    line = wrong(str(path)).splitlines()[0]
    assert line.startswith(f"{path}, line 1: ") and "expected" in line and len(line) < 400


def test_an_option_with_a_wrong_value_is_not_called_missing_too():
    words = ["--dataset_name", "d", "--output_dir", "o", "--model_config", '{"num_hidden_layers": 10000000}']
    with pytest.raises(OptionError) as caught:
        parse_options(words)
    (line,) = str(caught.value).splitlines()
    assert line.startswith("--model_config: expected a JSON object") and "(num_hidden_layers is 10000000)" in line


def test_numbers_in_the_file_of_a_model_config_are_checked_too(tmp_path: Path):
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "wav2vec2", "num_hidden_layers": 10000000}')
    words = ["--dataset_name", "d", "--output_dir", "o", "--model_config", str(path)]
    with pytest.raises(OptionError, match=r"from -1,000,000 to 1,000,000 .*num_hidden_layers is 10000000"):
        parse_options(words)
    path.write_text('{"model_type": "wav2vec2", "num_hidden_layers": 2}')
    assert parse_options(words).config.model_config == str(path)


def test_a_file_that_is_not_a_regular_file_is_refused_at_once(tmp_path: Path):
    fifo = tmp_path / "a.yaml"
    os.mkfifo(fifo)
    assert "not a regular file" in wrong(str(fifo))
    assert "not a regular file" in wrong("--accelerator_config", str(fifo))
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    assert "not a regular file" in wrong(str(tmp_path / "zero.json"))


def test_aliases_of_aliases_are_refused(tmp_path: Path):
    lines = ["a: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"b{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    path = tmp_path / "bomb.yaml"
    path.write_text("recipe:\n" + "".join(f"  {line}\n" for line in lines))
    assert "aliases of aliases" in wrong(str(path))
    path.write_text("recipe:\n  a: &a [1, 2]\n  b: *a\n")
    assert train(str(path)).recipe_info["b"] == train(str(path)).recipe_info["a"]


def test_a_tracker_that_is_not_installed_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    training_options()
    assert wrong("--report_to", "wandb") == "--report_to wandb: wandb is not installed. Run: pip install wandb"
    assert wrong("--report_to", "azure_ml").endswith("Run: pip install azureml-core")
    assert wrong("--report_to", "none", "dagshub").endswith("Run: pip install dagshub mlflow")
    assert train("--report_to", "none").training["report_to"] == "none"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name == "tensorboardX" else None)
    assert train("--report_to", "tensorboard").training["report_to"] == "tensorboard"


def test_a_metric_may_have_its_prefix_and_per_is_counted_where_it_decides():
    assert train("--metric_for_best_model", "eval_loss").config.eval_metrics == ("wer",)
    assert train("--metric_for_best_model", "eval_per").config.eval_metrics == ("wer", "per")


def test_a_wrong_number_is_answered_before_torch_is_loaded():
    code = (
        "import sys; from speechtune.cli.main import main\n"
        f"code = main(['train', *{WHOLE}, '--seed', '-1'])\n"
        "print(code, [name for name in ('torch', 'transformers', 'numpy', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 []\n"
    assert done.stderr == "--seed: expected a whole number from 0 to 4,294,967,295, found '-1'\n"
