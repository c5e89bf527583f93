"""CTC: the loss is torch's, on the real frames; text comes from the real frames; what doesn't fit is infinite."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import audio_files
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trained_folders import ctc_folder

from speechtune.errors import ModelError
from speechtune.models.batch import Batch
from speechtune.models.ctc.recogniser import CtcRecogniser
from speechtune.models.ctc.setup import load_ctc
from speechtune.models.ctc.tokenizer import ctc_tokenizer
from speechtune.models.frames import min_ctc_frames, num_frames
from speechtune.models.inputs import WaveformInput
from speechtune.options.table import Settings
from speechtune.types import Utterance

RATE = 16_000
BLANK = 7  # of "|abcde[UNK][PAD]"
CLIPS = [(1.0, "abba"), (0.4, "e d"), (1.7, "cab abc")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ctc_folder(tmp_path_factory.mktemp("model") / "run")


def opened(folder: Path, **options: Any) -> CtcRecogniser:
    recogniser = load_ctc(Settings(model_name_or_path=str(folder), **options))
    recogniser.model.eval()
    return recogniser


@pytest.fixture(scope="module")
def recogniser(folder: Path) -> CtcRecogniser:
    return opened(folder)


def batch_of(recogniser: CtcRecogniser, clips: Any = tuple(CLIPS), *, min_length: int = 0) -> Batch:
    """A batch of (seconds, text), as BatchMaker makes it."""
    model_input = recogniser.model_input
    features = [model_input.features(audio_files.voice(s, RATE, seed=round(s * 1000))) for s, _ in clips]
    labels = [list(recogniser.encode(text)) for _, text in clips]
    padded = np.full((len(labels), max(map(len, labels))), -100, np.int64)
    for row, ids in zip(padded, labels, strict=True):
        row[: len(ids)] = ids
    return Batch(
        utterances=[Utterance(f"id{n}", "", "", text, s, "") for n, (s, text) in enumerate(clips)],
        texts=[text for _, text in clips],
        rows=list(range(len(clips))),
        inputs={k: torch.from_numpy(v) for k, v in model_input.pad(features, min_length=min_length).items()},
        labels=torch.from_numpy(padded),
        label_lengths=[len(ids) for ids in labels],
        input_lengths=[len(f) for f in features],
        seconds=sum(s for s, _ in clips),
    )


class Scripted(torch.nn.Module):
    """A model with fixed logits."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, **inputs: torch.Tensor) -> Any:
        return SimpleNamespace(logits=self.logits)


# ---- losses


def one_by_one(recogniser: CtcRecogniser, batch: Batch) -> list[float]:
    """What torch's ctc_loss says of each utterance's own frames and labels, nothing padded."""
    logits = recogniser.model(**batch.inputs).logits
    frames = num_frames(recogniser.model.config, batch.input_lengths).tolist()
    return [
        float(
            torch.nn.functional.ctc_loss(
                logits[n, :length].log_softmax(-1)[:, None],
                batch.labels[n : n + 1, :size],
                torch.tensor([length]),
                torch.tensor([size]),
                blank=BLANK,
                reduction="sum",
            )
        )
        for n, (length, size) in enumerate(zip(frames, batch.label_lengths, strict=True))
    ]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_losses_are_torchs_on_the_real_frames_and_labels(folder: Path, reduction: str):
    recogniser = opened(folder, ctc_loss_reduction=reduction)
    batch = batch_of(recogniser)
    with torch.no_grad():
        found, expected = recogniser.losses(recogniser.model, batch), one_by_one(recogniser, batch)
    if reduction == "mean":
        expected = [loss / len(text) for loss, (_, text) in zip(expected, CLIPS, strict=True)]
    assert found.dtype == torch.float32 and found.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_steps_loss_and_gradient_are_those_of_the_original(folder: Path, reduction: str):
    ours, original = (opened(folder, ctc_loss_reduction=reduction) for _ in range(2))
    original.model.config.ctc_loss_reduction = reduction
    batch = batch_of(ours)
    loss = ours.losses(ours.model, batch).sum() / max(ours.num_items(batch), 1)
    expected = original.model(**batch.inputs, labels=batch.labels).loss
    loss.backward(), expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(ours.model.lm_head.weight.grad, original.model.lm_head.weight.grad)


def test_losses_do_not_depend_on_what_shares_the_batch(recogniser: CtcRecogniser):
    with torch.no_grad():
        together = recogniser.losses(recogniser.model, batch_of(recogniser)).tolist()
        alone = [float(recogniser.losses(recogniser.model, batch_of(recogniser, [clip]))) for clip in CLIPS]
        padded = recogniser.losses(recogniser.model, batch_of(recogniser, min_length=3 * RATE)).tolist()
    assert together == pytest.approx(alone, rel=1e-4) and padded == pytest.approx(alone, rel=1e-4)


