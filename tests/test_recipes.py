"""Every row of the README's result tables has a recipe, and every recipe trains.

Here two optimiser steps on stand-ins: `speechtune train recipes/x.yaml --max_steps 2`, in this process. The recipes of
the README's commands have their options, word by word; test_readme_commands.py trains those.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from standins.readme_commands import COMMANDS, Words
from standins.running import (
    CUT,
    ROOT,
    Place,
    assert_ctc_loads,
    assert_finished,
    assert_seq2seq_loads,
    session_place,
    warm_start,
)

from speechtune.options.parse import parse_options

README = ROOT.parent / "shared" / "seed" / "speech-recognition-examples.md"
NOT_OURS = {"digits.yaml", "semi-supervised.yaml"}  # and demo*.yaml: recipes of other corpora, tested elsewhere
RECIPES = sorted(
    path for path in (ROOT / "recipes").glob("*.yaml") if path.name not in NOT_OURS and not path.name.startswith("demo")
)
FIELDS = {"title", "readme", "protocol", "processes", "run", "expect", "our_choice", "source", "before"}
CORPORA = {
    ("common_voice", "tr"): "common_voice/tr",
    ("mozilla-foundation/common_voice_3_0", "tr"): "common_voice/tr",
    ("mozilla-foundation/common_voice_3_0", "it"): "common_voice/it",
    ("mozilla-foundation/common_voice_3_0", "sv-SE"): "common_voice/sv-SE",
    ("librispeech_asr", "clean"): "librispeech_asr",
    ("multilingual_librispeech", "german"): "multilingual_librispeech/german",
    ("timit_asr", None): "timit_asr",
    ("mozilla-foundation/common_voice_11_0", "hi"): "common_voice_11_0/hi",
}
# What a command has and its recipe leaves out: where to write and push is the user's, the others do nothing today.
LEFT_OUT = {
    "use_auth_token",
    "output_dir",
    "push_to_hub",
    "overwrite_output_dir",
    "group_by_length",
    "length_column_name",
}
RECIPE_OF = {
    "ctc_single": "common-voice-tr-xlsr-53-1gpu",
    "ctc_multi": "common-voice-tr-xlsr-53-8gpu",
    "ctc_streaming": "common-voice-tr-xls-r-300m-streaming",
    "seq2seq_multi": "librispeech-wav2vec2-bart-base",
    "mms_turkish": "mms-tr",
    "whisper_single": "whisper-small-hi",
}
COMMANDS_ONLY = {"mms-tr", "whisper-small-hi"}  # of commands that stand in no table


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def options_of(path: Path) -> dict[str, str | list[str] | None]:
    """The options as the words that stand in the file."""
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    return {name: value for name, value in content.items() if name != "recipe"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_parses_without_a_remark_and_says_what_to_expect(path: Path):
    options = parse_options([str(path), "--max_steps", "2"])
    assert options.notes == ()
    assert options.do_train and options.do_eval
    assert options.config.protocol == options.recipe_info["protocol"] == "readme"
    assert FIELDS - {"before"} <= options.recipe_info.keys() <= FIELDS
    assert path.stem in str(options.recipe_info["run"]) and path.stem in str(options.output_dir)
    figures = {"wer", "per"} & options.recipe_info["readme"].keys()
    assert len(figures) == 1
    assert set(options.config.eval_metrics) >= figures


@pytest.mark.parametrize("name", RECIPE_OF)
def test_the_recipe_of_a_command_has_its_options(name: str):
    (command,) = (command for command in COMMANDS if command.name == name)
    recipe = options_of(ROOT / "recipes" / f"{RECIPE_OF[name]}.yaml")
    expected: dict[str, Any] = {"protocol": "readme"}
    for option, value in command.options:
        expected[option] = "true" if value is None else list(value) if isinstance(value, Words) else value
    if name == "ctc_streaming":
        expected["streaming"] = "true"  # what calling the streaming script says
    for option in LEFT_OUT:
        expected.pop(option, None)
        recipe.pop(option, None)
    if command.has("model_name_or_path") and command.value("model_name_or_path") == "./":  # the model's own folder
        expected["model_name_or_path"] = recipe["model_name_or_path"]
    assert recipe == expected
    content = load(ROOT / "recipes" / f"{RECIPE_OF[name]}.yaml")
    assert content["recipe"]["processes"] == command.num_processes


def readme_rows() -> list[tuple[str, ...]]:
    """Rows of the README's result tables: section, dataset, config, model, figure, set-up, time."""
    if not README.exists():
        pytest.skip(f"the original README is not beside the project ({README})")
    rows, section = [], ""
    for line in README.read_text(encoding="utf-8").splitlines():
        if line.startswith("####"):
            section = line.strip("# ")
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if not line.startswith("| [") or len(cells) < 8:
            continue
        dataset = _linked(cells[0])[0].removeprefix("datasets/")
        config = re.sub(r"[`\"]", "", cells[1]).replace(" - ", ", ")
        wer, per = cells[3], cells[4]
        figure = f"wer {float(wer)}" if wer != "-" else f"per {float(per)}"
        rows.append((section, dataset, config, " and ".join(_linked(cells[2])), figure, cells[5], cells[6]))
    return rows


def _linked(cell: str) -> list[str]:
    return re.findall(r"\(https://huggingface\.co/(.*?)\)", cell)


def test_every_row_of_the_readmes_tables_has_its_recipe():
    rows = readme_rows()
    ours = []
    for path in RECIPES:
        row = load(path)["recipe"]["readme"]
        if path.stem in COMMANDS_ONLY:
            continue
        figure = f"wer {float(row['wer'])}" if "wer" in row else f"per {float(row['per'])}"
        names = [str(row[key]) for key in ("section", "dataset", "config", "model")]
        ours.append((*names, figure, row["setup"], row["time"]))
    assert len(rows) == 24  # two of them stand there twice
    assert set(rows) == set(ours)
    assert len(ours) == len(set(ours)) == 22


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return session_place(tmp_path_factory)


@pytest.mark.parametrize(
    "path", [path for path in RECIPES if path.stem not in RECIPE_OF.values()], ids=lambda path: path.stem
)
def test_a_recipe_trains_two_steps_scores_and_loads(
    path: Path, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from speechtune.cli.main import main

    recipe = load(path)
    models = recipe["recipe"]["readme"]["model"].split(" and ")
    if "tokenizer_name_or_path" in recipe:
        models.append(recipe["tokenizer_name_or_path"])
    corpus = CORPORA[recipe["dataset_name"], recipe.get("dataset_config_name")]
    place.provide(models=models, corpora=[corpus])
    place.enter(monkeypatch, tmp_path)
    monkeypatch.setenv("SPEECHTUNE_CACHE", str(place.home.parent / "cache"))  # one index for all recipes of a corpus
    seq2seq = "predict_with_generate" in recipe
    if "before" in recipe["recipe"]:
        warm_start(tmp_path / recipe["model_name_or_path"], encoder=models[0], decoder=models[1])
    assert main(["train", str(path), *CUT]) == 0
    folder = tmp_path / recipe["output_dir"]
    assert_finished(folder, metrics=recipe.get("eval_metrics", ["wer"]))
    if seq2seq:
        assert_seq2seq_loads(folder)
    else:
        assert_ctc_loads(folder, target_language=recipe.get("target_language"))
