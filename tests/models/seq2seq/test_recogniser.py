"""Loss and text of sequence-to-sequence models are those of plain transformers, for each utterance by itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from reliability.forks import ForkServer
from tiny_seq2seq import CLIPS, batch_of, checkpoint, for_training, joined, loaded, voice, whisper
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

from speechtune.errors import ModelError

WHISPER = "openai/whisper-small"
JOINED = "facebook/wav2vec2-base+facebook/bart-base"
WITHOUT_TIMESTAMPS = "whisper without timestamps"
KINDS = [WHISPER, JOINED, "facebook/wav2vec2-large-xlsr-53+gpt2"]


@pytest.mark.parametrize("name", KINDS)
def test_losses_add_up_to_the_models_own_loss(name: str):
    recogniser = for_training(name)
    recogniser.model.eval()
    batch = batch_of(recogniser, training=True)
    losses = recogniser.losses(recogniser.model, batch)
    own = recogniser.model(**batch.inputs, labels=batch.labels).loss
    assert losses.shape == (3,)
    torch.testing.assert_close(losses.sum() / recogniser.num_items(batch), own)


@pytest.mark.parametrize("name", KINDS)
def test_gradients_are_those_of_the_models_own_loss(name: str):
    ours, theirs = for_training(name), for_training(name)
    for recogniser in (ours, theirs):
        recogniser.model.eval()  # no dropout
    batch = batch_of(ours, training=True)
    (ours.losses(ours.model, batch).sum() / ours.num_items(batch)).backward()
    theirs.model(**batch.inputs, labels=batch.labels).loss.backward()
    for (parameter, mine), plain in zip(ours.model.named_parameters(), theirs.model.parameters(), strict=True):
        assert (mine.grad is None) == (plain.grad is None), parameter
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, plain.grad, msg=parameter)


def test_label_smoothing_is_that_of_the_trainer_and_in_training_alone():
    from transformers.trainer_pt_utils import LabelSmoother

    recogniser = for_training(generation={"label_smoothing_factor": 0.1})
    recogniser.model.eval()
    batch = batch_of(recogniser, training=True)
    losses = recogniser.losses(recogniser.model, batch)
    output = recogniser.model(**batch.inputs, labels=batch.labels)
    smoothed = LabelSmoother(epsilon=0.1)(output, batch.labels)
    torch.testing.assert_close(losses.sum() / recogniser.num_items(batch), smoothed)
    with torch.inference_mode():
        said = recogniser.recognise(recogniser.model, batch, with_loss=True)
    assert sum(row.loss for row in said) / recogniser.num_items(batch) == pytest.approx(output.loss.item(), rel=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_loss_and_text_do_not_depend_on_the_batch(name: str):
    recogniser = loaded(name, language="tr")
    with torch.inference_mode():
        together = recogniser.recognise(recogniser.model, batch_of(recogniser), with_loss=True)
        for clip, said in zip(CLIPS, together, strict=True):
            (alone,) = recogniser.recognise(recogniser.model, batch_of(recogniser, [clip]), with_loss=True)
            assert alone.loss == pytest.approx(said.loss, rel=1e-5)
            assert (alone.text, alone.num_items) == (said.text, said.num_items)


def assert_plain_generate_says_the_same(folder: str, *, max_length: int, num_beams: int) -> list[str]:
    generation = {"generation_max_length": max_length, "generation_num_beams": num_beams}
    recogniser = loaded(folder, language="tr", generation=generation)
    plain = AutoModelForSpeechSeq2Seq.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    with torch.inference_mode():
        said = recogniser.recognise(recogniser.model, batch_of(recogniser), with_loss=True)
        for (duration_s, _), row in zip(CLIPS, said, strict=True):
            features = processor(voice(duration_s), sampling_rate=16_000, return_tensors="pt").input_features
            ids = plain.generate(features, language="tr", task="transcribe", max_length=max_length, num_beams=num_beams)
            assert processor.batch_decode(ids, skip_special_tokens=True) == [row.text]
    return [row.text for row in said]


@pytest.mark.parametrize("num_beams", [1, 3])
def test_whispers_text_is_that_of_plain_generate(num_beams: int):
    texts = assert_plain_generate_says_the_same(checkpoint(WITHOUT_TIMESTAMPS), max_length=12, num_beams=num_beams)
    assert all(texts) or num_beams > 1


def test_a_clip_costs_one_generation_even_where_random_weights_would_write_timestamps(monkeypatch: pytest.MonkeyPatch):
    from transformers.generation.utils import GenerationMixin

    calls: list[int] = []
    original = GenerationMixin.generate

    def counted(model: Any, *args: Any, **options: Any) -> Any:
        calls.append(1)
        return original(model, *args, **options)

    recogniser = whisper()
    first_timestamp = recogniser.model.generation_config.no_timestamps_token_id + 1
    with torch.no_grad():
        recogniser.model.get_output_embeddings().weight[first_timestamp:] *= 100
    monkeypatch.setattr(GenerationMixin, "generate", counted)
    with torch.inference_mode():
        for clip in CLIPS:
            recogniser.recognise(recogniser.model, batch_of(recogniser, [clip]), with_loss=False)
        assert len(calls) == len(CLIPS)
        together = recogniser.recognise(recogniser.model, batch_of(recogniser), with_loss=False)
    assert len(calls) == len(CLIPS) + 1 and all("<|" not in row.text for row in together)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_joined_models_text_is_that_of_plain_generate(num_beams: int):
    recogniser = joined(
        encoder="facebook/wav2vec2-large-xlsr-53",
        generation={"generation_max_length": 12, "generation_num_beams": num_beams},
    )
    batch = batch_of(recogniser)
    with torch.inference_mode():
        said = recogniser.recognise(recogniser.model, batch, with_loss=True)
        ids = recogniser.model.generate(**batch.inputs)
    assert "attention_mask" in batch.inputs
    assert [row.text for row in said] == recogniser.tokenizer.batch_decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("name", [WITHOUT_TIMESTAMPS, JOINED])
def test_the_encoder_runs_once_for_loss_and_text(name: str):
    recogniser = loaded(name, language="tr")
    calls: list[int] = []
    hook = recogniser.model.get_encoder().register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():
        recogniser.recognise(recogniser.model, batch_of(recogniser), with_loss=True)
    hook.remove()
    assert calls == [1]


def test_labels_begin_behind_the_start_token_and_end():
    recogniser = joined()
    ids = recogniser.encode("bir iki")
    assert recogniser.tokenizer.decode(ids) == "bir iki</s>"
    assert recogniser.encode("") == [recogniser.tokenizer.eos_token_id]


def test_a_tokenizer_that_writes_no_end_is_given_one():
    recogniser = joined(decoder="gpt2")
    assert recogniser.tokenizer.decode(recogniser.encode("bir")) == "bir<|endoftext|>"


def test_items_are_tokens():
    recogniser = whisper()
    batch = batch_of(recogniser)
    assert recogniser.num_items(batch) == sum(batch.label_lengths) == int((batch.labels != -100).sum())


def test_a_reference_longer_than_the_decoder_has_no_loss_and_spoils_no_other():
    recogniser = whisper()
    assert recogniser.max_labels == 448
    batch = batch_of(recogniser, [*CLIPS[:2], (1.0, "a" * 450)])
    with torch.inference_mode():
        said = recogniser.recognise(recogniser.model, batch, with_loss=True)
        short = recogniser.recognise(recogniser.model, batch_of(recogniser, CLIPS[:2]), with_loss=True)
    assert said[2].loss != said[2].loss
    assert [row.loss for row in said[:2]] == pytest.approx([row.loss for row in short], rel=1e-5)


def test_a_dummy_batch_has_a_loss_of_0_with_gradients():
    for recogniser in (for_training(), for_training(encoder_context=1.0), for_training(JOINED)):
        losses = recogniser.losses(recogniser.model, batch_of(recogniser, [], training=True))
        assert losses.tolist() == [0.0]
        losses.sum().backward()
        norms = {float(p.grad.abs().sum()) for p in recogniser.model.parameters() if p.grad is not None}
        assert norms == {0.0}


def test_a_clip_over_30_s_leaves_a_training_batch_by_name():
    recogniser = for_training()
    assert recogniser.max_duration_s == 30.0
    batch = batch_of(recogniser, [(1.0, "bir"), (31.0, "iki")], training=True)
    assert [row.reason for row in batch.skipped] == ["too_long"]
    assert len(batch) == 1


def test_a_clip_over_30_s_is_never_cut_in_training():
    recogniser = for_training()
    recogniser.training_input = recogniser.model_input
    batch = batch_of(recogniser, [(31.0, "iki")], training=True)
    with pytest.raises(ModelError, match="31 s got into training"):
        recogniser.losses(recogniser.model, batch)


def test_short_inputs_are_long_enough_for_specaugment():
    recogniser = for_training(JOINED)
    clip = batch_of(recogniser, [(0.05, "a")], training=True)
    assert clip.inputs["input_values"].shape[1] == recogniser.min_input_length
    recogniser.losses(recogniser.model, clip).sum().backward()  # transformers raises where a span doesn't fit
    assert for_training().min_input_length == 0


def test_autocast_covers_what_runs_outside_the_models_forward():
    recogniser = for_training(encoder_context=1.0)
    recogniser.autocast = lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    batch = batch_of(recogniser, training=True)
    features = batch.inputs["input_features"][:, :, :300]
    seen: list[torch.dtype] = []
    hook = recogniser.model.model.encoder.layers[0].fc1.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    recogniser._encoded_frames(features)
    hook.remove()
    assert seen == [torch.bfloat16]


@pytest.mark.parametrize("name", [WITHOUT_TIMESTAMPS, JOINED])
def test_recognition_is_in_one_number_format_whether_or_not_the_trainer_prepared_the_model(name: str):
    recogniser = loaded(name, language="tr")
    recogniser.autocast = lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    with torch.inference_mode():
        said = recogniser.recognise(recogniser.model, batch_of(recogniser), with_loss=True)
    plain = loaded(name, language="tr")
    losses = plain.losses(plain.model, batch_of(plain)).tolist()
    assert [row.loss for row in said] == pytest.approx(losses, rel=0.02)


def test_a_batch_on_its_way_keeps_what_recognition_needs():
    batch = batch_of(whisper())
    assert dataclasses.replace(batch).input_lengths == batch.to(torch.device("cpu")).input_lengths


def test_two_processes_sum_the_gradients_of_one(server: ForkServer):
    """DDP over gloo; a short context, several groups on one process and none on the other; accumulation. Then FSDP."""
    script = Path(__file__).with_name("two_processes.py")
    ended = server.run([checkpoint(WITHOUT_TIMESTAMPS)], script=script, processes=2)
    assert ended.codes == [0, 0] and "gradients agree" in ended.output, ended.output[-3000:]
