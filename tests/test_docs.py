"""What the pages say holds: links lead somewhere, options and recipes are all there, commands are understood."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from speechtune.cli import main as cli
from speechtune.options.option import own_options
from speechtune.options.parse import parse_options
from speechtune.options.table import Kind

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SCRIPT = re.compile(r"(?:scripts/)?run_speech_recognition_(ctc|ctc_streaming|ctc_adapter|seq2seq)\.py")


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Its headings, as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
        found += [(str(page.relative_to(ROOT)), target) for target in targets if "://" not in target]
    return sorted(set(found))


@pytest.mark.parametrize(("page", "target"), links())
def test_every_link_leads_somewhere(page: str, target: str):
    path, _, anchor = target.partition("#")
    file = (ROOT / page).parent / path if path else ROOT / page
    assert file.exists()
    assert not anchor or anchor in anchors(file)


def test_every_page_is_reachable_from_the_readme():
    linked = {target.partition("#")[0] for page, target in links() if page == "README.md"}
    assert {str(page.relative_to(ROOT)) for page in PAGES} - linked == {"README.md"}


@pytest.mark.parametrize("option", own_options().values(), ids=lambda option: option.name)
def test_every_option_stands_in_the_docs_with_its_default(option: Any):
    default = option.default
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    cell = "" if default in (None, "", False) else f"`{shown}`".replace("|", "\\|")
    assert f"\n| `--{option.name}` | {cell} |" in (ROOT / "docs/options.md").read_text("utf-8"), (
        "run: python docs/generate.py"
    )


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_stands_in_the_docs(path: Path):
    assert f"](../recipes/{path.name})" in (ROOT / "docs/recipes.md").read_text("utf-8"), "run: python docs/generate.py"


def commands() -> Iterator[tuple[str, str]]:
    """Every command in the shell blocks of the pages."""
    for page in PAGES:
        for block in re.findall(r"^```sh\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if re.search(r"\bspeechtune\b|run_speech_recognition_", line):
                    yield page.name, " ".join(line.split())


def understood(words: list[str]) -> int:
    """The exit code of a command of which nothing but its words is looked at."""
    for i, word in enumerate(words):
        script = SCRIPT.fullmatch(word)
        if script:
            kind: Kind = script[1]  # type: ignore[assignment]
            parse_options(words[i + 1 :], command="script", kind=kind)
            return 0
        if word == "speechtune":
            return cli.main(words[i + 1 :])
    raise AssertionError("no command of ours")


@pytest.fixture
def only_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands are understood, but not carried out, in a folder that has the recipes and a run."""
    monkeypatch.setattr(cli, "_call", lambda target, *args, **kwargs: 0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(("page", "command"), sorted(set(commands())))
def test_every_command_in_the_docs_is_understood(page: str, command: str, only_words: Path):
    assert understood(shlex.split(command)) == 0


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_a_recipe_says_of_its_run_is_understood(path: Path, only_words: Path):
    block = yaml.safe_load(path.read_text("utf-8")).get("recipe", {})
    for command in filter(None, (block.get("before"), block.get("run"))):
        assert understood(shlex.split(command)) == 0


def test_the_slurm_file_starts_torchrun_on_each_machine_and_requeues_when_the_time_is_up(only_words: Path):
    """srun, scancel and scontrol are stand-ins: they write down what they are told."""
    programs = only_words / "bin"
    programs.mkdir()
    for name, does in {
        "srun": 'echo "$@" > srun; kill -USR1 $PPID; while [ ! -e scancel ]; do sleep 0.05; done; exit 143',
        "scancel": 'echo "$@" > scancel',
        "scontrol": '[ "$1" = show ] && printf "node1\\nnode2\\n" || echo "$@" > requeue',
    }.items():
        (programs / name).write_text(f"#!/bin/bash\n{does}\n")
        (programs / name).chmod(0o755)
    slurm = {
        "SLURM_JOB_ID": "77", "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "4", "SLURM_JOB_NODELIST": "node[1-2]",
    }  # fmt: skip
    recipe = "recipes/common-voice-tr-xlsr-53-8gpu.yaml"
    done = subprocess.run(
        ["bash", str(ROOT / "docs/slurm.sbatch"), recipe, "--output_dir", "/shared/tr"],
        env={"PATH": f"{programs}:/usr/bin:/bin", **slurm},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (143, "")
    started = (only_words / "srun").read_text().split()
    assert started[:5] == ["torchrun", "--nnodes", "2", "--nproc_per_node", "4"]
    assert started[started.index("--rdzv_endpoint") + 1].startswith("node1:")
    assert understood(started) == 0
    assert (only_words / "scancel").read_text() == "--signal=TERM 77\n"
    assert (only_words / "requeue").read_text() == "requeue 77\n"
