"""Decoders with a prompt of their own: the loss is that of the transcript, and the prompt's language is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoints import build

from speechtune.errors import OptionError
from speechtune.models.batch import IGNORED_LABEL, Batch
from speechtune.models.seq2seq.setup import load_seq2seq
from speechtune.options.table import Settings


@pytest.fixture(scope="module", params=["canary", "cohere_asr"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("checkpoint"), str(request.param))


def batch_of(recogniser: Any, texts: list[str], frames: list[int]) -> Batch:
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(length, 16, generator=generator).numpy() for length in frames]
    labels = [list(recogniser.encode(text)) for text in texts]
    padded = torch.full((len(texts), max(map(len, labels))), IGNORED_LABEL)
    for row, ids in zip(padded, labels, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    inputs = {name: torch.from_numpy(value) for name, value in recogniser.model_input.pad(features).items()}
    return Batch([object()] * len(texts), texts, [0, 1], inputs, padded, list(map(len, labels)), frames, 1.0)  # type: ignore[list-item]


def test_the_loss_is_that_of_the_transcript_and_its_end_alone(checkpoint: Path):
    recogniser = load_seq2seq(Settings(model_name_or_path=str(checkpoint), language="de"))
    recogniser.model.eval()
    batch = batch_of(recogniser, ["on yedi", "uc"], [96, 64])
    assert recogniser.num_items(batch) == sum(batch.label_lengths)
    with torch.no_grad():
        found = recogniser.losses(recogniser.model, batch)
        for row, length in enumerate(batch.label_lengths):
            labels = batch.labels[row, :length].tolist()
            assert labels[-1] == recogniser.tokenizer.eos_token_id and recogniser.prompt[1] not in labels
            tokens = torch.tensor([[*recogniser.prompt, *labels[:-1]]])
            features = batch.inputs["input_features"][row : row + 1, : batch.input_lengths[row]]
            logits = recogniser.model(input_features=features, decoder_input_ids=tokens).logits[0]
            expected = torch.nn.functional.cross_entropy(logits[-length:], torch.tensor(labels), reduction="sum")
            assert float(found[row]) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(("language", "message"), [(None, "Give --language"), ("ay", "--language ay: ")])
def test_a_language_that_is_unknown_is_one_message(checkpoint: Path, language: str | None, message: str):
    with pytest.raises(OptionError, match=message):
        load_seq2seq(Settings(model_name_or_path=str(checkpoint), language=language))


def test_a_prompt_needs_the_checkpoint_it_belongs_to(checkpoint: Path):
    with pytest.raises(OptionError, match="trained from a checkpoint"):
        load_seq2seq(
            Settings(model_name_or_path=str(checkpoint), language="de", tokenizer_name_or_path=str(checkpoint))
        )
