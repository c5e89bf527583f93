"""Reading an output folder, complete or not."""

from __future__ import annotations

import json

import evaluations

from speechtune.reporting.run_folder import read_run


def write_json(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_a_folder_without_a_run_is_empty(tmp_path):
    assert read_run(tmp_path / "nowhere").is_empty and read_run(tmp_path).is_empty


def test_results_and_hypotheses_are_paired_by_suffix_and_the_one_without_comes_first(tmp_path):
    write_json(tmp_path, "eval_results.json", {"split": "test", "eval_wer": 0.125})
    evaluations.write(tmp_path, evaluations.hypothesis("a", "a", "b"), suffix="_unseen_voice")
    first, second = read_run(tmp_path).evaluations
    assert (first.name, first.hypotheses, first.score("wer")) == ("test", [], {"rate": 0.125})
    assert (second.name, [row.hypothesis for row in second.hypotheses]) == ("unseen voice", ["b"])


def test_a_line_that_a_kill_cut_short_is_skipped(tmp_path):
    (tmp_path / "bad_steps.jsonl").write_text('{"step": 1}\n{"ste')
    assert read_run(tmp_path).bad_steps == [{"step": 1}]


def test_a_run_cut_short_gives_the_state_of_its_newest_checkpoint(tmp_path):
    for step in (90, 100, 1000):
        write_json(
            tmp_path, f"checkpoint-{step}/trainer_state.json", {"global_step": step, "log_history": [{"step": step}]}
        )
    run = read_run(tmp_path)
    assert (run.state["global_step"], run.log_history) == (1000, [{"step": 1000}])


def test_settings_are_flattened_and_secrets_hidden(tmp_path):
    settings = {
        "options": {
            "hub_token": "abc",
            "unk_token": "[UNK]",
            "note": "use hf_abcdefghijklmnopqrst here",
            "use_auth_token": True,
        },
        "model": {"type": "wav2vec2"},
        "plan": {"family": "ctc", "settings": {"seed": 1, "api_key": "abc"}, "training_arguments": {"bf16": True}},
    }
    write_json(tmp_path, "settings.json", settings)
    assert read_run(tmp_path).resolved == {"seed": 1, "api_key": "(hidden)", "bf16": True}
    assert read_run(tmp_path).settings == {
        "hub_token": "(hidden)",
        "unk_token": "[UNK]",
        "note": "use (hidden) here",
        "use_auth_token": True,
        "model.type": "wav2vec2",
    }


def test_nan_in_the_log_history_is_kept_as_nan(tmp_path):
    (tmp_path / "trainer_state.json").write_text('{"log_history": [{"step": 1, "loss": NaN}]}')
    (entry,) = read_run(tmp_path).log_history
    assert entry["loss"] != entry["loss"]
