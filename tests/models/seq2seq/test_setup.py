"""What is set up before training, and what is refused there with one message."""

from __future__ import annotations

import json
import re
import shutil
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest
import tiny_seq2seq
import torch
from tiny_seq2seq import arguments, batch_of, checkpoint, for_training, joined, loaded, whisper
from transformers import AutoConfig, AutoModelForSpeechSeq2Seq, GenerationConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES

from speechtune.errors import ModelError, OptionError
from speechtune.models.seq2seq.audio_prompt import AUDIO_PROMPTED
from speechtune.models.seq2seq.families import FAMILIES, check_family
from speechtune.models.seq2seq.setup import seq2seq_for_training
from speechtune.options.table import Settings

WHISPER = "openai/whisper-small"
JOINED = "facebook/wav2vec2-base+facebook/bart-base"
SIZES = {
    **{"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16},
    **{"encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": 321},
    **{"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0},
}


def trained(model: torch.nn.Module) -> set[str]:
    return {name.split(".")[1] for name, p in model.named_parameters() if p.requires_grad}


def test_freezing_the_feature_encoder_freezes_its_convolutions_alone():
    model = for_training(JOINED).model
    assert not any(p.requires_grad for p in model.encoder.feature_extractor.parameters())
    assert all(p.requires_grad for p in model.encoder.encoder.parameters())
    free = for_training(JOINED, freeze_feature_encoder=False).model
    assert all(p.requires_grad for p in free.encoder.feature_extractor.parameters())


def test_whisper_has_no_feature_encoder_apart_and_trains_whole():
    assert trained(for_training(WHISPER).model) == {"encoder", "decoder"}


@pytest.mark.parametrize("name", [WHISPER, JOINED])
def test_freezing_the_encoder_leaves_the_decoder(name: str):
    recogniser = for_training(name, freeze_encoder=True)
    assert not any(p.requires_grad for p in recogniser.model.get_encoder().parameters())
    assert all(p.requires_grad for p in recogniser.model.get_decoder().parameters() if p.dim() > 1)
    recogniser.losses(recogniser.model, batch_of(recogniser, training=True)).sum().backward()


def test_specaugment_is_whispers_own_with_a_mask_for_it():
    recogniser = for_training(WHISPER, apply_spec_augment=True)
    assert recogniser.model.config.apply_spec_augment
    assert batch_of(recogniser, training=True).inputs["attention_mask"].shape == (3, 3000)
    assert "attention_mask" not in batch_of(recogniser).inputs
    assert "attention_mask" not in batch_of(for_training(WHISPER), training=True).inputs
    with pytest.raises(OptionError, match="--apply_spec_augment is for Whisper"):
        for_training(JOINED, apply_spec_augment=True)


def test_generation_options_are_kept_with_the_model():
    given = {"generation_max_length": 225, "generation_num_beams": 4}
    for recogniser in (for_training(WHISPER, generation=given), joined(generation=given)):
        generation = recogniser.model.generation_config
        assert (generation.max_length, generation.num_beams) == (225, 4)


def test_generation_without_options_is_the_checkpoints():
    generation = for_training(WHISPER, generation=arguments_of_nothing()).model.generation_config
    assert (generation.max_length, generation.num_beams) == (448, None)


def arguments_of_nothing() -> dict[str, object]:
    return {"generation_max_length": None}


def test_a_generation_config_can_be_given(tmp_path: Path):
    GenerationConfig(max_length=7, no_repeat_ngram_size=3).save_pretrained(tmp_path)
    recogniser = joined(generation={"generation_config": str(tmp_path)})
    generation = recogniser.model.generation_config
    assert (generation.max_length, generation.no_repeat_ngram_size) == (7, 3)
    assert generation.decoder_start_token_id == recogniser.model.config.decoder_start_token_id


def test_a_generation_longer_than_the_decoder_is_refused():
    with pytest.raises(OptionError, match=r"--generation_max_length 500: .* takes 448 tokens"):
        for_training(WHISPER, generation={"generation_max_length": 500})


def test_a_generation_config_that_could_not_be_saved_is_refused_before_training(tmp_path: Path):
    folder = changed(WHISPER, tmp_path / "model", "generation_config.json", temperature=0.5, do_sample=False)
    with pytest.raises(ModelError, match=r"generation_config.json contradicts itself"):
        for_training(folder)


def changed(name: str, folder: Path, file: str, **values: object) -> str:
    shutil.copytree(checkpoint(name), folder)
    settings = json.loads((folder / file).read_text("utf-8"))
    settings.update(values)
    (folder / file).write_text(json.dumps(settings), "utf-8")
    return str(folder)


def test_a_decoder_without_cross_attention_is_refused(tmp_path: Path):
    folder = changed(JOINED, tmp_path / "model", "config.json")
    settings = json.loads((tmp_path / "model" / "config.json").read_text())
    settings["decoder"]["add_cross_attention"] = False
    (tmp_path / "model" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=r"decoder \(bart\) has no cross-attention.*\n.*warmstart"):
        for_training(folder)


def test_a_model_that_does_not_know_how_to_begin_is_refused(tmp_path: Path):
    folder = changed(JOINED, tmp_path / "model", "config.json", decoder_start_token_id=None)
    with pytest.raises(ModelError, match=r"no decoder_start_token_id.*\n.*warmstart"):
        for_training(folder)


def test_a_tokenizer_of_another_size_is_refused():
    with pytest.raises(ModelError, match=r"the model writes 1924 tokens, the tokenizer .* has 321"):
        for_training(WHISPER, tokenizer_name_or_path=checkpoint("facebook/bart-base"))
    with pytest.raises(ModelError, match=r"the model writes 321 tokens, the tokenizer .* has 1924"):
        for_training(JOINED, tokenizer_name_or_path=checkpoint(WHISPER))


def test_random_weights_need_a_tokenizer_and_then_train():
    sizes = {**SIZES, "vocab_size": 1924, "pad_token_id": 316, "bos_token_id": 316, "eos_token_id": 316}
    settings = {**sizes, "model_type": "whisper", "decoder_start_token_id": 317}
    config = AutoConfig.for_model(**settings)
    with pytest.raises(OptionError, match="needs a tokenizer"):
        seq2seq_for_training(Settings(model_config=settings), config, training_args=arguments())
    recogniser = seq2seq_for_training(
        Settings(model_config=settings, tokenizer_name_or_path=checkpoint(WHISPER)),
        config,
        training_args=arguments(),
        corpus_language="hi",
    )
    assert recogniser.tokenizer.decode(recogniser.encode("a")).startswith("<|hi|><|transcribe|><|notimestamps|>a")
    assert torch.isfinite(recogniser.losses(recogniser.model, batch_of(recogniser, training=True))).all()


@pytest.mark.parametrize("model_type", sorted(MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES))
def test_every_type_of_the_library_trains_or_says_why_not(model_type: str):
    if model_type in FAMILIES or model_type in AUDIO_PROMPTED:
        check_family(model_type)
    else:
        refusal = rf"^{model_type} models can't .*: \w.* \((transformers/.*)\.py, (.*)\)\.\nThese can: whisper"
        with pytest.raises(ModelError, match=refusal) as caught:
            check_family(model_type)
        place = re.search(refusal, str(caught.value))
        assert place
        attrgetter(place[2])(import_module(place[1].replace("/", ".")))  # it is there in the installed library


OTHERS = {
    "speech_to_text": {"max_source_positions": 400, "max_target_positions": 64, "conv_channels": 16},
    "speecht5": {
        **{"conv_dim": [16] * 7, "hidden_size": 16, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2},
        **{"reduction_factor": 1, "positional_dropout": 0.0, "max_text_positions": 64},
    },
    "moonshine": {
        **{"hidden_size": 16, "intermediate_size": 16, "max_position_embeddings": 64},
        **{"encoder_num_hidden_layers": 1, "decoder_num_hidden_layers": 1},
        **{"encoder_num_attention_heads": 2, "decoder_num_attention_heads": 2},
    },
}


def test_a_type_that_is_refused_is_refused_before_its_weights_are_loaded(tmp_path: Path):
    AutoConfig.for_model("pop2piano").save_pretrained(tmp_path)  # no weights here
    with pytest.raises(ModelError, match=r"pop2piano .* piano notes of music"):
        loaded(str(tmp_path))


def other_family(model_type: str, folder: Path) -> str:
    """A random model of another family with BART's tokenizer: its own needs files that are not made here."""
    import transformers

    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**SIZES, **OTHERS[model_type]})
    AutoModelForSpeechSeq2Seq.from_config(config).save_pretrained(folder)
    if model_type == "speech_to_text":
        transformers.Speech2TextFeatureExtractor().save_pretrained(folder)
    elif model_type == "speecht5":
        transformers.SpeechT5FeatureExtractor().save_pretrained(folder)
    else:
        transformers.Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(checkpoint("facebook/bart-base")).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("model_type", sorted(OTHERS))
