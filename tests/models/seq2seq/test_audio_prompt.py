"""Language models that hear audio: the library's own prompt, loss and text, whatever else is in the batch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_audio_models import BUILDERS, LANGUAGE, NEEDS_TORCHAUDIO, request

from speechtune.errors import ModelError, OptionError
from speechtune.models.batch import IGNORED_LABEL, Batch
from speechtune.models.lora import add_lora
from speechtune.models.seq2seq.families import auto_class
from speechtune.models.seq2seq.setup import load_seq2seq, seq2seq_for_training
from speechtune.options.lora import Lora
from speechtune.options.table import Settings

TYPES = sorted(BUILDERS) + (sorted(NEEDS_TORCHAUDIO) if find_spec("torchaudio") else [])
TEXTS = ["on yedi", "uc"]


@pytest.fixture(scope="module", params=TYPES)
def model_type(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def checkpoint(model_type: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    (BUILDERS | NEEDS_TORCHAUDIO)[model_type](folder)
    return folder


@pytest.fixture
def recogniser(checkpoint: Path, model_type: str) -> Any:
    made = load_seq2seq(Settings(model_name_or_path=str(checkpoint), language=LANGUAGE.get(model_type)))
    made.model.eval()
    return made


def clips(recogniser: Any, seconds: tuple[float, ...] = (1.3, 2.4)) -> list[Any]:
    generator = np.random.default_rng(0)
    rate = recogniser.sampling_rate
    return [(0.1 * generator.standard_normal(int(s * rate))).astype(np.float32) for s in seconds]


def batch_of(recogniser: Any, samples: list[Any], texts: list[str]) -> Batch:
    features = [recogniser.model_input.features(clip) for clip in samples]
    labels = [list(recogniser.encode(text)) for text in texts]
    padded = torch.full((len(texts), max(map(len, labels))), IGNORED_LABEL)
    for row, ids in zip(padded, labels, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    inputs = {name: torch.from_numpy(value) for name, value in recogniser.model_input.pad(features).items()}
    rows = list(range(len(texts)))
    utterances: Any = [object()] * len(texts)
    return Batch(utterances, texts, rows, inputs, padded, list(map(len, labels)), list(map(len, features)), 1.0)


def test_the_loss_is_the_librarys_of_the_transcript_and_its_end(recogniser: Any, model_type: str):
    samples = clips(recogniser)
    batch = batch_of(recogniser, samples, TEXTS)
    assert recogniser.num_items(batch) == sum(batch.label_lengths)
    quiet = {"sample": False} if model_type == "vibevoice_asr" else {}
    with torch.no_grad():
        found = recogniser.losses(recogniser.model, batch)
        for row, (clip, text) in enumerate(zip(samples, TEXTS, strict=True)):
            one = request(recogniser.processor, clip, LANGUAGE.get(model_type))
            labels = recogniser.encode(text)
            assert labels[-1] == recogniser.tokenizer.eos_token_id
            assert text in recogniser.tokenizer.decode(labels[:-1])
            ids = torch.cat([one["input_ids"], torch.tensor([labels])], dim=1)
            targets = ids.clone()
            targets[:, : -len(labels)] = IGNORED_LABEL
            given = {**one, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
            loss = recogniser.model(**given, labels=targets, **quiet).loss * len(labels)
            assert float(found[row]) == pytest.approx(float(loss), rel=1e-4)


def test_texts_are_those_of_plain_transformers_clip_by_clip(
    recogniser: Any, checkpoint: Path, model_type: str, tmp_path: Path
):
    from transformers import AutoProcessor

    samples = clips(recogniser)
    with torch.no_grad():
        found = recogniser.recognise(recogniser.model, batch_of(recogniser, samples, TEXTS), with_loss=True)
    recogniser.model.save_pretrained(tmp_path)
    recogniser.save_processor(tmp_path)
    model, processor = auto_class(model_type).from_pretrained(tmp_path).eval(), AutoProcessor.from_pretrained(tmp_path)
    for row, clip in zip(found, samples, strict=True):
        one = request(processor, clip, LANGUAGE.get(model_type))
        with torch.no_grad():
            ids = model.generate(**one, **({"sample": False} if model_type == "vibevoice_asr" else {}))
        (text,) = processor.decode(ids[:, one["input_ids"].shape[1] :], skip_special_tokens=True)
        assert row.text.strip() == text.strip()
        assert row.loss > 0 and row.num_items > 0
    assert any(row.text for row in found)


def test_updates_are_in_both_halves_and_each_is_trained(recogniser: Any, model_type: str):
    line = add_lora(recogniser.model, Lora(r=4, alpha=8), base="someone/model")
    assert "trained whole" not in line
    recogniser.model.train()
    for name, parameter in recogniser.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    recogniser.losses(recogniser.model, batch_of(recogniser, clips(recogniser), TEXTS)).sum().backward()
    trained = {name: p.grad for name, p in recogniser.model.named_parameters() if p.requires_grad}
    assert [name for name, gradient in trained.items() if gradient is None] == []
    assert any("language_model.layers.1.mlp" in name for name in trained)
    if model_type != "vibevoice_asr":  # the library runs its encoders without gradients
        assert any("audio_tower" in name or ".encoder." in name for name in trained)


def test_all_but_the_encoder_can_be_trained(checkpoint: Path, model_type: str):
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(checkpoint)
    settings = Settings(
        model_name_or_path=str(checkpoint), freeze_encoder=True, language=LANGUAGE.get(model_type, "tr")
    )
    recogniser: Any = seq2seq_for_training(settings, config)
    assert recogniser.encoder_frozen and recogniser.model.lm_head.weight.requires_grad
    recogniser.losses(recogniser.model, batch_of(recogniser, clips(recogniser), TEXTS)).sum().backward()
    assert recogniser.model.lm_head.weight.grad is not None


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen")
    BUILDERS["qwen3_asr"](folder)
    return folder


def prompt_of(recogniser: Any) -> str:
    ids = recogniser.model_input.features(np.zeros(16000, np.float32)).parts["input_ids"][0]
    return str(recogniser.tokenizer.decode(ids))


def test_the_prompt_names_the_language_and_a_trained_model_remembers_it(qwen: Path, tmp_path: Path):
    from transformers import AutoConfig

    settings = Settings(model_name_or_path=str(qwen))
    trained: Any = seq2seq_for_training(settings, AutoConfig.from_pretrained(qwen), corpus_language="tr")
    assert prompt_of(trained).endswith("language Turkish<asr_text>")
    trained.model.save_pretrained(tmp_path)
    trained.save_processor(tmp_path)
    assert prompt_of(load_seq2seq(Settings(model_name_or_path=str(tmp_path)))) == prompt_of(trained)
    other = load_seq2seq(Settings(model_name_or_path=str(tmp_path), language="german"))
    assert prompt_of(other).endswith("language German<asr_text>")


def test_a_language_that_the_model_does_not_know_is_refused_if_asked_for(qwen: Path, caplog: Any):
    with pytest.raises(OptionError, match="--language sw"):
        load_seq2seq(Settings(model_name_or_path=str(qwen), language="swahili"))
    with caplog.at_level("INFO", "speechtune"):
        recogniser = load_seq2seq(Settings(model_name_or_path=str(qwen)), corpus_language="sw")
    assert "names no language" in caplog.text and prompt_of(recogniser).endswith("assistant\n")


def test_options_of_other_models_are_refused(qwen: Path, tmp_path: Path):
    for option in ({"encoder_context": 5.0}, {"apply_spec_augment": True}, {"tokenizer_name_or_path": str(qwen)}):
        with pytest.raises(OptionError):
            load_seq2seq(Settings(model_name_or_path=str(qwen), **option))  # type: ignore[arg-type]
    for path in qwen.iterdir():
        if path.name != "chat_template.jinja":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ModelError, match="can't write a prompt"):
        load_seq2seq(Settings(model_name_or_path=str(tmp_path)))


def test_a_language_that_the_prompt_cannot_name_is_said_to_be_unused(tmp_path: Path, caplog: Any):
    BUILDERS["glmasr"](tmp_path)
    with caplog.at_level("WARNING", "speechtune"):
        load_seq2seq(Settings(model_name_or_path=str(tmp_path), language="tr"))
    assert "--language tr: not used" in caplog.text
