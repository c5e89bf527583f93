"""Scaling with the corpus: 1, 10 and 100 hours, a tiny model, a few steps.

The recordings are a few hundred MP3 files under new names (hard links), so that each is indexed and decoded again. Each
size starts with an empty cache. Measured are the time until the end of the first step, wall and CPU, the index's share
of it, memory, and disk space after the steps.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from commands import folder_bytes, train_ours
from common import Cost, cost_of, lengths_like, run_command, tiny_ctc, write_corpus
from page import write_table

HOURS = (1.0, 10.0, 100.0)
CLIPS_AN_HOUR = 720
STEPS = 5
INDEX = """
import json, resource, sys, time
start_s = time.perf_counter()
from speechtune.corpora import open_corpus
table = open_corpus(sys.argv[1], None, cache_dir=sys.argv[2]).read("train", text_column="sentence", progress=False)
print(json.dumps({"seconds": time.perf_counter() - start_s, "clips": len(table)}))
"""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hours", type=float, nargs="*", default=list(HOURS))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "scaling.json")
    parser.add_argument("--no_table", action="store_true")
    args = parser.parse_args()
    rows = []
    for hours in args.hours:
        rows.append(measure(hours))
        print(json.dumps(rows[-1]), flush=True)
        args.results.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    if not args.no_table:
        write_table("scaling", table(rows))
    return 0


def measure(hours: float) -> dict[str, Any]:
    """Measure one size with an empty cache, and again with its index cached."""
    num_clips = max(8, int(hours * CLIPS_AN_HOUR))
    durations_s = lengths_like("cv", num_clips)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = write_corpus(folder, durations_s.tolist(), distinct=min(num_clips, 200))
        out = folder / "out"
        steps = ("--max_steps", str(STEPS))
        whole, first = train_ours(corpus, tiny_ctc(), out, *steps)
        memory_mb = json.loads((out / "first_step.json").read_text("utf-8"))["memory_mb"]
        _, again = train_ours(corpus, tiny_ctc(), out, *steps, keep_cache=True)
        outputs: list[str] = []
        command = [sys.executable, "-c", INDEX, str(corpus), str(folder / "index")]
        index = cost_of(lambda: outputs.append(run_command(command, SPEECHTUNE_CACHE=str(folder / "index"))))
        return {
            "hours": hours,
            "clips": num_clips,
            "first_step": _row(first),
            "first_step_indexed": _row(again),
            "index": _row(index),
            "memory_mb": memory_mb,
            "index_mb": folder_bytes(folder / "index") / 1e6,
            "audio_cache_mb": folder_bytes(out / "cache" / "audio") / 1e6,
            "whole": _row(whole),
        }


def _row(cost: Cost) -> dict[str, float]:
    return {"cpu_s": round(cost.cpu_s, 2), "wall_s": round(cost.wall_s, 2)}


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"A tiny CTC model, {STEPS} steps; times are CPU seconds (wall time in brackets).",
        "",
        "| corpus | clips | index alone | time to first step | the same, index there | memory at the first step "
        f"| index on disk | audio cache after {STEPS} steps |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        times = [
            f"{row[k]['cpu_s']:.1f} s ({row[k]['wall_s']:.1f} s)" for k in ("index", "first_step", "first_step_indexed")
        ]
        sizes = [f"{row[key]:,.1f} MB" for key in ("memory_mb", "index_mb", "audio_cache_mb")]
        lines.append("| " + " | ".join([f"{row['hours']:g} h", f"{row['clips']:,}", *times, *sizes]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
