"""Reading an output folder, whole or torn."""

from __future__ import annotations

import json

import pytest

from speechtune.errors import OutputError
from speechtune.reporting.run_folder import read_run
from speechtune.types import EditCounts


def write(folder, name, *rows):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_a_missing_folder_says_what_to_give(tmp_path):
    with pytest.raises(OutputError, match=r"no such folder\.\nGive the --output_dir"):
        read_run(tmp_path / "nowhere")


def test_a_folder_without_a_run_says_what_was_looked_for(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(OutputError, match=r"nothing of a run lies here.\nLooked for eval_results.json"):
        read_run(tmp_path)


def test_results_and_hypotheses_are_paired_by_suffix_and_the_one_without_comes_first(tmp_path):
    write(tmp_path, "eval_results.json", {"split": "test"})
    write(tmp_path, "eval_results_unseen_voice.json", {"split": "unseen_voice"})
    write(tmp_path, "hypotheses_unseen_voice.jsonl", {"reference": "a", "hypothesis": "b"})
    first, second = read_run(tmp_path).evaluations
    assert (first.name, first.rows) == ("test", [])
    assert (second.name, [row.hypothesis for row in second.rows]) == ("unseen voice", ["b"])


def test_counts_missing_from_a_row_are_counted(tmp_path):
    write(tmp_path, "hypotheses.jsonl", {"id": "1", "reference": "ab c", "hypothesis": "ab d"})
    (row,) = read_run(tmp_path).evaluations[0].rows
    assert (row.words, row.characters) == (EditCounts(1, 1), EditCounts(3, 1))


def test_score_falls_back_from_results_to_rows_to_the_bare_rate(tmp_path):
    words = {"hits": 3, "substitutions": 1, "deletions": 0, "insertions": 0}
    row = {"reference": "a", "hypothesis": "a", "words": words, "characters": words}
    write(tmp_path, "hypotheses_rows.jsonl", row)
    write(tmp_path, "hypotheses_full.jsonl", row)
    write(tmp_path, "eval_results_full.json", {"scores": {"wer": {"rate": 0.5}}})
    write(tmp_path, "eval_results_rate.json", {"eval_wer": 0.125})
    scores = {e.name: e.score("wer") for e in read_run(tmp_path).evaluations}
    assert scores == {"full": {"rate": 0.5}, "rows": {"rate": 0.25, **words}, "rate": {"rate": 0.125}}


def test_torn_files_are_noted_and_the_rest_is_read(tmp_path):
    (tmp_path / "eval_results.json").write_text('{"eval_wer": 0.')
    (tmp_path / "skipped.jsonl").write_text('{"reason": "too_long"}\n[1]\n{"reas')
    (tmp_path / "hypotheses.jsonl").write_text('{"reference": "a"}\n{"reference": "a", "hypothesis": "a"}\n')
    run = read_run(tmp_path)
    assert [row["reason"] for row in run.skipped] == ["too_long"]
    assert len(run.evaluations[0].rows) == 1
    assert [note.split(":")[0] for note in run.notes] == ["eval_results.json", "hypotheses.jsonl", "skipped.jsonl"]
    assert "2 torn or foreign lines" in run.notes[2]


def test_bytes_that_are_no_utf8_do_not_stop_the_reading(tmp_path):
    (tmp_path / "hypotheses.jsonl").write_bytes(b'{"reference": "a\xff", "hypothesis": "a"}\n')
    assert read_run(tmp_path).evaluations[0].rows[0].reference == "a�"


def test_a_run_cut_short_gives_the_state_of_its_newest_checkpoint(tmp_path):
    for step in (90, 100, 1000):
        write(tmp_path, f"checkpoint-{step}/trainer_state.json", {"global_step": step, "log_history": [{"step": step}]})
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
    }
    write(tmp_path, "settings.json", settings)
    assert read_run(tmp_path).settings == {
        "hub_token": "(hidden)",
        "unk_token": "[UNK]",
        "note": "use (hidden) here",
        "use_auth_token": True,
        "model.type": "wav2vec2",
    }


def test_all_text_is_made_visible_on_reading(tmp_path):
    write(tmp_path, "hypotheses.jsonl", {"id": "\x1b]0;x", "reference": "a\u202eb", "hypothesis": "\x00"})
    (row,) = read_run(tmp_path).evaluations[0].rows
    assert (row.id, row.reference, row.hypothesis) == ("[U+001B]]0;x", "a[U+202E]b", "[U+0000]")


def test_nan_in_the_log_history_is_kept_as_nan(tmp_path):
    (tmp_path / "trainer_state.json").write_text('{"log_history": [{"step": 1, "loss": NaN}]}')
    (entry,) = read_run(tmp_path).log_history
    assert entry["loss"] != entry["loss"]