def test_the_other_families_train_and_recognise_by_the_same_road(model_type: str, tmp_path: Path):
    folder = other_family(model_type, tmp_path)
    recogniser = for_training(folder)
    losses = recogniser.losses(recogniser.model, batch_of(recogniser, training=True))
    assert torch.isfinite(losses).all()
    losses.sum().backward()
    recogniser.model.eval()
    batch = batch_of(recogniser)
    losses = recogniser.losses(recogniser.model, batch)
    own = recogniser.model(**batch.inputs, labels=batch.labels).loss
    torch.testing.assert_close(losses.sum() / recogniser.num_items(batch), own)
    with torch.inference_mode():
        said = recogniser.recognise(recogniser.model, batch, with_loss=True)
        ids = recogniser.model.generate(**batch.inputs)
    assert [row.text for row in said] == recogniser.tokenizer.batch_decode(ids, skip_special_tokens=True)
    assert [row.loss for row in said] == pytest.approx(losses.tolist(), rel=1e-5)


def test_evaluation_takes_a_checkpoint_as_it_is():
    recogniser = whisper()
    assert recogniser.kind == "seq2seq"
    assert all(p.requires_grad for name, p in recogniser.model.named_parameters() if "embed_positions" not in name)
    with pytest.raises(OptionError, match="can only be trained"):
        loaded_from_nothing()


def loaded_from_nothing() -> None:
    from speechtune.models.seq2seq.setup import load_seq2seq

    load_seq2seq(Settings(model_config={"model_type": "whisper"}))


def test_weights_are_float32_whatever_they_were_saved_in(tmp_path: Path):
    model = AutoModelForSpeechSeq2Seq.from_pretrained(tiny_seq2seq.checkpoint(WHISPER)).half()
    shutil.copytree(checkpoint(WHISPER), tmp_path / "half")
    model.save_pretrained(tmp_path / "half")
    assert loaded(str(tmp_path / "half"), language="tr").model.dtype == torch.float32
