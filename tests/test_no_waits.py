"""A training step asks no tensor for its values, or the host would wait for the GPU until all work before it is done.

Tensors on torch's meta device have no values, so whatever asks for one fails there, and is found without a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_families
import tiny_seq2seq
import torch
from trained_folders import ctc_folder

from speechtune.models.batch import Batch
from speechtune.models.ctc.setup import load_ctc
from speechtune.models.encoder.attention import use_own_attention
from speechtune.models.encoder.padding import make_padding_invariant
from speechtune.models.encoder.spec_augment import draw_masks_on_host
from speechtune.options.table import Settings
from speechtune.types import Utterance

META = torch.device("meta")
# "eager" attention, which a user has to ask for, looks at its mask; sew-d compares tensors of two devices on "meta".
WAITING = {"hubert layer norm", "sew-d"}


@pytest.mark.parametrize("name", [name for name in tiny_families.FAMILIES if name not in WAITING])
def test_no_family_waits(name: str):
    model = tiny_families.augmented_model(name)
    real = tiny_families.lengths_for(model)
    inputs = tiny_families.batch(model, tiny_families.utterances(model, real))
    make_padding_invariant(model)
    use_own_attention(model)
    lengths = draw_masks_on_host(model)
    model.to(META)
    with lengths.set_to(torch.tensor(real)):
        logits = model(**{key: value.to(META) for key, value in inputs.items()}).logits
    logits.sum().backward()


def test_waiting_is_noticed():
    model = tiny_families.augmented_model("wav2vec2 group norm")
    inputs = tiny_families.batch(model, tiny_families.utterances(model, [1000, 800]))
    model.to(META)
    with pytest.raises(NotImplementedError, match="no data"):
        model(**{key: value.to(META) for key, value in inputs.items()})


def test_ctc_losses_wait_for_nothing(tmp_path, monkeypatch: pytest.MonkeyPatch):
    recogniser = load_ctc(Settings(model_name_or_path=str(ctc_folder(tmp_path / "run"))))
    model = recogniser.model.train()
    use_own_attention(model)
    clips = [np.random.default_rng(n).standard_normal(n).astype(np.float32) for n in (16_000, 12_000)]
    inputs = recogniser.model_input.pad(clips)
    batch = Batch(
        utterances=[Utterance("", "", "", "", 1.0, "")] * 2,
        texts=["a", "ab"],
        rows=[0, 1],
        inputs={name: torch.from_numpy(values) for name, values in inputs.items()},
        labels=torch.tensor([[1, -100], [1, 2]]),
        label_lengths=[1, 2],
        input_lengths=[16_000, 12_000],
        seconds=1.75,
    )
    seen: list[Any] = []

    def ctc_loss(log_probs: Any, targets: Any, *lengths: Any, **options: Any) -> Any:
        """Stands for torch's, which has no shapes without values."""
        seen.append([given.device.type for given in (log_probs, targets, *lengths)])
        return log_probs.sum((0, 2))

    monkeypatch.setattr("torch.nn.functional.ctc_loss", ctc_loss)
    model.to(META)
    recogniser.losses(model, batch.to(META)).sum().backward()
    assert seen == [["meta", "meta", "cpu", "cpu"]]  # lengths on the CPU: torch's kernel reads them


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"encoder_context": 1.0},
        {"apply_spec_augment": True, "mask_time_prob": 0.3},
        {"encoder_context": 1.0, "apply_spec_augment": True, "mask_time_prob": 0.3, "mask_time_length": 3},
        {"name": "facebook/wav2vec2-base+facebook/bart-base"},
    ],
    ids=["whisper", "short context", "spec augment", "both", "warm start"],
)
def test_token_losses_wait_for_nothing(options: dict[str, Any]):
    recogniser = tiny_seq2seq.for_training(**options)
    batch = tiny_seq2seq.batch_of(recogniser, training=True)
    use_own_attention(recogniser.model)
    recogniser.model.to(META)
    recogniser.losses(recogniser.model, batch.to(META)).sum().backward()
