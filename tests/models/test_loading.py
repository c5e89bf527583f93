"""Checkpoints by folder or name; what can't be loaded is one message that says what to do, and nothing is run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import tiny_seq2seq
import torch
from reliability.tiny import write_corpus
from trained_folders import ctc_folder

from speechtune.cli.main import main
from speechtune.errors import ModelError
from speechtune.models.ctc.setup import check_type, ctc_model
from speechtune.models.ctc.tokenizer import ctc_tokenizer
from speechtune.models.loading import (
    Source,
    check_finite,
    family_of,
    feature_extractor_of,
    load_config,
    model_config_of,
    random_config,
)
from speechtune.models.opening import open_recogniser
from speechtune.options.table import Settings

TOKENS = {"unk_token": "[UNK]", "pad_token": "[PAD]", "word_delimiter_token": "|"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ctc_folder(tmp_path_factory.mktemp("model") / "run")


def message(source: Source) -> str:
    with pytest.raises(ModelError) as caught:
        load_config(source)
    return str(caught.value)


# ---- what can't be loaded


@pytest.mark.parametrize("name", ["./none", "/nowhere/none", "~/none"])
def test_a_path_that_is_not_there_is_no_name_of_the_hub(name: str):
    assert (
        message(Source(name))
        == f"{name}: no such folder, so no config.\nGive a folder that holds a model, or a hub name."
    )


def test_a_name_that_is_nowhere_says_what_to_check():
    said = message(Source("someone/no-such-model"))
    assert said.startswith("someone/no-such-model: no config under this name, neither as a folder, nor")
    assert said.endswith("Check the name, and the network or HF_HUB_OFFLINE; private models need --token.")


def test_an_empty_folder_needs_the_files_of_a_model(tmp_path: Path):
    assert "no usable config here: " in message(Source(str(tmp_path)))
    assert "It needs the files that `save_pretrained` writes." in message(Source(str(tmp_path)))


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"model_type": "no such type"}', "\x00"])
def test_a_damaged_config_is_a_message(tmp_path: Path, content: str):
    (tmp_path / "config.json").write_text(content)
    assert message(Source(str(tmp_path))).startswith(f"{tmp_path}: no usable config here: ")


@pytest.mark.parametrize("name", ["x" * 5000, "./" + "x" * 5000, "x/" * 2500])
def test_a_name_of_5000_characters_is_a_short_message(name: str):
    assert len(message(Source(name))) < 1000


@pytest.mark.parametrize("command", ["train", "evaluate", "transcribe", "export"])
def test_no_command_fails_on_a_name_of_5000_characters(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    corpus = write_corpus(tmp_path / "corpus", num_train=1, num_test=1)
    argv = {
        "train": ["--model_name_or_path", "x" * 5000, "--dataset_name", str(corpus), "--output_dir", "out"],
        "evaluate": ["x" * 5000, "--dataset_name", str(corpus)],
        "transcribe": ["x" * 5000, str(corpus / "test" / "000.wav")],
        "export": ["x" * 5000, "--output_dir", "out"],
    }
    assert main([command, *argv[command]]) == 2
    assert len(capsys.readouterr().err) < 1500


WRONG_SIZES = [
    ({"conv_stride": [0, 2, 2, 2, 2, 2, 2]}, "conv_stride is .*; it needs whole numbers above 0"),
    ({"conv_kernel": [10, 3, 3, 3, 3, 2, -2]}, "conv_kernel is .*; it needs whole numbers above 0"),
    ({"num_hidden_layers": 10**7}, "num_hidden_layers is 10000000; more than 1000 layers are refused"),
]


@pytest.mark.parametrize(("fields", "said"), WRONG_SIZES)
def test_sizes_of_which_no_model_can_be_made_are_a_message(fields: dict[str, Any], said: str, tmp_path: Path):
    with pytest.raises(ModelError, match=f"--model_config: {said}"):
        random_config({"model_type": "wav2vec2", **fields})
    folder = ctc_folder(tmp_path / "run")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | fields))
    with pytest.raises(ModelError, match=f"config.json: {said}"):
        open_recogniser(Settings(model_name_or_path=str(folder)))


@pytest.mark.parametrize("wrong", ["1", -1, 1.5, None])
def test_a_vocabulary_whose_ids_are_no_numbers_is_a_message(wrong: Any, tmp_path: Path):
    folder = ctc_folder(tmp_path / "run")
    vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))
    (folder / "vocab.json").write_text(json.dumps({**vocabulary, "a": wrong}))
    with pytest.raises(ModelError) as caught:
        open_recogniser(Settings(model_name_or_path=str(folder)))
    assert str(caught.value).startswith(f"{folder}: ")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_with_a_weight_that_is_no_number_is_named_by_its_tensor(value: float, folder: Path):
    model = open_recogniser(Settings(model_name_or_path=str(folder))).model
    check_finite(model, where="out", advice="Train again.")
    with torch.no_grad():
        model.lm_head.bias[0] = value
    with pytest.raises(ModelError, match=r"out: lm_head.bias has values that are NaN or infinite\.\nTrain again"):
        check_finite(model, where="out", advice="Train again.")


def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path):
    trap = tmp_path / "ran"
    (tmp_path / "trap.py").write_text(f"open({str(trap)!r}, 'w')\n")
    config = {"model_type": "strange", "auto_map": {"AutoConfig": "trap.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "comes with code of its own, which is not run" in message(Source(str(tmp_path)))
    assert not trap.exists()


def test_a_loader_that_raises_without_words_is_named_by_its_kind(tmp_path: Path):
    def loader(name: str, **options: Any) -> None:
        raise KeyError

    with pytest.raises(ModelError, match="no usable thing here: KeyError"):
        Source(str(tmp_path)).load("thing", loader)


def test_ctrl_c_while_loading_is_no_message():
    def loader(name: str, **options: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Source("a/b").load("thing", loader)


def test_the_hubs_options_reach_the_loader_also_under_another_name():
    got: list[tuple[str, dict[str, Any]]] = []
    source = Source("a/b", revision="v2", token="secret", trust_remote_code=True)
    for each in (source, source.named("c/d")):
        each.load("thing", lambda name, **options: got.append((name, options)), extra=1)
    options = {"trust_remote_code": True, "cache_dir": None, "revision": "v2", "token": "secret", "extra": 1}
    assert got == [("a/b", options), ("c/d", options)]


def test_no_service_is_asked_to_convert_a_checkpoint(folder: Path):
    load_config(Source(str(folder)))
    assert os.environ["DISABLE_SAFETENSORS_CONVERSION"] == "1"


# ---- random weights


def test_a_config_of_random_weights_is_a_mapping_or_a_file_of_it(tmp_path: Path):
    fields = {"model_type": "wav2vec2", "hidden_size": 24}
    (tmp_path / "a.json").write_text(json.dumps(fields))
    for given in (fields, str(tmp_path / "a.json")):
        config = random_config(given)
        assert (config.model_type, config.hidden_size) == ("wav2vec2", 24)
    assert fields == {"model_type": "wav2vec2", "hidden_size": 24}  # not taken apart


@pytest.mark.parametrize("given", [{}, {"model_type": "wav2vec3"}, {"model_type": None}, {"model_type": ["wav2vec2"]}])
def test_a_type_that_is_not_known_is_named(given: dict[str, Any]):
    with pytest.raises(ModelError, match=r"model_type .* is not one that transformers knows"):
        random_config(given)


@pytest.mark.parametrize("content", [None, "", "{", "3", "\ufeff{"])
def test_a_file_of_no_object_is_named(tmp_path: Path, content: str | None):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content, "utf-8")
    with pytest.raises(ModelError, match=f"--model_config {path}: no JSON object"):
        random_config(str(path))


def test_sizes_that_do_not_fit_each_other_are_a_message(tmp_path: Path):
    tokenizer = ctc_tokenizer({"|": 0, "a": 1, "[UNK]": 2, "[PAD]": 3}, tmp_path, **TOKENS)
    with pytest.raises(ModelError, match="--model_config: "):
        config = random_config({"model_type": "wav2vec2", "hidden_size": 15, "num_attention_heads": 4})
        ctc_model(None, config, tokenizer=tokenizer, head_may_change=True)


# ---- parts


def test_a_model_without_a_ctc_head_names_those_that_have_one():
    with pytest.raises(ModelError, match=r"a bert has no CTC head in transformers.*\nThese have: .*wav2vec2"):
        check_type(random_config({"model_type": "bert"}), None)


@pytest.mark.parametrize(
    ("fields", "kind", "has_mask"),
    [
        ({"model_type": "wav2vec2", "feat_extract_norm": "group"}, "Wav2Vec2FeatureExtractor", False),
        ({"model_type": "wav2vec2", "feat_extract_norm": "layer"}, "Wav2Vec2FeatureExtractor", True),
        ({"model_type": "wav2vec2-bert"}, "SeamlessM4TFeatureExtractor", True),
    ],
)
def test_random_weights_get_the_familys_usual_features(fields: dict[str, Any], kind: str, has_mask: bool):
    extractor = feature_extractor_of(None, random_config(fields))
    assert type(extractor).__name__ == kind and extractor.return_attention_mask is has_mask


def test_a_checkpoints_own_feature_extractor_is_taken(folder: Path):
    config = load_config(Source(str(folder)))
    assert feature_extractor_of(Source(str(folder)), config).return_attention_mask is True


def test_a_tokenizer_adds_no_token_of_its_own(tmp_path: Path):
    vocabulary = {"|": 0, "ı": 1, "i": 2, "\U0001f600": 3, "[UNK]": 4, "[PAD]": 5}
    tokenizer = ctc_tokenizer(vocabulary, tmp_path, **TOKENS)
    assert tokenizer.get_vocab() == vocabulary and len(tokenizer) == 6
    assert tokenizer("ıi \U0001f600X").input_ids == [1, 2, 0, 3, 4]
    assert json.loads((tmp_path / "vocab.json").read_text("utf-8")) == vocabulary


def test_a_phoneme_tokenizer_takes_phones_of_several_letters(tmp_path: Path):
    vocabulary = {"|": 0, "tʃ": 1, "a": 2, "[UNK]": 3, "[PAD]": 4}
    tokenizer = ctc_tokenizer(vocabulary, tmp_path, phones=True, **TOKENS)
    assert tokenizer("tʃ a | t").input_ids == [1, 2, 0, 3]


# ---- families


@pytest.mark.parametrize(
    ("model_type", "family"),
    [
        ("wav2vec2", "ctc"),
        ("wav2vec2-bert", "ctc"),
        ("hubert", "ctc"),
        ("whisper", "seq2seq"),
        ("speech-encoder-decoder", "seq2seq"),
    ],
)
def test_the_type_tells_the_family(model_type: str, family: str):
    fields = {"model_type": model_type}
    if model_type == "speech-encoder-decoder":
        fields |= {"encoder": {"model_type": "wav2vec2"}, "decoder": {"model_type": "bart"}}  # type: ignore[dict-item]
    assert family_of(random_config(fields)) == family


def test_a_config_is_the_checkpoints_the_named_ones_or_that_of_random_weights(tmp_path: Path):
    one, other = ctc_folder(tmp_path / "one"), ctc_folder(tmp_path / "other", letters="ab")
    assert model_config_of(Settings(model_name_or_path=str(one))).vocab_size == 8
    assert model_config_of(Settings(model_name_or_path=str(one), config_name=str(other))).vocab_size == 5
    assert model_config_of(Settings(model_config={"model_type": "hubert"})).model_type == "hubert"


def test_each_kind_is_opened_by_its_own_recogniser(tmp_path: Path):
    assert open_recogniser(Settings(model_name_or_path=str(ctc_folder(tmp_path / "ctc")))).kind == "ctc"
    whisper = tiny_seq2seq.checkpoint("openai/whisper-small")
    assert open_recogniser(Settings(model_name_or_path=whisper, language="tr")).kind == "seq2seq"


def test_a_model_of_text_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError):
        open_recogniser(Settings(model_name_or_path=str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "value"), [("padding_value", ""), ("padding_value", float("nan")), ("sampling_rate", 0)]
)
def test_numbers_of_the_feature_extractor_that_make_no_sense_are_refused(name: str, value: Any, tmp_path: Path):
    folder = ctc_folder(tmp_path / "model")
    for path in (folder / "preprocessor_config.json", folder / "processor_config.json"):
        if path.exists():
            config = json.loads(path.read_text())
            config.get("feature_extractor", config)[name] = value
            path.write_text(json.dumps(config))
    with pytest.raises(ModelError, match=f"preprocessor_config.json: {name} is"):
        open_recogniser(Settings(model_name_or_path=str(folder)))
