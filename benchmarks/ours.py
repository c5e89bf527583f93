"""The `speechtune` command, with a record of when the first step was done (see peer.note_first_step)."""

from __future__ import annotations

import sys


def main() -> int:
    from speechtune.plan.hardware import set_up_libraries

    set_up_libraries()  # as in the command, before anything loads torch
    from peer import note_first_step
    from transformers import trainer

    from speechtune.cli.main import main as speechtune

    callback = note_first_step()
    trainer.DEFAULT_CALLBACKS.append(type(callback))
    return int(speechtune(sys.argv[1:]) or 0)


if __name__ == "__main__":
    sys.exit(main())
