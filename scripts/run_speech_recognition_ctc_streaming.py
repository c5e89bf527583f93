#!/usr/bin/env python
"""Fine-tune a model with CTC on a stream: the options of the original script, or a .json or .yaml file of them.

The length of a stream is unknown, so --max_steps and an existing tokenizer are needed (`speechtune vocab` makes one).
"""

from speechtune.cli.main import run_script

if __name__ == "__main__":
    raise SystemExit(run_script("ctc_streaming"))
