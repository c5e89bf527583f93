#!/usr/bin/env python
"""Train MMS attention adapters for one language: the options of the original script, or a .json or .yaml file of them.

Everything but the adapters and the output layer stays as it is; they are saved as adapter.LANGUAGE.safetensors.
"""

from speechtune.cli.main import run_script

if __name__ == "__main__":
    raise SystemExit(run_script("ctc_adapter"))
