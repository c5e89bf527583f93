"""`--lora` alone, with some of its parts, and what it does not take."""

from __future__ import annotations

import pytest

from speechtune.errors import OptionError
from speechtune.options.lora import Lora, read_lora
from speechtune.options.parse import parse_options

BEGIN = ["--model_name_or_path", "m", "--dataset_name", "d", "--output_dir", "o"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (False, None),
        (True, Lora(r=32, alpha=64)),
        ("r=8", Lora(r=8, alpha=16)),
        ("alpha=8, dora", Lora(r=32, alpha=8, dora=True)),
        ("r=4,alpha=4,targets=q_proj+fc1", Lora(r=4, alpha=4, targets=("q_proj", "fc1"))),
        ("targets=auto", Lora()),
    ],
)
def test_parts_that_are_not_given_have_defaults(given: bool | str, meant: Lora | None):
    assert read_lora(given) == meant
    assert meant is None or read_lora(str(meant)) == meant


@pytest.mark.parametrize(
    "given", ["16", "r=", "r=x", "r=-1", "r=5000", "alpha=0.5", "targets=", "targets=a+", "dora=1"]
)
def test_anything_else_is_an_error(given: str):
    with pytest.raises(OptionError, match=r"^--lora: "):
        parse_options([*BEGIN, "--lora", given])


def test_it_is_a_switch_too():
    assert parse_options([*BEGIN, "--lora"]).config.lora is True
    assert parse_options([*BEGIN, "--no_lora"]).config.lora is False
    assert parse_options([*BEGIN, "--lora", "r=8"]).config.lora == "r=8"
