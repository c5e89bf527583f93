"""Imports point down only: what a module may import is decided by its layer."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "speechtune"
LAYERS = [
    {
        "arguments", "config", "errors", "options", "types",
    },
    {
        "audio", "containers", "corpora", "ffmpeg", "metrics", "mp3", "pcm", "screen", "text",
    },
    {
        "data", "decode", "machine", "models",
    },
    {
        "bad_steps", "checkpoint", "corpus_check", "data_state", "display", "doctor", "doctor_tables",
        "error_analysis", "evaluate", "export", "findings", "hub_repository", "interruption", "model_card",
        "model_card_text", "plots", "processes", "progress", "publish", "report", "report_details", "run_data",
        "resuming_trainer", "run_folder", "run_output", "run_setup", "session", "streaming", "train", "trainer",
        "training_progress", "transcribe", "vocab_command", "wording",
    },
    {
        "__main__", "cache_command", "cli", "compat", "demo", "old_names", "option_help",
    },
]  # fmt: skip
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("speechtune."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "speechtune":
            names.update(alias.name for alias in node.names if alias.name in LAYER)
        elif isinstance(node, ast.Import):
            names.update(alias.name.split(".")[1] for alias in node.names if alias.name.startswith("speechtune."))
    return names


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down_only(path):
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    assert room in LAYER, f"{room}: give it a layer in {__file__}"
    upwards = {name for name in imports(path) if LAYER[name] > LAYER[room]}
    assert not upwards, f"{room} (layer {LAYER[room]}) imports upwards: {sorted(upwards)}"