def test_losses_of_half_precision_logits_are_summed_in_float32(recogniser: CtcRecogniser):
    batch = batch_of(recogniser)
    logits = recogniser.model(**batch.inputs).logits.detach()
    half, full = Scripted(logits.bfloat16()), Scripted(logits.bfloat16().float())
    losses = recogniser.losses(half, batch)
    assert losses.dtype == torch.float32 and torch.equal(losses, recogniser.losses(full, batch))


def test_an_empty_transcript_costs_a_blank_in_every_frame(recogniser: CtcRecogniser):
    batch = batch_of(recogniser, [(0.5, ""), (0.5, "a")])
    with torch.no_grad():
        loss = float(recogniser.losses(recogniser.model, batch)[0])
        blanks = recogniser.model(**batch.inputs).logits[0].log_softmax(-1)[:, BLANK]
    assert batch.label_lengths == [0, 1] and loss == pytest.approx(-float(blanks.sum()), rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from("ab "), min_size=1, max_size=12).map("".join), st.integers(1, 14))
def test_a_loss_is_infinite_exactly_where_the_labels_do_not_fit_the_frames(recogniser, text: str, frames: int):
    samples = 400 + 320 * (frames - 1)
    fits = min_ctc_frames(recogniser.encode(text)) <= frames
    batch = batch_of(recogniser, [(samples / RATE, text), (1.0, "a")])
    with torch.no_grad():
        loss, other = recogniser.losses(Scripted(torch.zeros(2, 49, 8)), batch).tolist()
    assert math.isfinite(loss) is fits and math.isfinite(other)
    if not fits:
        assert loss == math.inf


def test_zero_infinity_counts_what_does_not_fit_as_nothing(folder: Path):
    recogniser = opened(folder, ctc_zero_infinity=True)
    batch = batch_of(recogniser, [(0.06, "abcabc"), (1.0, "ab")])
    losses = recogniser.losses(recogniser.model, batch)
    losses.sum().backward()
    assert losses[0].item() == 0 < losses[1].item()
    assert all(bool(p.grad.isfinite().all()) for p in recogniser.model.parameters() if p.grad is not None)


def test_a_dummy_batch_has_a_loss_of_zero_with_a_gradient(recogniser: CtcRecogniser):
    silence = torch.zeros(1, RATE)
    batch = Batch([], [], [], {"input_values": silence}, torch.zeros((1, 0), dtype=torch.int64), [0], [RATE], 0.0)
    recogniser.model.zero_grad()
    losses = recogniser.losses(recogniser.model, batch)
    losses.sum().backward()
    assert losses.tolist() == [0.0] and recogniser.num_items(batch) == 0
    assert not bool(recogniser.model.lm_head.weight.grad.any())
    recogniser.model.zero_grad()


# ---- text


def scripted(recogniser: CtcRecogniser, clips: Any, *, of_padding: str) -> tuple[Scripted, Batch]:
    """Logits that say each clip's text in its real frames, a blank after each letter, and `of_padding` after them."""
    batch = batch_of(recogniser, clips)
    frames = num_frames(recogniser.model.config, batch.input_lengths).tolist()
    letters = "|abcde"
    ids = np.full((len(clips), max(frames) + 3), letters.index(of_padding))
    for row, (_, text), length in zip(ids, clips, frames, strict=True):
        row[:length] = BLANK
        row[: 2 * len(text) : 2] = [letters.index(char.replace(" ", "|")) for char in text]
    return Scripted(10 * torch.nn.functional.one_hot(torch.from_numpy(ids), 8).float()), batch


def test_padding_frames_are_never_in_the_text(recogniser: CtcRecogniser):
    model, batch = scripted(recogniser, CLIPS, of_padding="e")
    found = recogniser.recognise(model, batch, with_loss=False)
    assert [said.text for said in found] == [text for _, text in CLIPS]


def test_each_utterance_is_recognised_with_its_loss(recogniser: CtcRecogniser):
    batch = batch_of(recogniser)
    with torch.inference_mode():
        found = recogniser.recognise(recogniser.model, batch, with_loss=True)
        losses = recogniser.losses(recogniser.model, batch).tolist()
    assert [said.loss for said in found] == losses and {said.num_items for said in found} == {1}
    without = recogniser.recognise(recogniser.model, batch, with_loss=False)
    assert all(math.isnan(said.loss) for said in without)
    assert [said.text for said in without] == [said.text for said in found]


def test_a_clip_without_a_frame_is_empty_text_and_cannot_be_emitted(recogniser: CtcRecogniser):
    batch = batch_of(recogniser, [(399 / RATE, "a"), (1.0, "a")])
    with torch.inference_mode():
        short, long = recogniser.recognise(recogniser.model, batch, with_loss=True)
    assert (short.text, short.loss) == ("", math.inf) and math.isfinite(long.loss)


def test_logits_fewer_than_the_counted_frames_are_taken_as_they_are(recogniser: CtcRecogniser):
    batch = batch_of(recogniser, [(1.0, "ab")])
    logits = torch.zeros(1, 40, 8)
    logits[0, :, 1] = 5
    found = recogniser.recognise(Scripted(logits), batch, with_loss=True)
    assert found[0].text == "a" and math.isfinite(found[0].loss)


