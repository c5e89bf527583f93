"""C9: a whole run, from the command to the scores: 192 MP3 clips, one epoch, float32."""

from __future__ import annotations

import tempfile
from pathlib import Path

from commands import train_ours, train_peer
from common import Cost, Result, Rounds, base_shaped, lengths_like, main, tiny_ctc, write_corpus

TRAIN_CLIPS, EVAL_CLIPS = 192, 24


def measure(tiny: bool = False) -> list[Result]:
    rounds, num_clips, num_eval = (1, 12, 4) if tiny else (2, TRAIN_CLIPS, EVAL_CLIPS)
    durations_s = lengths_like("cv", num_clips) * (0.5 if tiny else 1.0)
    config = tiny_ctc() if tiny else base_shaped(1)
    measured = Rounds()
    with tempfile.TemporaryDirectory() as folder:
        corpus = write_corpus(Path(folder), durations_s.tolist(), eval_clips=num_eval)
        batches = ("--per_device_train_batch_size", "8", "--num_train_epochs", "1", "--do_eval")
        for _ in range(rounds):
            ours, _ = train_ours(corpus, config, Path(folder) / "ours", *batches)
            peer, _ = train_peer(corpus, config, Path(folder) / "peer", "--evaluate")
            measured.add("ours", Cost(ours.cpu_s, ours.wall_s, 1.0))
            measured.add("peer", Cost(peer.cpu_s, peer.wall_s, 1.0))
    cpu, wall = measured.ratios("ours", "peer")
    ours, peer = measured.costs["ours"][0], measured.costs["peer"][0]
    note = (
        f"ours {ours.cpu_s:.0f} s CPU ({ours.wall_s:.0f} s), peer {peer.cpu_s:.0f} s CPU ({peer.wall_s:.0f} s); "
        "ours also writes its report"
    )
    return [Result("C9", "whole run, 192 clips, one epoch, fp32", 1.8, cpu, wall, note=note)]


if __name__ == "__main__":
    main(measure)
