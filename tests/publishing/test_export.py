"""An export holds what recognition needs, loads with plain transformers, and says what the trained model says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from standins.whisper import build_whisper
from trained_folders import ctc_folder

from speechtune.errors import ModelError, OutputError
from speechtune.publishing.export import run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def whisper_folder(folder: Path) -> Path:
    import transformers

    folder.mkdir()
    build_whisper(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "speechtune_encoder_context": 8.0}))
    transformers.WhisperProcessor.from_pretrained(folder).save_pretrained(folder)
    return folder


def weights(folder: Path) -> dict:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_only_what_recognition_needs_is_there(tmp_path: Path):
    folder = ctc_folder(tmp_path / "run")
    for name in ("README.md", "eval_results.json", "settings.json", "hypotheses.jsonl", "training_args.bin"):
        (folder / name).write_text("{}")
    (folder / "checkpoint-2").mkdir()
    assert run(folder, tmp_path / "out") == 0
    expected = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json", "processor_config.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected | {"tokenizer_config.json", "vocab.json"}
    assert list(tmp_path.glob(".*")) == []


def test_float32_weights_are_the_trained_ones_to_the_bit(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = ctc_folder(tmp_path / "run", group_norm=True)
    run(folder, tmp_path / "out")
    before, after = weights(folder), weights(tmp_path / "out")
    assert before.keys() == after.keys() and all((before[name] == after[name]).all() for name in before)
    assert "wav2vec2, 0.0 M parameters as float32, 0.1 MB" in capsys.readouterr().out


def test_what_a_terminal_would_act_on_is_written_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run(ctc_folder(tmp_path / "run"), tmp_path / "\x1b[31mred")
    assert capsys.readouterr().out.startswith(f"{tmp_path}/[U+001B][31mred: wav2vec2")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_formats_halve_the_file_and_are_the_dtype_that_transformers_loads(tmp_path: Path, dtype: str):
    from transformers import AutoModelForCTC

    folder = ctc_folder(tmp_path / "run")
    run(folder, tmp_path / "out", dtype=dtype)
    assert str(AutoModelForCTC.from_pretrained(tmp_path / "out").dtype) == f"torch.{dtype}"
    assert sum(t.nbytes for t in weights(tmp_path / "out").values()) * 2 == sum(
        t.nbytes for t in weights(folder).values()
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_our_own_transcription_takes_an_export(tmp_path: Path, dtype: str):
    import audio_files

    from speechtune.decoding.transcribe import Transcriber

    clip = str(audio_files.write(tmp_path / "a.wav", audio_files.voice(1.0, 16000), 16000))
    folder = ctc_folder(tmp_path / "run")
    run(folder, tmp_path / "out", dtype=dtype)
    text = Transcriber(str(tmp_path / "out"), device="cpu")(clip)
    if dtype == "float32":
        assert text == Transcriber(str(folder), device="cpu")(clip)


def test_adapters_of_all_languages_come_along(tmp_path: Path):
    from transformers import AutoModelForCTC, AutoProcessor

    folder = ctc_folder(tmp_path / "run", languages=("tur", "swe"))
    run(folder, tmp_path / "out", dtype="float16")
    processor, model = (kind.from_pretrained(tmp_path / "out") for kind in (AutoProcessor, AutoModelForCTC))
    for language in ("tur", "swe"):
        processor.tokenizer.set_target_lang(language)
        model.load_adapter(language)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_whisper_keeps_its_generation_and_our_context(tmp_path: Path, dtype: str):
    folder = whisper_folder(tmp_path / "run")
    run(folder, tmp_path / "out", dtype=dtype)
    assert json.loads((tmp_path / "out/config.json").read_text())["speechtune_encoder_context"] == 8.0
    before, after = (json.loads((f / "generation_config.json").read_text()) for f in (folder, tmp_path / "out"))
    assert after["lang_to_id"] == before["lang_to_id"]


def test_weights_that_do_not_fit_the_format_are_a_message(tmp_path: Path):
    from safetensors.torch import save_file

    folder = ctc_folder(tmp_path / "run")
    tensors = weights(folder)
    tensors["lm_head.bias"][0] = 1e6
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"as float16: lm_head\.bias has values that are NaN"):
        run(folder, tmp_path / "out", dtype="float16")
    assert not (tmp_path / "out").exists() and list(tmp_path.glob(".*")) == []
    assert run(folder, tmp_path / "out", dtype="bfloat16") == 0


def test_a_folder_in_use_is_a_message(tmp_path: Path):
    folder = ctc_folder(tmp_path / "run")
    with pytest.raises(OutputError, match="holds something already"):
        run(folder, folder)
    (tmp_path / "empty").mkdir()
    assert run(folder, tmp_path / "empty") == 0


def test_no_model_is_a_message(tmp_path: Path):
    with pytest.raises(ModelError, match="no trained model here"):
        run(tmp_path / "none", tmp_path / "out")
    assert not (tmp_path / "out").exists()
