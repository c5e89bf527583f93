"""Option values that make no sense, on the command line and in files of options: refused before anything is loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from reliability.tiny import MODEL

from fuzz.case import Case, Place
from fuzz.commands import any_command, evaluate, train
from fuzz.material import CORPUS, CTC
from fuzz.mutate import NASTY_NUMBERS, NASTY_VALUES, NASTY_WORDS

__all__ = ["make"]

# Compiling takes minutes; a large number of steps is a long training, not a hang.
NOT_VARIED = {"torch_compile", "torch_compile_backend", "torch_compile_mode", "max_steps", "num_train_epochs"}


def make(place: Place, rng: Random) -> Case:
    kind = rng.choices(("words", "file", "model config", "small"), (5, 3, 2, 2))[0]
    corpus = place.material / CORPUS
    if kind == "small":
        return Case([_small_command(place, rng)], check=lambda: _not_finite(place))
    if kind == "model config":
        config: dict[str, Any] = {**MODEL, **{rng.choice(_MODEL_NAMES): rng.choice(NASTY_VALUES) for _ in range(2)}}
        words = [*train(corpus, place), "--model_config", json.dumps(config)]
    elif kind == "file":
        path = _options_file(place, rng)
        words = [rng.choice(("train", "plan", "evaluate", "doctor", "vocab")), str(path)]
        if rng.random() < 0.7:
            words += train(corpus, place)[1:] if words[0] in ("train", "plan") else evaluate(corpus, place)[1:]
    else:
        words = any_command(corpus, place, rng) if rng.random() < 0.4 else train(corpus, place)
        for name, value in _options(rng).items():
            words += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
    if words[0] in ("train", "plan") and rng.random() < 0.9:
        words += ["--max_steps", rng.choice(("1", "1", "1", "2", "-1", "0", "1.5", "-2", "nan"))]
    return Case([words], check=lambda: _not_finite(place))


def _not_finite(place: Place) -> list[str]:
    """A model with a weight that is not finite must never be the result of a training that says it succeeded."""
    path = place.output / "model.safetensors"
    if not path.exists():
        return []
    from safetensors.torch import load_file

    wrong = [name for name, value in load_file(path).items() if not bool(value.isfinite().all())]
    return [f"weights that are not finite: {wrong[0]}"] if wrong else []


def _options(rng: Random) -> dict[str, Any]:
    from speechtune.options.option import own_options
    from speechtune.options.training_arguments import training_options

    table = own_options() | training_options()
    chosen = {}
    for name in rng.sample(sorted(set(table) - NOT_VARIED), rng.randint(1, 3)):
        option = table[name]
        numbers: list[Any] = NASTY_NUMBERS
        fitting = numbers if option.is_number else [True, False] if option.is_switch else list(option.words)
        pool = fitting if fitting and rng.random() < 0.7 else [*NASTY_WORDS, *NASTY_NUMBERS]
        chosen[name] = rng.choice(pool)
    return {name: _plain(value) for name, value in chosen.items()}


def _plain(value: Any) -> Any:
    """Name no folder above the case's own: what the user names may be read."""
    if value in ("../../..", "~"):
        return "deep/er"
    return value.replace("\0", "") if isinstance(value, str) else value


_MODEL_NAMES = [
    *MODEL,
    "conv_stride",
    "conv_kernel",
    "vocab_size",
    "layerdrop",
    "mask_time_length",
    "hidden_act",
    "dtype",
]


def _options_file(place: Place, rng: Random) -> Path:
    path = place.folder / f"options.{rng.choice(('json', 'yaml', 'yml'))}"
    kind = rng.choice(("options", "options", "options", "bytes", "aliases", "deep", "digits", "special", "surrogate"))
    if kind == "options":
        content: Mapping[str, Any] = {
            **_options(rng),
            rng.choice(("seed", "nope", "", "token")): rng.choice(NASTY_VALUES),
        }
        path.write_text(json.dumps(content))
    elif kind == "bytes":
        path.write_bytes(
            rng.choice((b"\xff\xfe", b"\0", b"[]", b"3", b"- a\n- b", b"a: !!python/object:os.system x", b"{", b""))
        )
    elif kind == "aliases":
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, rng.choice((3, 9, 12)))]
        path.write_text("\n".join(lines))
    elif kind == "deep":
        path.write_text('{"model_config": ' + "[" * 100_000)
    elif kind == "digits":
        path.write_text(json.dumps({"seed": 1}).replace("1", "9" * 5000))
    elif kind == "surrogate":
        path.write_text('{"language": "\\ud800", "\\udfff": 1}')
    elif rng.random() < 0.5:
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    return path


def _small_command(place: Place, rng: Random) -> list[str]:
    """A command with few options of its own, with odd words."""
    words = [word for word in NASTY_WORDS if "\0" not in word]
    word, model = _plain(rng.choice(words)), str(place.material / CTC)
    clip = str(place.material / CORPUS / "test" / "000.wav")
    return rng.choice(
        [
            *(["transcribe", word, clip], ["transcribe", model, word], ["transcribe", model, clip, "--language", word]),
            *(
                ["transcribe", model, clip, "--encoder_context", word],
                ["transcribe", model, clip, "--target_language", word],
            ),
            *(["report", word or "x"], ["report", str(place.folder)], ["export", word, "--output_dir", "new"]),
            *(
                ["export", model, "--output_dir", word or "x"],
                ["export", model, "--output_dir", "new", "--dtype", word],
            ),
            *(
                ["push", model, "--hub_model_id", word],
                ["push", str(place.folder)],
                ["push", model, "--hub_token", word],
            ),
            *(["warmstart", "--encoder", word, "--decoder", model, "--output_dir", "new"], [word], ["cache", word]),
            *(["cache", "--clear", word], ["cache", "--clear", "all"], ["cache", "--cache_dir", word], ["transcribe"]),
        ]
    )