# ---- labels


def test_labels_are_the_tokenizers_and_strangers_are_unknown(recogniser: CtcRecogniser):
    for text in ("abba", "a b", "", "açb"):
        assert list(recogniser.encode(text)) == recogniser.tokenizer(text).input_ids
    assert recogniser.encode("ç") == [6]


@pytest.mark.parametrize(("letters", "is_upper"), [("ABC", True), ("abc", False), ("ABCa", False)])
def test_a_vocabulary_of_capitals_takes_text_of_any_case(letters: str, is_upper: bool, tmp_path: Path):
    recogniser = opened(ctc_folder(tmp_path / "run", letters=letters))
    assert recogniser.upper_case is is_upper
    capital = 1 + letters.index("A") if "A" in letters else None
    expected = [capital] if is_upper else [1 + letters.index("a")]
    assert list(recogniser.encode("a")) == expected


def phones_recogniser(folder: Path, **how: Any) -> CtcRecogniser:
    tokens = {"unk_token": "[UNK]", "pad_token": "[PAD]", "word_delimiter_token": "|"}
    names = ["|", "m", "ɛ", "d", "ø", "tʃ", "[UNK]", "[PAD]"]
    tokenizer = ctc_tokenizer({name: n for n, name in enumerate(names)}, folder, phones=True, **tokens)
    model = opened(ctc_folder(folder / "run")).model
    from transformers import Wav2Vec2FeatureExtractor

    return CtcRecogniser(model, tokenizer=tokenizer, model_input=WaveformInput(Wav2Vec2FeatureExtractor()), **how)


def test_words_of_phones_are_joined_and_their_phones_stay_apart(tmp_path: Path):
    recogniser = phones_recogniser(tmp_path, phone_words=True)
    assert recogniser.words_of("m ɛ | tʃ ø") == "mɛ tʃø"
    assert recogniser.phones_of("m ɛ | tʃ ø").split() == ["m", "ɛ", "tʃ", "ø"]
    assert recogniser.encode("m ɛ | tʃ ø") == [1, 2, 0, 5, 4]
    assert not recogniser.upper_case


def test_phones_without_words_stay_as_they_are(tmp_path: Path):
    recogniser = phones_recogniser(tmp_path)
    assert recogniser.words_of("m ɛ") == recogniser.phones_of("m ɛ") == "m ɛ"


# ---- lengths


def test_frames_of_a_duration_are_those_of_its_samples(recogniser: CtcRecogniser):
    frames = recogniser.frames_of()
    assert frames is not None
    assert [frames(s) for s in (0, 399 / RATE, 400 / RATE, 719 / RATE, 720 / RATE, 1.0)] == [0, 0, 1, 1, 2, 49]


def test_the_shortest_input_gives_a_frame_or_a_span_of_specaugment(folder: Path):
    recogniser = opened(folder)
    config = recogniser.model.config
    for mask_prob, span in ((0.0, 10), (0.1, 10), (0.1, 2)):
        config.mask_time_prob, config.mask_time_length = mask_prob, span
        length = recogniser.min_input_length
        need = span + 1 if mask_prob else 1
        assert num_frames(config, [length])[0] >= need > num_frames(config, [length // 2])[0]
        recogniser.model.train()
        with torch.no_grad():
            recogniser.model(input_values=torch.zeros(1, length))  # or transformers raises


def test_masks_far_longer_than_the_clips_cost_no_memory(folder: Path):
    recogniser = opened(folder)
    config = recogniser.model.config
    config.mask_time_prob, config.mask_time_length = 0.5, 100_000
    assert recogniser.min_input_length <= 20 * RATE
    recogniser.model.train()
    batch = batch_of(recogniser, min_length=recogniser.min_input_length)
    assert bool(recogniser.losses(recogniser.model, batch).isfinite().all())


def test_a_stride_of_which_no_frame_comes_is_a_message(folder: Path):
    recogniser = opened(folder)
    recogniser.model.config.conv_stride = [10**6] * len(recogniser.model.config.conv_stride)
    recogniser.model.config.conv_kernel = [10**6] * len(recogniser.model.config.conv_stride)
    with pytest.raises(ModelError, match="Check conv_stride"):
        _ = recogniser.min_input_length


def test_a_saved_processor_is_one_that_plain_transformers_loads(recogniser: CtcRecogniser, tmp_path: Path):
    from transformers import AutoFeatureExtractor, AutoProcessor

    recogniser.save_processor(tmp_path)
    assert AutoProcessor.from_pretrained(tmp_path).tokenizer.get_vocab() == recogniser.tokenizer.get_vocab()
    assert AutoFeatureExtractor.from_pretrained(tmp_path).sampling_rate == RATE
    assert (tmp_path / "preprocessor_config.json").exists()
