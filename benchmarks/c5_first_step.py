"""C5: time from the command to the end of the first training step, on 10 hours without any cache."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from commands import folder_bytes, train_ours, train_peer
from common import Result, cost_of, lengths_like, main, run_command, tiny_ctc, write_corpus

HOURS = 10.0
IMPORTS = "import speechtune.training.run, speechtune.training.trainer; from transformers import Wav2Vec2ForCTC"
DISTINCT = 200


def measure(tiny: bool = False) -> list[Result]:
    hours = 0.02 if tiny else HOURS
    durations_s = lengths_like("cv", int(hours * 720))[: int(hours * 720)]
    with tempfile.TemporaryDirectory() as folder:
        corpus = write_corpus(Path(folder), durations_s.tolist(), distinct=DISTINCT)
        config = tiny_ctc()
        ours = [
            train_ours(corpus, config, Path(folder) / "ours", "--max_steps", "1")[1] for _ in range(1 if tiny else 3)
        ]
        ours_bytes = folder_bytes(Path(folder) / "ours" / "cache")
        _, peer = train_peer(corpus, config, Path(folder) / "peer", "--max_steps", "1")
        peer_bytes = folder_bytes(Path(folder) / "peer" / "cache")
    start = cost_of(lambda: run_command([sys.executable, "-c", IMPORTS]))
    note = (
        f"ours {min(c.cpu_s for c in ours):.1f} s CPU ({min(c.wall_s for c in ours):.1f} s wall), peer "
        f"{peer.cpu_s:.0f} s CPU ({peer.wall_s:.0f} s wall); on disk by then {ours_bytes / 1e6:.0f} MB against "
        f"{peer_bytes / 1e6:.0f} MB; one run of the peer, three of ours; before reading anything ours takes "
        f"{start.cpu_s:.1f} s CPU, nearly all to import transformers and torch"
    )
    worse = "epoch 1 decodes as it goes"
    cpu, wall = [peer.cpu_s / c.cpu_s for c in ours], [peer.wall_s / c.wall_s for c in ours]
    return [Result("C5", f"time to the first step, {hours:g} h of MP3", 20.0, cpu, wall, worse=worse, note=note)]


if __name__ == "__main__":
    main(measure)
