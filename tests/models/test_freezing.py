"""Weights are frozen by parts of their names; a pattern that names nothing is an error with the nearest names."""

from __future__ import annotations

import pytest
from tiny_families import tiny_model

from speechtune.errors import OptionError
from speechtune.models.freezing import freeze_by_name


def frozen(*patterns: str) -> set[str]:
    model = tiny_model("wav2vec2 layer norm")
    freeze_by_name(model, patterns)
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def test_a_range_of_layers():
    first, both = frozen("encoder.layers.[0-0]"), frozen("encoder.layers.[0-11]")
    assert first and all(".encoder.layers.0." in name for name in first)
    assert {name.split(".layers.")[1][0] for name in both} == {"0", "1"} and first < both


def test_names_match_whole_parts_anywhere():
    assert frozen("lm_head") == {"lm_head.weight", "lm_head.bias"}
    assert frozen("layers.1.attention.*_proj.bias") == {
        f"wav2vec2.encoder.layers.1.attention.{name}_proj.bias" for name in ("k", "v", "q", "out")
    }
    assert frozen("lm_head", "layers.*.final_layer_norm") == frozen("lm_head") | frozen("final_layer_norm")


@pytest.mark.parametrize(
    ("pattern", "close"),
    [
        ("encoder.layer.[0-1]", "Close: encoder.layers.[0-1]"),
        ("encoder.layers.[7-9]", "Close: encoder.layers.[0-1]"),
        ("lm_heads", "Close: lm_head"),
        ("zzz", "Close: lm_head, wav2vec2."),
        ("", "no weight has such a name"),
        ("encoder.layers.[0-999999999999].fc", "no weight has such a name"),
    ],
)
def test_what_names_nothing_is_an_error_with_the_nearest_names(pattern: str, close: str):
    with pytest.raises(OptionError) as error:
        frozen(pattern)
    assert close in str(error.value)


def test_something_must_be_left_to_train():
    with pytest.raises(OptionError, match="nothing is left to train"):
        frozen("wav2vec2", "lm_head")
