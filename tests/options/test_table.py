"""What the options' record promises: secrets stay hidden, kinds bring their defaults, misplaced options are named."""

from __future__ import annotations

import dataclasses

import pytest

from speechtune.errors import OptionError
from speechtune.options.option import own_options
from speechtune.options.table import Family, Kind, Options, Settings


def test_every_option_has_a_help_text_a_group_and_commands_that_know_it():
    for option in own_options().values():
        assert option.help and not option.help.endswith("."), option.name
        assert option.group, option.name
        assert set(option.commands.split()) <= {"train", "plan", "evaluate", "doctor", "vocab"}, option.name
        assert option.commands, option.name


def test_every_default_is_a_value_the_option_takes():
    for option in own_options().values():
        default = list(option.default) if isinstance(option.default, tuple) else option.default
        assert option.convert(default) == option.default, option.name


def test_a_token_is_in_no_text_made_of_options():
    config = Settings(model_name_or_path="m", token="hf_secret")
    options = Options(config, {"hub_token": "hf_other", "seed": 1}, frozenset({"token", "model_name_or_path"}))
    assert "hf_" not in repr(config) + repr(options)
    assert options.shareable() == {"model_name_or_path": "m", "seed": 1}


def test_a_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().strict = True  # type: ignore[misc]


@pytest.mark.parametrize(
    ("family", "config", "kind", "streaming"),
    [
        ("ctc", Settings(), "ctc", False),
        ("ctc", Settings(target_language="tur"), "ctc_adapter", False),
        ("ctc", Settings(streaming=True), "ctc_streaming", True),
        ("seq2seq", Settings(), "seq2seq", False),
    ],
)
def test_a_model_found_later_brings_its_kind_and_the_scripts_defaults(
    family: Family, config: Settings, kind: Kind, streaming: bool
):
    options = Options(config).for_family(family)
    assert options.kind == kind
    assert options.config.streaming is streaming


def test_what_the_user_gave_overrides_the_default_of_a_kind():
    options = Options(Settings(train_split_name="train+validation"), given=frozenset({"train_split_name"}))
    assert options.for_family("seq2seq").config.train_split_name == "train+validation"


def test_for_family_twice_is_once():
    options = Options(Settings(target_language="tur"), given=frozenset({"target_language"})).for_family("ctc")
    assert options.for_family("ctc") == options


@pytest.mark.parametrize(
    ("family", "given", "message"),
    [
        ("seq2seq", "layerdrop", "--layerdrop is for CTC models; this one is sequence-to-sequence. Leave it out."),
        (
            "seq2seq",
            "hotwords",
            "--hotwords is for CTC models; this one is sequence-to-sequence.",
        ),
        ("transducer", "prompt", "--prompt is for sequence-to-sequence models; this one is a transducer"),
        ("seq2seq", "target_language", "--target_language is for CTC models"),
        ("ctc", "task", "--task is for sequence-to-sequence models; this one is trained with CTC. Leave it out."),
        ("ctc", "adapter_attn_dim", "--adapter_attn_dim is for MMS adapters: give --target_language too"),
        ("ctc", "shuffle_buffer_size", "--shuffle_buffer_size is for streams: give --streaming too"),
    ],
)
def test_an_option_of_other_models_is_named(family: Family, given: str, message: str):
    with pytest.raises(OptionError) as caught:
        Options(Settings(), given=frozenset({given})).for_family(family)
    assert str(caught.value).startswith(message)


def test_generation_options_are_for_models_that_generate():
    options = Options(Settings(), {"generation_num_beams": 4})
    assert options.for_family("seq2seq").training == {"generation_num_beams": 4}
    with pytest.raises(OptionError, match="--generation_num_beams is for sequence-to-sequence models"):
        options.for_family("ctc")


def test_a_script_of_the_other_family_names_the_right_one():
    options = Options(Settings(model_name_or_path="openai/whisper-small"), kind="ctc")
    with pytest.raises(OptionError, match=r"openai/whisper-small .*\nUse run_speech_recognition_seq2seq.py"):
        options.for_family("seq2seq")


def test_an_evaluation_strategy_asks_for_evaluation():
    assert Options(Settings(), {"eval_strategy": "steps"}).do_eval
    assert not Options(Settings(), {"eval_strategy": "no"}).do_eval


def test_the_output_folder_may_start_with_a_tilde(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(Options(Settings(), {"output_dir": "~/out"}).output_dir) == "/home/someone/out"
    assert Options(Settings()).output_dir is None
