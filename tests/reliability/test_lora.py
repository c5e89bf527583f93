"""Training of low-rank updates from its words to its files: what is kept, resumed, opened and merged."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from reliability.forks import ForkServer
from reliability.tiny import CALM, RANDOMNESS, losses, read_json, read_rows, run
from standins.models import stand_in

from speechtune.cli.main import main
from speechtune.errors import OptionError, OutputError

CTC, WHISPER = "facebook/wav2vec2-large-lv60", "openai/whisper-small"
LORA = ["--lora", "r=4"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from reliability.tiny import write_corpus

    return write_corpus(tmp_path_factory.mktemp("spoken"))


def words(home: Path, name: str, corpus: Path, output: Path, *more: str) -> list[str]:
    """Two epochs of three steps."""
    kind = ["--encoder_context", "0.5", "--force", "true", "--language", "turkish", "--generation_max_length", "8"]
    return [
        *("--model_name_or_path", str(stand_in(home, name)), *(kind if name == WHISPER else RANDOMNESS)),
        *("--dataset_name", str(corpus), "--train_split_name", "train", "--output_dir", str(output)),
        *("--num_train_epochs", "2", "--per_device_train_batch_size", "4", "--learning_rate", "1e-2"),
        *("--save_steps", "2", "--logging_steps", "1", "--dataloader_num_workers", "0"),
        *("--precision", "fp32", "--use_cpu", "true", *LORA, *more),
    ]


@pytest.fixture(scope="module", params=[CTC, WHISPER])
def trained(request: Any, home: Path, spoken: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("trained") / "out"
    assert run(*words(home, request.param, spoken, out)) == 0
    return request.param, out


def adapter(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


def test_the_folder_and_its_checkpoints_hold_adapters_and_no_model(trained: tuple[str, Path], home: Path):
    name, out = trained
    for folder in (out, out / "checkpoint-6"):
        assert not list(folder.glob("model*.safetensors"))
        assert {"adapter_config.json", "config.json", "preprocessor_config.json"} <= {p.name for p in folder.iterdir()}
    assert read_json(out / "adapter_config.json")["base_model_name_or_path"] == str(stand_in(home, name))
    kept = adapter(out)
    assert all("lora_" in key or ".lm_head." in key for key in kept)
    assert any(".lm_head." in key for key in kept) == (name == CTC)  # a new head is trained and kept whole
    state = read_json(out / "trainer_state.json")
    assert all(bool(tensor.isfinite().all()) for tensor in kept.values()) and state["global_step"] == 6


def test_peft_and_plain_transformers_agree_on_the_trained_model(trained: tuple[str, Path], home: Path, tmp_path: Path):
    import torch
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForCTC, AutoModelForSpeechSeq2Seq

    name, out = trained
    assert main(["export", str(out), "--output_dir", str(tmp_path / "merged")]) == 0
    assert not list((tmp_path / "merged").glob("adapter*"))
    auto = AutoModelForCTC if name == CTC else AutoModelForSpeechSeq2Seq
    merged, info = auto.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    config = AutoConfig.from_pretrained(out)
    base = auto.from_pretrained(stand_in(home, name), config=config, ignore_mismatched_sizes=True)
    wrapped = PeftModel.from_pretrained(base, out)
    generator = torch.Generator().manual_seed(0)
    if name == CTC:
        inputs = {"input_values": torch.randn(2, 8000, generator=generator)}
    else:
        inputs = {"input_features": torch.randn(1, 80, 3000, generator=generator)}
        inputs["decoder_input_ids"] = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        ours, theirs = merged.eval()(**inputs).logits, wrapped.eval()(**inputs).logits
        with wrapped.disable_adapter():
            untrained = wrapped(**inputs).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ours, untrained, rtol=1e-2, atol=1e-3)


def test_an_adapter_folder_is_evaluated_and_transcribed_with(trained: tuple[str, Path], spoken: Path, tmp_path: Path):
    import speechtune as st

    name, out = trained
    more = ["--generation_max_length", "8"] if name == WHISPER else []
    argv = ["--model_name_or_path", str(out), "--dataset_name", str(spoken), "--output_dir", str(tmp_path / "again")]
    assert run(*argv, "--precision", "fp32", "--use_cpu", "true", *more, command="evaluate") == 0
    again, first = (read_rows(folder / "hypotheses.jsonl") for folder in (tmp_path / "again", out))
    assert [row["hypothesis"] for row in again] == [row["hypothesis"] for row in first]
    clip = str(spoken / "test" / "000.wav")
    assert main(["export", str(out), "--output_dir", str(tmp_path / "merged")]) == 0
    texts = [st.load(folder, device="cpu").transcribe(clip).text for folder in (out, tmp_path / "merged")]
    assert texts[0] == texts[1]


def test_a_resumed_training_is_the_same_to_the_bit(trained: tuple[str, Path], home: Path, spoken: Path, tmp_path: Path):
    name, whole = trained
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(whole / "settings.json", out)
    shutil.copytree(whole / "checkpoint-4", out / "checkpoint-4")
    assert run(*words(home, name, spoken, out, "--do_eval", "false")) == 0
    ours, theirs = adapter(out), adapter(whole)
    assert ours.keys() == theirs.keys() and all(bool((ours[key] == theirs[key]).all()) for key in ours)


def test_training_starts_from_a_merged_adapter_and_drops_what_is_not_its_own(
    trained: tuple[str, Path], home: Path, spoken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    name, out = trained
    if name != CTC:
        return
    folder = tmp_path / "out"
    argv = words(home, name, spoken, folder, "--do_eval", "false", "--max_steps", "1")
    full = [*argv, "--lora", "false", "--model_name_or_path", str(out), "--learning_rate", "0"]
    assert run(*full) == 0
    from safetensors.torch import load_file

    from speechtune.models.loading import Source

    head = load_file(folder / "model.safetensors")["lm_head.weight"]
    assert bool((head == adapter(out)["base_model.model.lm_head.weight"]).all())
    assert not (folder / "adapter_config.json").exists()
    with pytest.raises(OutputError, match="in use by another run, with --"):
        run(*argv)
    assert run(*argv, "--overwrite_output_dir") == 0
    assert (folder / "adapter_config.json").exists() and not (folder / "model.safetensors").exists()
    with pytest.raises(OptionError, match="is an adapter itself"):
        run(*words(home, name, spoken, tmp_path / "twice", "--model_name_or_path", str(out)))
    shutil.move(folder, tmp_path / "moved")
    assert Source(str(tmp_path / "moved")).load("model", _auto().from_pretrained).new_weights == []


def _auto() -> Any:
    from transformers import AutoModelForCTC

    return AutoModelForCTC


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--lora", "rank=4"], "--lora: expected any of r=32, alpha=64, targets=auto and dora"),
        (["--lora", "r=0"], "--lora: r is a whole number from 1 to 4096; found '0'"),
        (["--lora", "targets=q_proj,v_proj"], "expected any of .* found 'v_proj'"),
        (["--lora", "targets=query"], "no linear layer is named query. There are: .*k_proj.*q_proj"),
        (["--target_language", "tur"], "--target_language trains MMS' own adapters, --lora others"),
        (["--average_checkpoints", "2"], "--average_checkpoints mixes whole models; with --lora"),
        (["--freeze", "encoder.layer.[0-1]"], r"--freeze encoder.layer.\[0-1\]: .* Close: encoder.layers.\[0-1\]"),
        (["--freeze", "lm_head", "wav2vec2"], "nothing is left to train"),
    ],
)
def test_what_can_not_be_done_is_one_message(more: list[str], said: str, home: Path, spoken: Path, tmp_path: Path):
    with pytest.raises(OptionError, match=said):
        run(*words(home, CTC, spoken, tmp_path / "out", *more))


def test_two_processes_train_the_updates_of_one(server: ForkServer, home: Path, spoken: Path, tmp_path: Path):
    """The same utterances a step: 4 in one process, 2 in each of two."""
    argv = [*CALM, "--hidden_dropout", "0", "--layerdrop", "0", "--do_eval", "false"]
    for name, more in ((CTC, argv), (WHISPER, argv[-2:])):
        one, two = tmp_path / f"one-{name[:4]}", tmp_path / f"two-{name[:4]}"
        assert run(*words(home, name, spoken, one, *more)) == 0
        halves = words(home, name, spoken, two, *more, "--per_device_train_batch_size", "2")
        ended = server.run(["train", *halves], processes=2)
        assert ended.code == 0, ended.output
        assert losses(two) == pytest.approx(losses(one), rel=1e-5)
        assert read_json(two / "settings.json")["identity"]["lora"] == "r=4,alpha=8,targets=auto"
