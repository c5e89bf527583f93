"""`speechtune warmstart` gives the folder of the README's Python snippet."""

from __future__ import annotations

import filecmp
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from standins.running import warm_start
from tiny_seq2seq import SHORT, batch_of, checkpoint, for_training, loaded, voice
from transformers import (
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
    BartConfig,
    BartModel,
    BertConfig,
    LlamaConfig,
    set_seed,
)

from speechtune.errors import ModelError, OutputError
from speechtune.models.seq2seq.warmstart import run

ENCODER, DECODER = "facebook/wav2vec2-base", "facebook/bart-base"


def test_the_folder_is_that_of_the_snippet_but_for_what_todays_library_drops(tmp_path: Path):
    run(checkpoint(ENCODER), checkpoint(DECODER), tmp_path / "ours", seed=7)
    set_seed(7)
    warm_start(tmp_path / "snippet", encoder=checkpoint(ENCODER), decoder=checkpoint(DECODER))
    names = sorted(path.name for path in (tmp_path / "snippet").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "ours").iterdir())
    same, different, missing = filecmp.cmpfiles(tmp_path / "ours", tmp_path / "snippet", names, shallow=False)
    assert (different, missing) == (["generation_config.json", "model.safetensors"], [])
    assert "config.json" in same
    mine, theirs = (load_file(tmp_path / x / "model.safetensors") for x in ("ours", "snippet"))
    assert mine.keys() == theirs.keys()
    other = [name for name in mine if not torch.equal(mine[name], theirs[name])]
    assert other == ["decoder.model.decoder.embed_tokens.weight"]  # random in the snippet's
    ours, snippet = (json.loads((tmp_path / x / "generation_config.json").read_text()) for x in ("ours", "snippet"))
    assert ours == snippet | {"max_length": 200, "num_beams": 5, "decoder_start_token_id": 0}


def test_the_same_seed_gives_the_same_weights(tmp_path: Path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(checkpoint(ENCODER), checkpoint(DECODER), tmp_path / name, seed=seed)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize("decoder", [DECODER, "gpt2"])
def test_the_folder_trains_and_generates_under_plain_transformers(decoder: str, tmp_path: Path):
    run(checkpoint(ENCODER), checkpoint(decoder), tmp_path)
    recogniser = for_training(str(tmp_path))
    losses = recogniser.losses(recogniser.model, batch_of(recogniser, training=True))
    assert torch.isfinite(losses).all()
    losses.sum().backward()
    model, processor = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    assert (model.generation_config.max_length, model.generation_config.num_beams) == (200, 5)
    if decoder == DECODER:
        inputs = processor(voice(1.0), sampling_rate=16_000, return_tensors="pt")
        ids = model.generate(**inputs, max_length=6)
        assert ids[0, 0] == model.config.decoder_start_token_id


def test_a_folder_made_by_the_snippet_starts_where_it_is_trained_to_start(tmp_path: Path):
    warm_start(tmp_path, encoder=checkpoint(ENCODER), decoder=checkpoint(DECODER))
    model = loaded(str(tmp_path), generation=SHORT).model
    assert model.generation_config.decoder_start_token_id == model.config.decoder_start_token_id == 0
    assert loaded(str(tmp_path), generation={"generation_num_beams": 1}).model.generation_config.max_length == 448


def test_a_decoder_whose_checkpoint_holds_its_embeddings_once_keeps_them(tmp_path: Path):
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = BartConfig(vocab_size=40, d_model=16, encoder_ffn_dim=16, decoder_ffn_dim=16, **sizes)
    bart = BartModel(config)
    bart.save_pretrained(tmp_path / "bart")
    for file in Path(checkpoint(DECODER)).iterdir():  # its tokenizer
        if not (tmp_path / "bart" / file.name).exists():
            (tmp_path / "bart" / file.name).write_bytes(file.read_bytes())
    run(checkpoint(ENCODER), str(tmp_path / "bart"), tmp_path / "out")
    decoder = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path / "out").decoder
    assert torch.equal(decoder.get_input_embeddings().weight, bart.shared.weight)
    assert torch.equal(decoder.get_output_embeddings().weight, bart.shared.weight)


@pytest.mark.parametrize(("config", "message"), [(LlamaConfig, "no cross-attention"), (BertConfig, "no bos_token_id")])
def test_a_decoder_that_cannot_hear_or_begin_is_refused(config: type, message: str, tmp_path: Path):
    config(bos_token_id=None).save_pretrained(tmp_path / "decoder")
    if config is BertConfig:
        from transformers import BertLMHeadModel

        tiny = config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=40)
        BertLMHeadModel(tiny).save_pretrained(tmp_path / "decoder")
    with pytest.raises(ModelError, match=message):
        run(checkpoint(ENCODER), str(tmp_path / "decoder"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_a_model_is_left_alone(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(OutputError, match="holds a model already"):
        run(checkpoint(ENCODER), checkpoint(DECODER), tmp_path)


def test_a_missing_encoder_is_named(tmp_path: Path):
    with pytest.raises(ModelError, match="/nowhere/at/all: no such folder"):
        run("/nowhere/at/all", checkpoint(DECODER), tmp_path / "out")
