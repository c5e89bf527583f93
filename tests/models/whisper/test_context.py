"""Whisper's encoder on less than 30 s: the same layers, remembered margins, independent of the batch."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import tiny_seq2seq
import torch
from tiny_seq2seq import CLIPS, batch_of, for_training, loaded, whisper
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForSpeechSeq2Seq

from speechtune.errors import OptionError
from speechtune.models.whisper.context import EncoderContext, choose_context, encode_frames, remember_context


@pytest.mark.parametrize(
    ("margin_s", "clip_frames", "frames"),
    [
        (None, 100, 3000),
        (0.0, 100, 100),
        (0.0, 101, 200),
        (1.0, 100, 200),
        (0.5, 130, 200),
        (8.0, 2190, 3000),
        (8.0, 2999, 3000),
    ],
)
def test_a_context_is_the_clip_and_its_margin_in_whole_seconds(margin_s: float | None, clip_frames: int, frames: int):
    assert EncoderContext(margin_s).frames(clip_frames) == frames


def test_clips_of_equal_context_form_a_group():
    assert EncoderContext(1.0).groups([150, 90, 300, 199]) == [(200, [1]), (300, [0, 3]), (400, [2])]
    assert EncoderContext(None).groups([150, 90]) == [(3000, [0, 1])]


def config(**tuned: object):
    model_config = AutoConfig.from_pretrained(tiny_seq2seq.checkpoint("openai/whisper-small"))
    for name, value in tuned.items():
        setattr(model_config, name, value)
    return model_config


def test_the_default_is_the_whole_30_s():
    assert choose_context(None, config(), training=False) == EncoderContext(None)
    assert choose_context("full", config(), training=False) == EncoderContext(None)


def test_8_s_need_no_tuning_and_less_does():
    assert choose_context(8.0, config(), training=False).margin_s == 8.0
    with pytest.raises(OptionError, match=r"--encoder_context 7.5: .*not tuned.*\nGive 8 or more"):
        choose_context(7.5, config(), training=False)


def test_a_short_margin_can_be_forced_and_is_how_training_tunes(caplog: pytest.LogCaptureFixture):
    assert choose_context(1.0, config(), training=False, force=True).margin_s == 1.0
    assert "may repeat itself (--force)" in caplog.text
    with caplog.at_level("INFO", logger="speechtune"):
        assert choose_context(1.0, config(), training=True).margin_s == 1.0
    assert "this training tunes it for 1 s" in caplog.text


def test_a_tuned_margin_is_used_from_then_on():
    tuned = config(speechtune_encoder_context=1.0)
    assert choose_context(None, tuned, training=False).margin_s == 1.0
    assert choose_context(3.0, tuned, training=False).margin_s == 3.0
    assert choose_context("full", tuned, training=False).margin_s is None
    with pytest.raises(OptionError, match="tuned with 1 s"):
        choose_context(0.0, tuned, training=False)


def test_the_margin_travels_in_config_json_and_plain_transformers_ignores_it(tmp_path: Path):
    recogniser = for_training(encoder_context=1.0)
    recogniser.model.save_pretrained(tmp_path)
    recogniser.save_processor(tmp_path)
    assert loaded(str(tmp_path)).context == EncoderContext(1.0)
    plain = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path)
    features = batch_of(for_training()).inputs["input_features"]
    with torch.no_grad():
        assert plain.generate(features, max_new_tokens=2).shape[0] == 3


def test_training_with_30_s_leaves_the_config_as_it_was_or_says_full():
    assert not hasattr(for_training().model.config, "speechtune_encoder_context")
    tuned = config(speechtune_encoder_context=1.0)
    remember_context(tuned, EncoderContext(None))
    assert choose_context(None, tuned, training=False).margin_s is None


def test_3000_frames_are_the_encoders_own_output_bit_for_bit():
    model = whisper().model
    features = torch.randn(2, 80, 3000)
    with torch.no_grad():
        assert torch.equal(encode_frames(model.model.encoder, features), model.model.encoder(features)[0])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_dropout_layerdrop_and_checkpointing_happen_as_in_the_encoder(checkpointing: bool):
    encoder = for_training().model.model.encoder
    encoder.dropout, encoder.layerdrop = 0.3, 0.5
    for layer in encoder.layers:
        layer.dropout = 0.3
        layer.gradient_checkpointing = checkpointing
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
    features = torch.randn(1, 80, 3000, requires_grad=True)
    outputs, gradients = [], []
    for run in (lambda: encode_frames(encoder, features), lambda: encoder(features)[0]):
        torch.manual_seed(3)
        outputs.append(run())
        gradients.append(torch.autograd.grad(outputs[-1].square().sum(), features)[0])
    assert torch.equal(*outputs)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("margin_s", [1.0, 0.0])
def test_text_and_loss_of_a_clip_do_not_depend_on_its_batch(margin_s: float):
    recogniser = whisper(encoder_context=margin_s, force=True)
    with torch.inference_mode():
        together = recogniser.recognise(recogniser.model, batch_of(recogniser), with_loss=True)
        for clip, said in zip(CLIPS, together, strict=True):
            (alone,) = recogniser.recognise(recogniser.model, batch_of(recogniser, [clip]), with_loss=True)
            assert alone.text == said.text
            assert alone.loss == pytest.approx(said.loss, rel=1e-5)


def test_training_losses_come_in_the_order_of_the_batch_and_are_each_clips_own():
    recogniser = for_training(encoder_context=1.0)
    recogniser.model.eval()
    together = recogniser.losses(recogniser.model, batch_of(recogniser, training=True))
    alone = [recogniser.losses(recogniser.model, batch_of(recogniser, [clip], training=True)) for clip in CLIPS]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_a_margin_that_fills_30_s_gives_the_plain_models_loss():
    short, full = for_training(encoder_context=29.0), for_training(encoder_context="full")
    for recogniser in (short, full):
        recogniser.model.eval()
    assert torch.equal(
        short.losses(short.model, batch_of(short, training=True)),
        full.losses(full.model, batch_of(full, training=True)),
    )


def test_a_frozen_encoder_gets_no_gradient_and_no_graph():
    recogniser = for_training(encoder_context=1.0, freeze_encoder=True)
    batch = batch_of(recogniser, training=True)
    assert not recogniser._encoded_frames(batch.inputs["input_features"][:, :, :200]).requires_grad
    recogniser.losses(recogniser.model, batch).sum().backward()
    assert all(p.grad is None for p in recogniser.model.model.encoder.parameters())
    assert recogniser.model.model.decoder.layers[0].fc1.weight.grad.abs().sum() > 0


def test_specaugment_masks_short_contexts_too():
    recogniser = for_training(encoder_context=1.0, apply_spec_augment=True)
    batch = batch_of(recogniser, [(3.0, "bir")], training=True)
    before = batch.inputs["input_features"].clone()
    recogniser.losses(recogniser.model, batch)
    seen: list[torch.Tensor] = []
    hook = recogniser.model.model.encoder.conv1.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    recogniser.losses(recogniser.model, batch)
    hook.remove()
    masked = (seen[0] == 0).all(1)[0]
    assert 10 <= int(masked.sum()) < 100
    assert torch.equal(seen[0][:, :, ~masked], before[:, :, : seen[0].shape[2]][:, :, ~masked])


def test_sharded_training_takes_the_whole_30_s():
    with pytest.raises(OptionError, match="--encoder_context with --fsdp"):
        for_training(encoder_context=1.0, generation={"fsdp": ["full_shard"]})


def test_a_frozen_encoder_kept_also_needs_its_weights_whole():
    with pytest.raises(OptionError, match="--encoder_cache with --fsdp"):
        for_training(encoder_cache=True, freeze_encoder=True, generation={"fsdp": ["full_shard"]})


def test_other_models_have_no_such_context():
    with pytest.raises(OptionError, match="--encoder_context is for Whisper"):
        for_training("facebook/wav2vec2-base+facebook/bart-base", encoder_context=8.0)
