"""C8: time to show the help, and to report a misspelt option."""

from __future__ import annotations

import sys
from pathlib import Path

from common import Cost, Result, cost_of, main, run_command

LIMIT_S = 0.3
PEER = (
    "import datasets, torch, transformers; "
    "from transformers import AutoModelForCTC, HfArgumentParser, Trainer, TrainingArguments; "
    "HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(['--help'])"
)


def measure(tiny: bool = False) -> list[Result]:
    command = str(Path(sys.executable).with_name("speechtune"))
    rounds = 1 if tiny else 7

    def costs(*words: str, exit_code: int = 0) -> list[Cost]:
        run_command([command, *words], expect=exit_code)  # files into the page cache
        return [cost_of(lambda: run_command([command, *words], expect=exit_code)) for _ in range(rounds)]

    shown = costs("train", "--help")
    refused = costs("train", "--no_such_option", "1", exit_code=2)
    peer = cost_of(lambda: run_command([sys.executable, "-c", PEER]))
    note = f"a script that imports what the original imports: {peer.wall_s:.1f} s ({peer.cpu_s:.1f} s CPU)"
    return [
        Result("C8", name, LIMIT_S, [c.cpu_s for c in found], [c.wall_s for c in found], unit="s", note=note)
        for name, found in (("train --help", shown), ("a misspelt option is refused", refused))
    ]


if __name__ == "__main__":
    main(measure)
