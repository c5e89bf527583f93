"""Command lines of the original scripts and of `speechtune train` become options; what is wrong is said at once."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standins.readme_commands import CHARS_TO_IGNORE, COMMANDS
from standins.readme_commands import Command as ReadmeCommand

from speechtune.errors import OptionError
from speechtune.options.option import own_options
from speechtune.options.parse import parse_options
from speechtune.options.renamed import OLD_NAMES
from speechtune.options.table import Kind, Options
from speechtune.options.training_arguments import training_options

ROOT = Path(__file__).parents[2]
README = ROOT.parent / "shared" / "seed" / "speech-recognition-examples.md"
WHOLE = ["--model_name_or_path", "m", "--dataset_name", "d", "--output_dir", "o"]
NOT = object()  # the option is not in that script
REQUIRED = object()

# The original scripts' options and defaults: ctc, streaming, adapter, seq2seq.
KINDS: tuple[Kind, ...] = ("ctc", "ctc_streaming", "ctc_adapter", "seq2seq")
ORIGINAL: dict[str, tuple[Any, Any, Any, Any]] = {
    "model_name_or_path": (REQUIRED, REQUIRED, REQUIRED, REQUIRED),
    "tokenizer_name_or_path": (None, None, None, NOT),
    "cache_dir": (None, None, None, None),
    "freeze_feature_encoder": (True, True, NOT, True),
    "attention_dropout": (0.0, 0.0, NOT, NOT),
    "activation_dropout": (0.0, 0.0, NOT, NOT),
    "feat_proj_dropout": (0.0, 0.0, NOT, NOT),
    "hidden_dropout": (0.0, 0.0, NOT, NOT),
    "final_dropout": (0.0, 0.0, 0.0, NOT),
    "mask_time_prob": (0.05, 0.05, 0.05, NOT),
    "mask_time_length": (10, 10, 10, NOT),
    "mask_feature_prob": (0.0, 0.0, 0.0, NOT),
    "mask_feature_length": (10, 10, 10, NOT),
    "layerdrop": (0.0, 0.0, 0.0, NOT),
    "ctc_loss_reduction": ("mean", "mean", "mean", NOT),
    "ctc_zero_infinity": (False, NOT, NOT, NOT),
    "add_adapter": (False, NOT, NOT, NOT),
    "dataset_name": (REQUIRED, REQUIRED, REQUIRED, REQUIRED),
    "dataset_config_name": (None, None, None, None),
    "train_split_name": ("train+validation", "train+validation", "train+validation", "train"),
    "eval_split_name": ("test", "test", "test", "test"),
    "audio_column_name": ("audio", "audio", "audio", "audio"),
    "text_column_name": ("text", "text", "text", "text"),
    "overwrite_cache": (False, False, False, False),
    "preprocessing_num_workers": (None, None, None, None),
    "max_train_samples": (None, None, None, None),
    "max_eval_samples": (None, None, None, None),
    "chars_to_ignore": (None, None, None, NOT),
    "eval_metrics": (("wer",), ("wer",), ("wer",), NOT),
    "max_duration_in_seconds": (20.0, 20.0, 20.0, 20.0),
    "min_duration_in_seconds": (0.0, NOT, 0.0, 0.0),
    "preprocessing_only": (False, False, False, False),
    "token": (None, NOT, None, None),
    "trust_remote_code": (False, NOT, False, False),
    "unk_token": ("[UNK]", NOT, "[UNK]", NOT),
    "pad_token": ("[PAD]", NOT, "[PAD]", NOT),
    "word_delimiter_token": ("|", NOT, "|", NOT),
    "phoneme_language": (None, None, NOT, NOT),
    "shuffle_buffer_size": (NOT, 500, NOT, NOT),
    "adapter_attn_dim": (NOT, NOT, 16, NOT),
    "target_language": (NOT, NOT, REQUIRED, NOT),
    "overwrite_lang_vocab": (NOT, NOT, False, NOT),
    "config_name": (NOT, NOT, NOT, None),
    "feature_extractor_name": (NOT, NOT, NOT, None),
    "model_revision": (NOT, NOT, NOT, "main"),
    "freeze_encoder": (NOT, NOT, NOT, False),
    "apply_spec_augment": (NOT, NOT, NOT, False),
    "do_lower_case": (NOT, NOT, NOT, True),
    "language": (NOT, NOT, NOT, None),
    "task": (NOT, NOT, NOT, "transcribe"),
    # Taken by translation
    "use_auth_token": (NOT, False, NOT, NOT),
    "tokenizer_name": (NOT, NOT, NOT, None),
    "use_fast_tokenizer": (NOT, NOT, NOT, True),
}

RESOLVED = {
    "train_split_name",
    "text_column_name",
    "adapter_attn_dim",
    "do_lower_case",
}  # their defaults are found when a run is planned


def script(kind: Kind, *words: str) -> Options:
    target = ["--target_language", "tur"] if kind == "ctc_adapter" else []
    steps = ["--max_steps", "1"] if kind == "ctc_streaming" else []
    return parse_options([*WHOLE, "--do_train", *target, *steps, *words], command="script", kind=kind)


def train(*words: str) -> Options:
    return parse_options([*WHOLE, *words])


def wrong(*words: str, **more: Any) -> list[str]:
    with pytest.raises(OptionError) as caught:
        parse_options(words, **more)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for name, row in ORIGINAL.items() for kind, cell in zip(KINDS, row, strict=True) if cell is not NOT],
)
def test_every_option_of_a_script_is_taken_with_its_default(kind: Kind, name: str):
    default = ORIGINAL[name][KINDS.index(kind)]
    sample = {None: "2", REQUIRED: "given"}.get(default, default) if not isinstance(default, tuple) else default[0]
    options = script(kind, f"--{name}={sample}")
    today = OLD_NAMES[name].to if name in OLD_NAMES else name
    if default is REQUIRED:
        assert getattr(options.config, name) == "given"
    elif today and name not in OLD_NAMES:
        if name not in RESOLVED:
            assert getattr(script(kind).config, today) == default
        assert today in options.given


def test_the_table_above_holds_every_option_that_the_original_scripts_have():
    """Word by word against the facts beside the project, where they are."""
    facts = ROOT.parent / "shared" / "seed" / "options.md"
    if not facts.exists():
        pytest.skip(f"the table of the original scripts' options is not beside the project ({facts})")
    found = {}
    for line in facts.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.replace("\\|", "BAR").split("|")[1:-1]]
        if len(cells) == 5 and cells[0].startswith("`--"):
            found[cells[0].strip("`-")] = [
                cell.replace("BAR", "|").replace("['wer']", "('wer',)") for cell in cells[1:]
            ]
    assert found == {name: [_cell(value) for value in row] for name, row in ORIGINAL.items()}


def _cell(value: Any) -> str:
    return "·" if value is NOT else "(required)" if value is REQUIRED else repr(value)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_command_of_the_readme_is_understood(command: ReadmeCommand):
    kind: Any = command.script.removeprefix("run_speech_recognition_").removesuffix(".py")
    options = parse_options(command.arguments(), command="script", kind=kind)
    assert options.do_train and options.do_eval
    assert options.output_dir == Path(command.value("output_dir"))
    assert options.config.dataset_name == command.value("dataset_name")
    assert options.config.precision == "fp16"
    assert options.training["eval_strategy"] == "steps"
    if command.has("chars_to_ignore"):
        assert options.config.chars_to_ignore == CHARS_TO_IGNORE
    known = {*own_options(), *training_options()}
    assert {*options.given, *options.training} <= known - {"length_column_name"}
    noted = {note.split(":")[0].removeprefix("--") for note in options.notes}
    expected = {"group_by_length", "length_column_name", "use_auth_token", "target_language"}
    assert noted - {"warning"} == {name for name in expected if command.has(name)}
    assert ("warning" in noted) == (command.value("dataset_config_name") == "sw")


def readme_blocks() -> list[str]:
    if not README.exists():
        pytest.skip(f"the original README is not beside the project ({README})")
    blocks = [block for block in README.read_text(encoding="utf-8").split("```")[1::2] if "--dataset_name" in block]
    return [block.partition("\n")[2].strip().removeprefix("**").removesuffix("**") for block in blocks]


def test_the_readmes_text_is_understood_as_a_shell_reads_it():
    blocks = readme_blocks()
    assert len(blocks) == 9
    for block in blocks:
        words = shlex.split(block.replace("\\\n", " "))  # a shell drops a line's end behind a backslash, shlex keeps it
        at = next(i for i, word in enumerate(words) if word.endswith(".py"))
        kind: Any = words[at].removeprefix("run_speech_recognition_").removesuffix(".py")
        options = parse_options(words[at + 1 :], command="script", kind=kind)
        assert options.do_train and options.do_eval
        if "--chars_to_ignore" in words:
            assert options.config.chars_to_ignore == CHARS_TO_IGNORE


def test_chars_to_ignore_keeps_a_lone_dash_and_stops_at_the_next_option():
    options = train(*shlex.split(r"--chars_to_ignore , ? . ! - \; \: \" “ % ‘ ” � --fp16"))
    assert options.config.chars_to_ignore == (",", "?", ".", "!", "-", ";", ":", '"', "“", "%", "‘", "”", "�")
    assert options.config.precision == "fp16"


def test_what_the_user_gave_is_kept_apart_from_defaults():
    options = train("--seed", "3", "--layerdrop=0.1")
    assert options.given == {"model_name_or_path", "dataset_name", "layerdrop"}
    assert options.training == {"output_dir": "o", "seed": 3, "do_train": True, "do_eval": True}


def test_the_last_of_repeated_options_wins():
    assert train("--seed", "1", "--seed=2").training["seed"] == 2


def test_speechtune_train_trains_and_evaluates_unless_told_otherwise():
    options = train("--do_eval", "False")
    assert options.do_train and not options.do_eval


def test_a_script_does_what_it_is_told_and_says_so_when_that_is_nothing():
    assert wrong(*WHOLE, command="script", kind="ctc") == ["Nothing to do: add --do_train, --do_eval or both."]
    options = parse_options([*WHOLE, "--do_eval"], command="script", kind="ctc")
    assert options.do_eval and not options.do_train
    assert wrong(*WHOLE, "--preprocessing_only", command="script", kind="ctc")  # of which splits?
    assert parse_options([*WHOLE, "--eval_strategy", "steps"], command="script", kind="ctc").do_eval


def test_evaluation_takes_the_model_without_a_name_and_finds_a_place_for_scores(tmp_path: Path):
    options = parse_options(
        [str(tmp_path), "--dataset_name", "x/cv", "--dataset_config_name", "tr"], command="evaluate"
    )
    assert options.config.model_name_or_path == str(tmp_path)
    assert options.do_eval and not options.do_train
    assert options.output_dir == tmp_path / "evaluation-cv-tr-test"
    options = parse_options(["openai/whisper-base", "--dataset_name", "cv"], command="evaluate")
    assert options.output_dir == Path("runs/whisper-base/evaluation-cv-test")


def test_all_mistakes_come_in_one_message():
    lines = wrong("--learning_rat", "3", "--layerdrop", "2", "--seed", "x", "--model_name_or_path", "m", "lost")
    assert lines == [
        "--learning_rat: no such option. Nearest: --learning_rate",
        "'lost' belongs to no option. Is an option's name missing, or are quotes missing?",
        "--layerdrop: expected a number from 0 to 1, found '2'",
        "--seed: expected a whole number from 0 to 4,294,967,295, found 'x'",
        "--dataset_name is missing: corpus: a folder, archive or manifest, a name in --corpora_dir, or one on the hub",
        "--output_dir is missing: folder for everything that the command writes",
        "`speechtune train --help` lists the options.",
    ]


def test_a_space_after_the_shells_backslash_is_recognised():
    assert wrong(*WHOLE, " ")[0] == "a word of spaces: does a line of the command end in a backslash and a space?"


def test_the_adapter_script_needs_its_language():
    (line,) = wrong(*WHOLE, "--do_train", command="script", kind="ctc_adapter")
    assert line.startswith("--target_language is missing: ")


def test_random_weights_need_no_model_but_a_config():
    options = parse_options(
        ["--model_config", '{"model_type": "wav2vec2"}', "--dataset_name", "d", "--output_dir", "o"]
    )
    assert options.config.model_config == {"model_type": "wav2vec2"}
    assert wrong(*WHOLE, "--model_config", '{"model_type": "wav2vec2"}') == [
        "--model_config starts from random weights, --model_name_or_path from trained ones: give one of them."
    ]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--fp16", "--bf16"], "--fp16 and --bf16 contradict each other: give one of them."),
        (["--streaming"], "--max_steps is missing: a stream's length is not known, so its epochs can't be counted."),
        (
            ["--min_duration_in_seconds", "30"],
            "--min_duration_in_seconds 30 is over --max_duration_in_seconds 20: nothing is left.",
        ),
        (["--eval_strategy", "step"], "--eval_strategy: expected one of no, steps, epoch, found 'step'"),
        (["--evaluation_strategy", "step"], "--evaluation_strategy: expected one of no, steps, epoch, found 'step'"),
    ],
)
def test_contradictions_and_wrong_words_are_found_before_anything_loads(words: list[str], line: str):
    assert wrong(*WHOLE, *words) == [line]


def test_an_option_of_another_command_says_whose_it_is():
    (line,) = wrong("m", "--dataset_name", "d", "--layerdrop", "0.1", command="evaluate", prog="speechtune evaluate")
    assert line == "--layerdrop is not an option of `speechtune evaluate`, but of `speechtune train`."
    (line,) = wrong("--dataset_name", "d", "--output_dir", "o", "--seed", "1", command="vocab", prog="speechtune vocab")
    assert line == "--seed is not an option of `speechtune vocab`, but of `speechtune train`."


def test_a_plan_takes_the_options_of_training_and_no_measure():
    options = parse_options([*WHOLE, "--layerdrop", "0.1", "--seed", "1", "--no_measure"], command="plan")
    assert options.command == "plan" and options.do_train and options.do_eval
    assert options.config.no_measure and options.config.layerdrop == 0.1
    assert not parse_options(WHOLE, command="plan").config.no_measure
    assert wrong(*WHOLE, "--no_measure") == [
        "--no_measure is not an option of `speechtune train`, but of `speechtune plan`."
    ]


def test_target_language_on_the_ctc_script_means_adapters():
    options = script("ctc", "--target_language=tur")
    assert options.kind == "ctc_adapter"
    assert options.notes == ("--target_language: trains MMS adapters, as run_speech_recognition_ctc_adapter.py does",)


def test_swahili_for_swedish_gets_a_warning():
    assert (
        "sw is Swahili; Swedish is sv-SE"
        in script("ctc_adapter", "--dataset_config_name=sw", "--target_language=swe").notes[-1]
    )
    assert not script("ctc_adapter", "--dataset_config_name=sw", "--target_language=swh").notes


@pytest.mark.parametrize(
    ("words", "half", "name", "value"),
    [
        ("--evaluation_strategy steps", "training", "eval_strategy", "steps"),
        ("--evaluate_during_training", "training", "eval_strategy", "steps"),
        ("--warmup_ratio 0.1", "training", "warmup_steps", 0.1),
        ("--per_gpu_train_batch_size 4", "training", "per_device_train_batch_size", 4),
        ("--per_gpu_eval_batch_size 4", "training", "per_device_eval_batch_size", 4),
        ("--no_cuda", "training", "use_cpu", True),
        ("--adafactor", "training", "optim", "adafactor"),
        ("--torchdynamo inductor", "training", "torch_compile_backend", "inductor"),
        ("--xpu_backend gloo", "training", "ddp_backend", "gloo"),
        ("--tpu_metrics_debug", "training", "debug", "tpu_metrics_debug"),
        ("--fsdp_min_num_params 9", "training", "fsdp_config", {"min_num_params": 9}),
        ("--fsdp_transformer_layer_cls_to_wrap L", "training", "fsdp_config", {"transformer_layer_cls_to_wrap": ["L"]}),
        ("--push_to_hub_token t", "training", "hub_token", "t"),
        ("--push_to_hub_model_id a/b", "training", "hub_model_id", "a/b"),
        ("--push_to_hub_organization a", "training", "hub_model_id", "a/o"),
        ("--use_auth_token t", "config", "token", "t"),
        ("--freeze_feature_extractor False", "config", "freeze_feature_encoder", False),
        ("--max_val_samples 5", "config", "max_eval_samples", 5),
        ("--tokenizer_name t", "config", "tokenizer_name_or_path", "t"),
        ("--fp16", "config", "precision", "fp16"),
        ("--bf16", "config", "precision", "bf16"),
        ("--bf16 False", "config", "precision", "auto"),
        ("--auto_find_batch_size", "config", "batch_seconds", "auto"),
        ("--gradient_checkpointing", "training", "activation_checkpointing", True),
        ("--gradient_checkpointing False", "training", "activation_checkpointing", False),
    ],
)
def test_an_old_name_does_what_todays_does(words: str, half: str, name: str, value: Any):
    options = train(*words.split())
    assert (options.training[name] if half == "training" else getattr(options.config, name)) == value
    old = words.split()[0].removeprefix("--")
    assert old not in options.training
    assert [note.split(":")[0] for note in options.notes] == ([f"--{old}"] if OLD_NAMES[old].line else [])


@pytest.mark.parametrize("name", [name for name, old in OLD_NAMES.items() if not (old.to or old.refused)])
def test_an_old_name_that_does_nothing_says_so_in_one_line(name: str):
    option = training_options().get(name)
    options = train(f"--{name}", option.words[0] if option and option.words else "1")
    assert options.training.keys() == {"output_dir", "do_train", "do_eval"}
    assert options.notes == (f"--{name}: {OLD_NAMES[name].line}",)


def test_every_old_name_leads_to_an_option_of_today():
    today = {*own_options(), *training_options()}
    assert {old.to for old in OLD_NAMES.values()} - {""} <= today
    assert not set(OLD_NAMES) & set(own_options())


def test_todays_name_overrides_the_old_one():
    assert train("--evaluation_strategy", "steps", "--eval_strategy", "epoch").training["eval_strategy"] == "epoch"
    assert train("--fp16", "--precision", "fp32").config.precision == "fp32"


def test_settings_from_two_old_names_are_joined():
    options = train("--fsdp_min_num_params", "9", "--fsdp_config", '{"xla": true}')
    assert options.training["fsdp_config"] == {"min_num_params": 9, "xla": True}


def test_a_token_is_in_no_note_and_no_message():
    options = train("--use_auth_token", "hf_secret", "--push_to_hub_token", "hf_secret", "--layerdrop", "0")
    assert "hf_secret" not in repr(options) + str(options.notes) + str(options.shareable())


def test_a_token_of_a_wrong_shape_is_not_shown(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text(
        json.dumps({"token": ["hf_secret", "x"], "use_auth_token": {"hf_secret": 1}, "hub_token": ["hf_secret"]})
    )
    assert "hf_secret" not in "\n".join(wrong(*WHOLE, str(path)))


@pytest.mark.parametrize(
    "words",
    [
        ["--token", "A", "hf_secret"],
        ["--token=", "hf_secret"],
        ["--hub_token", "A", "hf_secret", "B"],
        ["--use_auth_token", "A", "hf_secret"],
        ["--no_use_auth_token", "hf_secret"],
        ["--tokn", "hf_secret"],
    ],
)
def test_no_word_after_a_token_is_shown(words: list[str]):
    assert "hf_secret" not in "\n".join(wrong(*WHOLE, *words))


def test_a_json_file_alone_is_all_the_options(tmp_path: Path):
    path = tmp_path / "options.json"
    rows = {"model_name_or_path": "m", "dataset_name": "d", "output_dir": "o", "do_train": True, "learning_rate": 3e-4}
    path.write_text(json.dumps(rows | {"chars_to_ignore": [",", "-"], "fp16": True, "group_by_length": True}))
    options = parse_options([str(path)], command="script", kind="ctc")
    assert options.training == {"output_dir": "o", "do_train": True, "learning_rate": 3e-4}
    assert options.config.chars_to_ignore == (",", "-")
    assert len(options.notes) == 1


def recipe(folder: Path, text: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_command_line_overrides_a_recipe(tmp_path: Path):
    path = recipe(tmp_path, "learning_rate: 3e-4\nseed: 1\nrecipe: {title: T}\n")
    options = parse_options([path, *WHOLE, "--seed", "2"])
    assert options.training["seed"] == 2 and options.training["learning_rate"] == 3e-4
    assert options.recipe == Path(path)
    assert options.recipe_info == {"title": "T"}


def test_an_option_overrides_the_one_of_a_recipe_that_it_excludes(tmp_path: Path):
    path = recipe(tmp_path, "model_config: {model_type: wav2vec2}\nbatch_seconds: 60\nmax_steps: 100\n")
    options = parse_options([path, *WHOLE, "--per_device_train_batch_size=2", "--num_train_epochs", "1"])
    assert options.config.model_config is None
    assert options.config.batch_seconds is None
    assert "max_steps" not in options.training


def test_a_recipes_options_for_training_do_not_disturb_evaluation(tmp_path: Path):
    path = recipe(tmp_path, "layerdrop: 0.1\ndo_train: true\ndataset_name: d\nlearning_rate: 3e-4\n")
    options = parse_options(["m", path], command="evaluate")
    assert options.config.layerdrop == 0.0 and not options.do_train
    assert options.config.dataset_name == "d"


def test_a_mistake_in_a_recipe_names_file_and_line(tmp_path: Path):
    path = recipe(tmp_path, "seed: 1\nlearning_rat: 3e-4\nlayerdrop: high\n")
    lines = wrong(path, *WHOLE)
    assert lines[0] == f"{path}, line 2: learning_rat: no such option. Nearest: learning_rate"
    assert lines[1] == f"{path}, line 3: layerdrop: expected a number from 0 to 1, found 'high'"


NAMES = st.sampled_from(
    ["--fp16", "--seed", "--token", "--chars_to_ignore", "--fsdp_config", "--warmup_ratio", "--no_x", "-q"]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(NAMES, st.text(max_size=8), st.from_regex(r"--[a-z_=]{1,9}", fullmatch=True)), max_size=6))
def test_any_words_give_options_or_one_message(words: list[str]):
    try:
        parse_options(words)
    except OptionError as error:
        assert str(error)
