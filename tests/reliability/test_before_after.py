"""Evaluations before and after, and mixtures of weights, in two processes."""

from __future__ import annotations

from pathlib import Path

from reliability.forks import ForkServer
from reliability.tiny import read_json, read_rows
from starting_models import model_for, with_validation, words, write_corpora

from speechtune.cli.main import main


def test_two_processes_score_each_utterance_once_and_choose_as_one_does(server: ForkServer, tmp_path: Path):
    corpus = with_validation(write_corpora(tmp_path))
    model = model_for(corpus, tmp_path / "model")
    more = ["--interpolate_weights", "0", "1", "--also_evaluate", str(corpus.parent / "second")]
    assert main(words(model, corpus, tmp_path / "one", *more)) == 0
    argv = words(model, corpus, tmp_path / "two", *more)
    argv[argv.index("--per_device_train_batch_size") + 1] = "1"  # the same two utterances a step
    ended = server.start(argv, processes=2).end()
    assert ended.codes == [0, 0], ended.output
    for name, number in (("", 4), ("_second-test", 3)):
        one, two = (read_rows(tmp_path / out / f"baseline_hypotheses{name}.jsonl") for out in ("one", "two"))
        assert one == two and len(two) == number
        assert read_json(tmp_path / "two" / f"eval_results{name}.json")["eval_samples"] == number
    kept = [read_json(tmp_path / out / "interpolation.json")["kept"] for out in ("one", "two")]
    assert kept[0] == kept[1]
