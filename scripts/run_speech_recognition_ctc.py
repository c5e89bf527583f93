#!/usr/bin/env python
"""Fine-tune a model with CTC: the options of the original script of this name, or a .json or .yaml file of them.

With --target_language it trains MMS adapters, as the README's commands expect. `--help` lists the options. It runs
`speechtune train`.
"""

from speechtune.cli.main import run_script

if __name__ == "__main__":
    raise SystemExit(run_script("ctc"))
