"""The demo from end to end on a corpus of a few clips, and the parts that it ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from speechtune.demo import corpus, run
from speechtune.demo.run import BASE_MODEL, NOTICE, RECIPE, run_demo
from speechtune.text.espeak import is_installed

ROOT = Path(__file__).parents[2]
needs_voices = pytest.mark.skipif(not is_installed(), reason="espeakng-loader, an optional part, is not installed")


def test_the_recipe_says_what_the_demo_does():
    recipe = yaml.safe_load((ROOT / "recipes" / "demo.yaml").read_text("utf-8"))
    assert recipe.pop("model_name_or_path") == str(BASE_MODEL.relative_to(ROOT))
    assert recipe.pop("dataset_name") == f"runs/demo/corpus/{corpus.RELEASE}"
    assert recipe.pop("output_dir") == "runs/demo-again"
    assert recipe == yaml.safe_load(RECIPE.read_text("utf-8"))


def test_the_base_model_is_small_and_loads_with_plain_transformers():
    from transformers import AutoFeatureExtractor, AutoModel

    assert sum(path.stat().st_size for path in BASE_MODEL.iterdir()) < 5_000_000
    model = AutoModel.from_pretrained(BASE_MODEL)
    assert model.config.model_type == "wav2vec2"
    assert model.config.feat_extract_norm == "layer"
    assert AutoFeatureExtractor.from_pretrained(BASE_MODEL).return_attention_mask


@needs_voices
def test_the_demo_ends_with_two_scores_a_transcript_and_a_report_and_runs_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SPEECHTUNE_CACHE", str(tmp_path / "cache"))
    for name, count in (("NUM_TRAIN", 12), ("NUM_DEV", 2), ("NUM_TEST", 4)):
        monkeypatch.setattr(corpus, name, count)
    (tmp_path / "recipe.yaml").write_text(
        RECIPE.read_text("utf-8").replace("num_train_epochs: 5", "num_train_epochs: 1")
    )
    monkeypatch.setattr(run, "RECIPE", tmp_path / "recipe.yaml")
    for _ in range(2):
        assert run_demo(tmp_path / "demo") == 0
        output = capsys.readouterr()
        assert NOTICE in output.err
        assert "unseen voice" in output.out
        assert "hypothesis:" in output.err
        assert str(tmp_path / "demo" / "report.html") in output.err.replace("\n", "")
    for suffix in ("", "_unseen_voice"):
        results = json.loads((tmp_path / "demo" / f"eval_results{suffix}.json").read_text("utf-8"))
        assert results["eval_samples"] == 4
        assert results["scores"]["wer"]["low"] <= results["eval_wer"] <= results["scores"]["wer"]["high"]
    assert "unseen voice" in (tmp_path / "demo" / "report.html").read_text("utf-8")
