"""The beams are those of generate, with the log probabilities that the model gives their tokens."""

from __future__ import annotations

import pytest
import torch
from tiny_seq2seq import CLIPS, batch_of, joined, whisper

from speechtune.models.batch import Batch
from speechtune.models.seq2seq.n_best import n_best
from speechtune.models.seq2seq.recogniser import Seq2SeqRecogniser

SHORT = {"generation_max_length": 9, "generation_num_beams": None}


@pytest.fixture(params=["whisper", "joined"])
def recogniser(request: pytest.FixtureRequest) -> Seq2SeqRecogniser:
    return whisper(generation=SHORT) if request.param == "whisper" else joined(generation=SHORT)


def beams_of(recogniser: Seq2SeqRecogniser, batch: Batch) -> list[dict[str, float]]:
    recogniser.keeps_evidence, recogniser.num_beams = True, 4
    with torch.inference_mode():
        return [row.evidence for row in recogniser.recognise(recogniser.model, batch, with_loss=False)]


def test_the_first_beam_is_what_generate_writes(recogniser: Seq2SeqRecogniser):
    batch = batch_of(recogniser)
    beams = beams_of(recogniser, batch)
    recogniser.keeps_evidence = False
    with torch.inference_mode():
        plain = recogniser.recognise(recogniser.model, batch, with_loss=False)
    assert len(beams) == len(CLIPS)
    assert [next(iter(texts)) for texts in beams] == [row.text.strip() for row in plain]


def test_a_language_model_chooses_among_the_beams(recogniser: Seq2SeqRecogniser):
    batch = batch_of(recogniser)
    last = [list(texts)[-1] for texts in beams_of(recogniser, batch)]
    recogniser.external_score = lambda text: 1e6 * (text in last)
    with torch.inference_mode():
        chosen = recogniser.recognise(recogniser.model, batch, with_loss=False)
    assert all(row.text in last and row.unaided == next(iter(row.evidence)) for row in chosen)


def test_log_probabilities_are_those_of_the_tokens():
    """By the model's own forward pass over the tokens of the best beam."""
    recogniser = joined(generation=SHORT)
    batch = batch_of(recogniser, CLIPS[:1])
    inputs = dict(batch.inputs)
    with torch.inference_mode():
        (beams,) = n_best(recogniser, recogniser.model, 3, **inputs)
        made = recogniser.model.generate(**inputs, num_beams=3, return_dict_in_generate=True, output_scores=True)
        tokens = made.sequences[0]
        logits = recogniser.model(**inputs, decoder_input_ids=tokens[None, :-1]).logits[0].log_softmax(-1)
    assert tokens[-1] == recogniser.end and len(tokens) == 9  # the end is forced there: its probability is 1
    expected = float(logits.gather(1, tokens[1:, None])[:-1].sum())
    assert next(iter(beams.values())) == pytest.approx(expected, abs=1e-3)
