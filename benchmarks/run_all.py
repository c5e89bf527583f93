"""All comparisons with the original scripts, one after the other, and the table in docs/performance.md.

`make bench` runs this: about 15 minutes on two idle cores. `--only c1 c5` measures a part and keeps the other rows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import Result, spread
from page import write_table

HERE = Path(__file__).parent
ROWS = HERE / "results.json"
SCRIPTS = ("c1_ctc_step", "c2_grouped", "c3_bf16", "c4_whisper_step", "c5_first_step", "c6_reading", "c7_evaluation",
           "c8_start_up", "c9_whole_run")  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", default=[], help="c1 c2 ...")
    parser.add_argument("--tiny", action="store_true", help="a quick check; nothing is written")
    args = parser.parse_args()
    chosen = [name for name in SCRIPTS if not args.only or name.split("_")[0] in args.only]
    rows: dict[str, Any] = {} if args.tiny or not ROWS.exists() else json.loads(ROWS.read_text("utf-8"))
    failed = []
    began_s = time.time()
    for name in chosen:
        found = _run(name, tiny=args.tiny)
        if found is None:
            failed.append(name)
            continue
        rows[name] = {"results": found, "date": time.strftime("%Y-%m-%d"), "load": round(os.getloadavg()[0], 1)}
        if not args.tiny:
            ROWS.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    if not args.tiny:
        write_table("goals", _table(rows))
    print(f"{time.time() - began_s:.0f} s; {'failed: ' + ', '.join(failed) if failed else 'all ran'}")
    return 1 if failed else 0


def _run(name: str, *, tiny: bool) -> list[dict[str, Any]] | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json"
        command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(path), *(["--tiny"] if tiny else [])]
        began_s = time.time()
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
        print(f"{name}: {time.time() - began_s:.0f} s", flush=True)
        return json.loads(path.read_text("utf-8")) if done.returncode == 0 else None


def machine_line() -> str:
    """Return CPU, cores, and the speed of its matrix products, which limits the ratio of a step."""
    import torch

    torch.set_num_threads(1)
    speeds = []
    for name, precision, dtype in (
        ("stock float32", "highest", torch.float32),
        ("oneDNN float32", "medium", torch.float32),
        ("bf16", "highest", torch.bfloat16),
    ):
        torch.set_float32_matmul_precision(precision)
        values, weight = torch.randn(2000, 768, dtype=dtype), torch.randn(3072, 768, dtype=dtype)
        seconds = []
        for _ in range(20):
            start_s = time.process_time()
            torch.nn.functional.linear(values, weight)
            seconds.append(time.process_time() - start_s)
        speeds.append(f"{name} {2 * 2000 * 768 * 3072 / min(seconds) / 1e9:.0f}")
    facts: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        facts.setdefault(line.partition(":")[0].strip(), line.partition(":")[2].strip())
    model = facts.get("model name", platform.machine())
    if "cpu family" in facts:  # a virtual machine's CPU name says little
        model += f" (family {facts['cpu family']}, model {facts['model']})"
    cores = len(os.sched_getaffinity(0))
    return (
        f"{model}, {cores} cores; matrix products on one core, GFLOP/s: {', '.join(speeds)}; torch {torch.__version__}"
    )


def _table(rows: dict[str, Any]) -> str:
    lines = [
        f"Machine: {machine_line()}.",
        "",
        "| goal | what | ratio by CPU seconds: median (min to max) | by wall time | goal | met | got worse | notes "
        "| load |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in SCRIPTS:
        for row in rows.get(name, {}).get("results", []):
            result = Result(**row)
            unit = "" if result.unit == "x" else f" {result.unit}"
            sign = "≥" if result.unit == "x" else "≤"
            cells = [
                result.goal,
                result.what,
                spread(result.cpu) + unit,
                spread(result.wall) + unit if result.wall else "",
                f"{sign} {result.target:g}{unit}",
                "yes" if result.met else "**no**",
                result.worse or "nothing",
                result.note,
                f"{rows[name]['load']} ({rows[name]['date']})",
            ]
            lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
