#!/usr/bin/env python
"""Fine-tune Whisper or an encoder-decoder: the options of the original script of this name, or a .json or .yaml file.

`--help` lists the options; what runs is `speechtune train`.
"""

from speechtune.cli.main import run_script

if __name__ == "__main__":
    raise SystemExit(run_script("seq2seq"))
