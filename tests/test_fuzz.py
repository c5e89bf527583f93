"""`make fuzz` in short, and proof that its watch sees what it counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

MISBEHAVING = """
import json, os, sys, time
from pathlib import Path
import fuzz.run
import fuzz.process as process
import speechtune.cli.main
import speechtune.data.dataset
from fuzz.case import Case, Place

def run(words):
    what, path = words
    if what == "open":
        open(path).close()
    if what == "open in C":
        os.system(f"cat '{path}' > /dev/null")
    if what == "hang":
        time.sleep(60)
    if what == "grow":
        memory = bytearray(b"x") * 300_000_000
        time.sleep(1)
    if what == "raise":
        raise KeyError("oops")
    if what == "abort":
        os.abort()
    if what == "escape":
        print("\\x1b[31mred")
    return 2 if what in ("refuse", "silent") and (what == "silent" or print("no such file") is None) else 0

speechtune.cli.main.main = run
process.LIMIT_S, process.LIMIT_BYTES = 3, 200_000_000
os.environ["HF_HOME"] = sys.argv[1]
found = {}
for what in ("result", "refuse", "open", "open in C", "hang", "grow", "raise", "abort", "escape", "silent", "rows"):
    place = Place(Path(sys.argv[1]) / what / "case", Path(sys.argv[1]) / what / "outside", Path(sys.argv[1]))
    rows = 3 if what == "rows" else None
    make = lambda place, rng: Case([[what, str(place.outside / "secret.txt")]], rows=rows)
    running = process.Running(what, make, 0, 0, place)
    while (ended := running.poll()) is None:
        time.sleep(0.01)
    found[what] = sorted(ended.findings)
print(json.dumps(found))
"""


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *argv], cwd=ROOT, capture_output=True, text=True, timeout=230)


def test_a_few_cases_of_each_kind_end_in_results_or_refusals(tmp_path: Path):
    ended = run(
        "-m", "fuzz.run", "--quick", "--cases", "1", "--seconds", "20", "--jobs", "1", "--output_dir", str(tmp_path)
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    counts = dict(line.rsplit(maxsplit=1) for line in ended.stdout.splitlines()[1:])
    assert int(counts["  results"]) > 1 and int(counts["  refusals with a message"]) > 1


def test_every_kind_of_misbehaviour_is_counted(tmp_path: Path):
    """It would say little that nothing was found if nothing could be."""
    ended = run("-c", MISBEHAVING, str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {
        "result": [],
        "refuse": [],
        "open": ["files opened outside"],
        "open in C": ["files opened outside"],
        "hang": ["hangs"],
        "grow": ["growth over 2 GB"],
        "raise": ["tracebacks"],
        "abort": ["tracebacks"],
        "escape": ["control characters"],
        "silent": ["refusals without a message"],
        "rows": ["rows unaccounted for"],
    }
