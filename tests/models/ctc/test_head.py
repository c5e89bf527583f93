"""A new CTC head starts from how often each label comes; a trained head is kept as it is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from trained_folders import ctc_folder

from speechtune.models.ctc.head import BLANK_PRIOR, find_head, label_log_prior, start_from_prior
from speechtune.models.ctc.recogniser import CtcRecogniser
from speechtune.models.ctc.setup import ctc_for_training
from speechtune.models.loading import model_config_of
from speechtune.options.table import Settings

# "|" 0, "a" 1, "b" 2, "[UNK]" 3, "[PAD]" 4
TEXTS = ["aaab a", "aab"]
SIZES: dict[str, Any] = {
    "model_type": "wav2vec2",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}


def for_training(out: Path, *, texts: list[str] = TEXTS, seed: int = 0, **options: Any) -> CtcRecogniser:
    torch.manual_seed(seed)
    settings = Settings(**{name: str(v) if isinstance(v, Path) else v for name, v in options.items()})
    config = model_config_of(settings)
    return ctc_for_training(settings, config, vocabulary_texts=texts, eval_texts=[], folder=out, where="corpus/tr")


def prior_of(recogniser: CtcRecogniser) -> torch.Tensor:
    return recogniser.model.lm_head.bias.detach().softmax(-1)


# ---- the prior


def test_the_blank_has_exactly_its_prior_and_the_labels_share_the_rest_by_frequency():
    prior = np.exp(label_log_prior([0, 1, 1, 1, 1, 2, 2], num_labels=5, blank=4))
    assert prior[4] == pytest.approx(BLANK_PRIOR, abs=1e-15) and prior.sum() == pytest.approx(1.0)
    assert prior[:4] / prior[3] == pytest.approx([2.0, 5.0, 3.0, 1.0])  # each counted once more than it occurs


def test_blanks_in_the_labels_change_nothing():
    assert np.array_equal(
        label_log_prior([1, 4, 4], num_labels=5, blank=4), label_log_prior([1], num_labels=5, blank=4)
    )


def test_without_text_the_labels_share_the_rest_equally():
    prior = np.exp(label_log_prior([], num_labels=5, blank=0, blank_prior=0.6))
    assert prior == pytest.approx([0.6, 0.1, 0.1, 0.1, 0.1])


# ---- which heads


def test_a_model_from_random_weights_starts_from_the_prior(tmp_path: Path):
    recogniser = for_training(tmp_path, model_config=SIZES)
    prior = prior_of(recogniser)
    assert prior[recogniser.blank].item() == pytest.approx(BLANK_PRIOR, abs=1e-6)
    assert torch.allclose(prior[:4] / prior[3], torch.tensor([2.0, 7.0, 3.0, 1.0]))
    assert recogniser.model.lm_head.weight.std().item() == pytest.approx(0.1 * 0.02, rel=0.3)


def test_the_head_of_a_pretrained_encoder_starts_from_the_prior_and_the_encoder_stays(tmp_path: Path):
    from transformers import AutoModel, AutoModelForCTC

    trained = ctc_folder(tmp_path / "encoder")
    encoder = AutoModelForCTC.from_pretrained(trained).wav2vec2
    encoder.save_pretrained(trained)  # without the head
    recogniser = for_training(tmp_path / "out", model_name_or_path=trained)
    assert prior_of(recogniser)[recogniser.blank].item() == pytest.approx(BLANK_PRIOR, abs=1e-6)
    before, after = AutoModel.from_pretrained(trained).state_dict(), recogniser.model.wav2vec2.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("letters", ["abcde", "xy"])  # another number of labels, and the same number of other labels
def test_a_replaced_head_starts_from_the_prior(tmp_path: Path, letters: str):
    trained = ctc_folder(tmp_path / "trained", letters=letters)
    recogniser = for_training(tmp_path / "out", model_name_or_path=trained)
    assert prior_of(recogniser)[recogniser.blank].item() == pytest.approx(BLANK_PRIOR, abs=1e-6)


def test_the_head_of_a_new_language_starts_from_the_prior(tmp_path: Path):
    mms = ctc_folder(tmp_path / "mms", letters="ab", languages=("swe",))
    recogniser = for_training(tmp_path / "out", model_name_or_path=mms, target_language="tur")
    assert prior_of(recogniser)[recogniser.blank].item() == pytest.approx(BLANK_PRIOR, abs=1e-6)


@pytest.mark.parametrize("own_tokenizer", [True, False])
def test_a_trained_head_for_the_same_letters_is_kept(tmp_path: Path, own_tokenizer: bool):
    from safetensors.torch import load_file

    trained = ctc_folder(tmp_path / "trained", letters="ab")
    given = {"tokenizer_name_or_path": trained} if own_tokenizer else {}
    head = for_training(tmp_path / "out", model_name_or_path=trained, **given).model.lm_head
    before = load_file(trained / "model.safetensors")
    assert torch.equal(head.weight, before["lm_head.weight"]) and torch.equal(head.bias, before["lm_head.bias"])


def test_a_stream_has_no_texts_so_only_the_blank_is_set(tmp_path: Path):
    tokenizer = ctc_folder(tmp_path / "tokenizer", letters="ab")
    recogniser = for_training(tmp_path / "out", texts=[], model_config=SIZES, tokenizer_name_or_path=tokenizer)
    assert torch.allclose(prior_of(recogniser), torch.tensor([0.0625] * 4 + [BLANK_PRIOR]))


def test_a_head_that_is_a_convolution_starts_from_the_prior_and_one_without_bias_stays():
    convolution = torch.nn.Conv1d(3, 5, kernel_size=1)
    start_from_prior(find_head(SimpleNamespace(ctc_head=convolution)), ["1"], encode=lambda text: [1], blank=0)
    assert convolution.bias.softmax(-1)[0].item() == pytest.approx(BLANK_PRIOR, abs=1e-6)
    linear = torch.nn.Linear(3, 5, bias=False)
    before = linear.weight.clone()
    start_from_prior(linear, ["1"], encode=lambda text: [1], blank=0)
    start_from_prior(None, ["1"], encode=lambda text: [1], blank=0)
    assert torch.equal(linear.weight, before)


# ---- what it is for


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_first_step_has_a_small_loss_and_a_small_gradient(tmp_path: Path, seed: int):
    """Eight frames a letter, about as in speech: 1.6 per label instead of 8.5, gradient norm 3 to 4 instead of 10."""
    recogniser = for_training(tmp_path, model_config=SIZES, seed=seed, texts=["aaab abba"])
    loss, norm = first_step(recogniser)
    torch.nn.init.normal_(recogniser.model.lm_head.weight, std=0.02)
    torch.nn.init.zeros_(recogniser.model.lm_head.bias)
    loss_before, norm_before = first_step(recogniser)
    assert loss < 2.0 and loss < 0.25 * loss_before
    assert norm < 0.5 * norm_before


def first_step(recogniser: CtcRecogniser) -> tuple[float, float]:
    """The loss per label of one batch and the norm of its gradient."""
    model = recogniser.model.eval()
    model.zero_grad()
    labels = torch.tensor([list(recogniser.encode("aaab abba"))])
    samples = torch.randn(1, 72 * 320 + 80, generator=torch.Generator().manual_seed(0))
    batch = SimpleNamespace(
        inputs={"input_values": samples}, labels=labels, label_lengths=[labels.shape[1]],
        input_lengths=np.array([samples.shape[1]]),
    )  # fmt: skip
    logits = model(**batch.inputs).logits
    loss = recogniser._ctc(logits, batch)[0]  # type: ignore[arg-type]
    loss.backward()
    return loss.item(), float(torch.nn.utils.clip_grad_norm_(model.parameters(), float("inf")))
