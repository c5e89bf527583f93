"""The model card: the hub can read it, people can use it, and nothing in it is markup, a transcript or a secret."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from evaluations import hypothesis

from speechtune.reporting.card_facts import is_hub_name
from speechtune.reporting.model_card import is_generated, model_card, write_model_card
from speechtune.reporting.model_card_text import escaped
from speechtune.reporting.values import last_name

ALIEN = '<script>alert(1)</script> [x](http://evil) | `code` *b*\n# head {{ 7*7 }} \u202e"'
SCORE = {"hits": 70, "substitutions": 20, "deletions": 10, "insertions": 5, "rate": 0.35, "low": 0.3, "high": 0.4}


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def run_folder(folder: Path, *, alien: str = "", **options: Any) -> Path:
    """What a training on Common Voice leaves."""
    protocol = {"name": f"default{alien}", "normalizer": f"lower{alien}", "filters": {}, "skipped": 1, "hash": "ab"}
    write_json(folder / "config.json", {"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"]})
    given = {
        "model_name_or_path": "facebook/wav2vec2-large-xlsr-53",
        "dataset_name": "common_voice",
        "dataset_config_name": "tr",
        "learning_rate": 3e-4,
        "chars_to_ignore": [",", "|", "`", f"[laughter]{alien}"],
        "output_dir": "/home/somebody/secret project/out",
        "hub_token": "hf_abcdefghijklmnopqrstu",
        **options,
    }
    model = {"type": "wav2vec2", "precision": f"bf16 on the CPU{alien}"}
    plan = {"settings": {"seed": 7}}
    write_json(
        folder / "settings.json",
        {"options": given, "protocol": protocol, "model": model, "identity": {"x": 1}, "plan": plan},
    )
    write_json(
        folder / "eval_results.json",
        {
            "dataset": f"common_voice/tr{alien}",
            "split": "test",
            "eval_samples": 25,
            "scores": {"wer": SCORE, "cer": {**SCORE, "rate": 0.1}},
            "protocol": protocol,
        },
    )
    history = [{"step": s, "epoch": s / 10, "loss": 5 / s} for s in range(1, 11)]
    history += [{"step": 10, "epoch": 1.0, "eval_loss": 1.25, "eval_wer": 0.5, "eval_cer": 0.25}]
    history += [{"step": 20, "epoch": 2.0, "eval_loss": float("nan"), "eval_wer": 0.35}]
    write_json(folder / "trainer_state.json", {"global_step": 20, "best_global_step": 20, "log_history": history})
    row = hypothesis("1", "gizli cümle", f"gizli {alien}", file=f"/home/somebody/{alien}")
    write_json(folder / "hypotheses.jsonl", row.as_json())
    skipped = {"split": f"train{alien}", "id": "7", "file": "f", "reason": "too_long", "duration_s": 36.0}
    write_json(folder / "skipped.jsonl", skipped)
    return folder


def metadata(card: str) -> dict[str, Any]:
    import yaml

    return yaml.safe_load(card.split("---\n")[1])


def test_the_hubs_own_reader_finds_scores_and_their_protocol(tmp_path: Path):
    from huggingface_hub import ModelCard

    data = ModelCard(model_card(run_folder(tmp_path / "out"), repo_id="me/tr")).data
    assert (data.language, data.library_name, data.pipeline_tag) == (
        ["tr"],
        "transformers",
        "automatic-speech-recognition",
    )
    assert (data.base_model, data.datasets, data.metrics) == (
        "facebook/wav2vec2-large-xlsr-53",
        ["common_voice"],
        ["wer", "cer"],
    )
    wer, cer = data.eval_results
    assert (wer.metric_type, wer.metric_value, cer.metric_value) == ("wer", 0.35, 0.1)
    assert (wer.dataset_type, wer.dataset_config, wer.dataset_split) == ("common_voice", "tr", "test")
    assert wer.metric_args["protocol"]["name"] == "default"


def test_yaml_repeats_itself_rather_than_refer(tmp_path: Path):
    assert not re.search(r"[&*]id\d", model_card(run_folder(tmp_path / "out")))


def test_no_secret_no_local_folder_and_no_transcript(tmp_path: Path):
    folder = run_folder(tmp_path / "out", dataset_name="/home/somebody/corpus", model_name_or_path="../secret/base")
    card = model_card(folder)
    for word in ("hf_abc", "somebody", "secret", "gizli", str(tmp_path)):
        assert word not in card
    assert "base_model" not in metadata(card)


def test_a_corpus_of_ones_own_is_no_dataset_of_the_hub(tmp_path: Path):
    folder = run_folder(tmp_path / "out", dataset_name="/data/my corpus", dataset_config_name=None)
    write_json(folder / "eval_results.json", {"dataset": "my corpus", "eval_wer": 0.5})
    head = metadata(model_card(folder))
    assert "datasets" not in head and "language" not in head
    (result,) = head["model-index"][0]["results"]
    assert result["dataset"] == {"name": "my corpus evaluation", "type": "my-corpus"}


def test_a_corpus_known_by_its_layout_is_named_as_on_the_hub(tmp_path: Path):
    folder = run_folder(tmp_path / "out", dataset_name="/data/LibriSpeech", dataset_config_name="clean")
    write_json(folder / "eval_results.json", {"dataset": "librispeech_asr/clean", "eval_wer": 0.5})
    card = model_card(folder)
    assert metadata(card)["datasets"] == ["openslr/librispeech_asr"]
    assert "CC-BY-4.0" in card


def test_the_corpus_language_wins_over_a_guess(tmp_path: Path):
    folder = run_folder(tmp_path / "out", dataset_config_name="clean")
    settings = json.loads((folder / "settings.json").read_text())
    write_json(folder / "settings.json", {**settings, "corpus": {"language": "en"}})
    assert metadata(model_card(folder))["language"] == ["en"]


def test_norwegian_is_a_language_and_not_false(tmp_path: Path):
    assert metadata(model_card(run_folder(tmp_path / "out", dataset_config_name="no")))["language"] == ["no"]


def test_strangers_text_is_no_markup(tmp_path: Path):
    card = model_card(run_folder(tmp_path / "out", alien=ALIEN))
    body = card.split("---\n", 2)[2]
    assert "<script" not in body and "http://evil" not in body and "\u202e" not in body and "49" not in body
    assert not re.search(r"^# head", body, re.MULTILINE)
    (row,) = [line for line in body.splitlines() if line.startswith("| chars\\_to\\_ignore")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 3  # the table still has two columns
    assert metadata(card)["model-index"][0]["results"][0]["dataset"]["split"] == "test"


def test_a_name_cannot_break_out_of_the_examples(tmp_path: Path):
    folder = run_folder(tmp_path / '"); import os #`$(rm)`')
    (folder / 'adapter.x"y.safetensors').touch()
    card = model_card(folder)
    code = "".join(re.findall(r"```.*?```", card, re.DOTALL))
    assert "rm)" not in code and 'x"y' not in code and "import os" not in code


def test_escaped_text_stays_on_one_line():
    assert escaped("a_b\n<i> | [c](d) & \\") == r"a\_b &lt;i&gt; \| \[c\](d) &amp; " + "\\\\"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("/data/my corpus/", "my corpus"),
        ("~/x", "x"),
        ("../a/b", "b"),
        ("C:\\corpora\\tr", "tr"),
        ("facebook/mms-1b-all", "facebook/mms-1b-all"),
        ("train+validation", "train+validation"),
        (".", "."),
        ("/", "/"),
    ],
)
def test_of_a_local_path_the_last_name_is_shown(value: str, shown: str):
    assert last_name(value) == shown


def test_options_show_what_was_given_and_the_defaults_one_looks_for(tmp_path: Path):
    card = model_card(run_folder(tmp_path / "out", max_steps=20))
    assert "| learning\\_rate | 0.0003 |" in card
    assert "| seed | 42 (default) |" in card
    assert (
        "num\\_train\\_epochs" not in card
        and "output\\_dir" not in card
        and "identity" not in card
        and "plan" not in card
    )


def test_losses_have_a_row_an_evaluation_with_the_training_loss_before_it(tmp_path: Path):
    card = model_card(run_folder(tmp_path / "out"))
    assert "| 10 | 1 | 0.5 | 1.25 | 50.0 % | 25.0 % |" in card
    assert "| 20 | 2 | 0.5 | not finite | 35.0 % |  |" in card


def test_losses_without_evaluations_are_a_bounded_number_of_rows(tmp_path: Path):
    folder = run_folder(tmp_path / "out")
    history = [{"step": step, "epoch": 1, "loss": 1 / step} for step in range(1, 2001)]
    write_json(folder / "trainer_state.json", {"log_history": history})
    rows = re.findall(r"^\| ([\d,]+) \| 1 \| \S+ \|$", model_card(folder), re.MULTILINE)
    assert len(rows) == 40 and rows[0] == "1" and rows[-1] == "2,000"


def test_scores_and_what_was_left_out_are_counted(tmp_path: Path):
    card = model_card(run_folder(tmp_path / "out"))
    wer = "| common\\_voice/tr test | WER, word error rate | 35.0 % | 30.0 to 40.0 % | 35 of 100 | 1 | default |"
    assert wer in card
    assert "| train | 1 | 0.01 | 1 too long |" in card


def test_the_same_folder_gives_the_same_card(tmp_path: Path):
    folder = run_folder(tmp_path / "out")
    assert model_card(folder) == model_card(folder)


def test_a_model_alone_has_a_card_too(tmp_path: Path):
    write_json(tmp_path / "m" / "config.json", {"model_type": "whisper"})
    card = model_card(tmp_path / "m")
    assert metadata(card)["tags"] == ["automatic-speech-recognition", "speechtune", "whisper"]
    assert "The run holds no scores." in card


def test_a_card_of_ours_is_replaced_others_and_edited_ones_stay(tmp_path: Path):
    folder = run_folder(tmp_path / "out")
    card = write_model_card(folder)
    assert card is not None and is_generated(card.read_text(encoding="utf-8"))
    assert write_model_card(folder, repo_id="me/tr") == card
    assert 'model="me/tr"' in card.read_text(encoding="utf-8")
    for own in ("# My model", card.read_text(encoding="utf-8").replace("# tr", "# My Turkish model")):
        card.write_text(own, encoding="utf-8")
        assert write_model_card(folder) is None
        assert card.read_text(encoding="utf-8") == own


def test_a_folder_without_a_model_gets_no_card(tmp_path: Path):
    assert write_model_card(tmp_path) is None
    assert not (tmp_path / "README.md").exists()


def test_a_name_that_is_a_folder_here_is_no_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert is_hub_name("facebook/mms-1b-all")
    (tmp_path / "facebook" / "mms-1b-all").mkdir(parents=True)
    assert not is_hub_name("facebook/mms-1b-all")


@pytest.mark.parametrize("languages", [(), ("tur", "swe")])
def test_the_example_of_the_card_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], languages: tuple[str, ...]
):
    from trained_folders import ctc_folder

    ctc_folder(tmp_path / "model", languages=languages)
    monkeypatch.chdir(tmp_path)
    soundfile.write("recording.wav", np.sin(np.arange(16000) / 10) * 0.1, 16000)
    (code,) = re.findall(r"```python\n(.*?)```", model_card(tmp_path / "model"), re.DOTALL)
    exec(compile(code, "card", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_the_example_of_an_adapters_card_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from trained_folders import ctc_folder
    from transformers import AutoModelForCTC

    from speechtune.models.loading import Source
    from speechtune.models.lora import ADAPTER_CONFIG, add_lora, save_adapters
    from speechtune.options.lora import Lora

    base = str(ctc_folder(tmp_path / "base"))
    model = Source(base).load("model", AutoModelForCTC.from_pretrained)
    add_lora(model, Lora(r=4), base=base)
    ctc_folder(tmp_path / "model")  # with its processor
    (tmp_path / "model" / "model.safetensors").unlink()
    save_adapters(model, tmp_path / "model")
    (tmp_path / "model" / "settings.json").write_text('{"options": {"lora": true, "max_steps": 2}}')
    assert (tmp_path / "model" / ADAPTER_CONFIG).exists()
    card = model_card(tmp_path / "model")
    assert "library_name: peft" in card and str(tmp_path) not in card
    assert "| learning_rate | 0.0005 (default) |" in card.replace("\\", "")
    monkeypatch.chdir(tmp_path)
    soundfile.write("recording.wav", np.sin(np.arange(16000) / 10) * 0.1, 16000)
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    exec(compile(code, "card", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_the_precision_is_the_one_that_was_used(tmp_path: Path):
    card = model_card(run_folder(tmp_path, precision="auto"))
    assert "20 optimiser steps, lowest error rate of the evaluations at step 20, bf16 on the CPU" in card
