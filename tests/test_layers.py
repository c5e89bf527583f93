"""Imports point down only: what a module may import is decided by its layer."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "speechtune"
LAYERS = [
    {"types", "errors", "config", "options", "arguments"},
    {"audio", "containers", "ffmpeg", "mp3", "screen", "corpora", "text", "metrics"},
    {"machine", "models", "data", "decode"},
    {
        "bad_steps", "checkpoint", "data_state", "display",
        "error_analysis", "report_details", "training_progress", "wording", "evaluate", "export", "findings", "interruption", "doctor", "plots", "processes", "progress", "publish", "report",
        "run_data", "run_folder", "run_output", "run_setup", "session", "model_card", "model_card_text", "hub_repository", "vocab_command", "corpus_check", "doctor_tables", "streaming", "train", "trainer", "transcribe",
    },
    {"compat", "old_names", "option_help", "cache_command", "cli", "__main__", "demo"},
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
