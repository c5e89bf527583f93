"""What a step needs, by arithmetic, against a count of every tensor that a step makes."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from speechtune.models.lora import add_lora
from speechtune.options.lora import Lora
from speechtune.training.memory import Need, activation_bytes


class Peak(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, and their highest sum."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        storages = [tensor.untyped_storage() for tensor in (*model.parameters(), *model.buffers())]
        self.seen = {storage._cdata for storage in storages}
        self.now = self.peak = sum(storage.nbytes() for storage in storages)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in filter(lambda item: isinstance(item, torch.Tensor), tree_iter(made)):
            storage = tensor.untyped_storage()
            if storage._cdata not in self.seen:
                self.seen.add(storage._cdata)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self.forget, storage._cdata, storage.nbytes())
        return made

    def forget(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size


@pytest.mark.parametrize("lora", [False, True])
def test_the_sum_is_near_the_peak_of_a_step(lora: bool):
    from standins.models import LAYER_NORM
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "num_hidden_layers": 4}
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(Wav2Vec2Config(conv_dim=[64] * 7, mask_time_prob=0.0, **sizes, **LAYER_NORM)).train()
    model.freeze_feature_encoder()
    if lora:
        add_lora(model, Lora(r=8), base="someone/model")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    inputs = torch.randn(1, 16000)

    def loss() -> torch.Tensor:
        return model(inputs).logits.log_softmax(-1).mean()

    count = sum(parameter.numel() for parameter in trained)
    weights = 4 * sum(parameter.numel() for parameter in model.parameters())
    need = Need(weights, 4 * count, 8 * count, activation_bytes(model, loss))
    optimizer = torch.optim.AdamW(trained)
    with Peak(model) as peak:
        for _ in range(2):
            loss().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert need.total == pytest.approx(peak.peak, rel=0.35)


def test_the_smallest_gpu_leaves_room_for_its_libraries():
    assert [Need(size * 10**9, 0, 0, 0).gpu_gb for size in (6, 7, 8, 24, 79, 80)] == [8, 8, 16, 80, 80, None]
