"""Folders import downwards only: ROOMS lists them bottom to top, and a room may import those before it."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "speechtune"
ROOMS = [
    "errors", "types", "files", "distributed",
    "terminal", "options", "audio", "text", "corpora", "models", "data", "decoding", "evaluation",
    "reporting", "publishing", "plan", "training", "doctor", "demo", "cli", "__main__",
]  # fmt: skip


def rooms_imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("speechtune."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "speechtune":
            names.update(alias.name for alias in node.names if alias.name in ROOMS)
        elif isinstance(node, ast.Import):
            names.update(alias.name.split(".")[1] for alias in node.names if alias.name.startswith("speechtune."))
    return names


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_folders_import_downwards_only(path):
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    assert room in ROOMS, f"{room}: give it a place in {__file__}"
    upwards = {name for name in rooms_imported(path) if ROOMS.index(name) > ROOMS.index(room)}
    assert not upwards, f"{room} imports upwards: {sorted(upwards)}"


def test_at_most_six_modules_stand_beside_the_packages():
    assert len(list(SOURCE.glob("*.py"))) <= 6


def modules_imported(path: Path, modules: set[str]) -> set[str]:
    """Modules of speechtune that a file imports anywhere, also within functions, but not for types only."""
    tree = ast.parse(path.read_text("utf-8"))
    types_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and (node.module or "").startswith("speechtune")
            and id(node) not in types_only
        ):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & modules) or ({str(node.module)} & modules)
    return found


def test_no_modules_import_each_other_in_a_circle():
    paths = {
        ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts): path for path in sorted(SOURCE.rglob("*.py"))
    }
    graph = {name: modules_imported(path, set(paths)) for name, path in paths.items()}
    order = graphlib.TopologicalSorter(graph)
    order.prepare()  # raises CycleError, which names the circle
    assert order.is_active()
