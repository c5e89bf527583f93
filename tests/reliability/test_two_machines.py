"""Two machines, as torchrun sees them: two agents that meet at a rendezvous, here both on loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from reliability.tiny import losses, read_json, run, words, write_corpus


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_agents_train_as_one_process_does(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    calm = ["--mask_time_prob", "0", "--num_train_epochs", "1", "--do_eval", "--save_strategy", "no"]
    assert run(*words(corpus, tmp_path / "alone", *calm)) == 0
    output = tmp_path / "together"
    argv = words(corpus, output, *calm)
    argv[argv.index("--per_device_train_batch_size") + 1] = "1"  # the same two utterances a step
    endpoint = f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    agents = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1"),
                *(
                    "--rdzv_id",
                    "test",
                    "--rdzv_backend",
                    "c10d",
                    "--rdzv_endpoint",
                    endpoint,
                    "--node_rank",
                    str(number),
                ),
                *("-m", "speechtune", "train", *argv),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(2)
    ]
    outputs = [agent.communicate(timeout=200)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], "\n".join(outputs)
    pairs = zip(losses(tmp_path / "alone"), losses(output), strict=True)
    assert max(abs(ours - theirs) for ours, theirs in pairs) < 1e-5
    assert read_json(output / "eval_results.json")["eval_samples"] == 4
