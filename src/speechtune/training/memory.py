"""Memory that a training step needs, by arithmetic: of all weights, and of low-rank updates (`speechtune plan`).

    weights      4 bytes a parameter: mixed precision keeps them in float32 too
    gradients    4 bytes a trained parameter
    optimiser    8 bytes a trained parameter with AdamW, 2 with 8-bit AdamW
    activations  what autograd keeps of a forward pass, counted on the batch with the most audio

The sum is between 13 % below and 33 % above the peak of a step that counts every tensor (docs/lora.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from speechtune.errors import OptionError
from speechtune.models.lora import add_lora, has_lora
from speechtune.options.lora import Lora
from speechtune.training.measure import largest_batch
from speechtune.training.trainer import SpeechTrainer

__all__ = ["GPUS_GB", "Need", "activation_bytes", "needs_of"]

GPUS_GB = (8, 16, 24, 80)
CONTEXT_BYTES = 10**9  # of CUDA and its libraries, and what the allocator can't use
_OPTIMISER_BYTES = {"8bit": 2, "adafactor": 0, "sgd": 0}  # of a trained parameter; others as AdamW


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of one way to train."""

    weights: int
    gradients: int
    optimiser: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimiser + self.activations

    @property
    def gpu_gb(self) -> int | None:
        """The smallest of the usual GPUs in which it fits; None if it fits none."""
        return next((size for size in GPUS_GB if self.total + CONTEXT_BYTES <= size * 10**9), None)


def needs_of(trainer: SpeechTrainer, *, base: str) -> Iterator[tuple[str, Need]]:
    """Yield "all weights" and "LoRA", as far as the model can be trained so, with what each needs.

    The model is changed by it: use it only where nothing is trained afterwards.

    Args:
        base: name of the checkpoint; empty for random weights, which low-rank updates have nothing to add to.
    """
    model = trainer.recogniser.model.to(trainer.args.device).train()
    if has_lora(model):
        yield "LoRA", _need(trainer, [p for p in model.parameters() if p.requires_grad])
        for parameter in model.trained_without_lora:
            parameter.requires_grad = True
        yield "all weights", _need(trainer, model.trained_without_lora)
        return
    yield "all weights", _need(trainer, [p for p in model.parameters() if p.requires_grad])
    try:
        if base:
            add_lora(model, Lora(), base=base)
            yield "LoRA", _need(trainer, [p for p in model.parameters() if p.requires_grad])
    except OptionError:  # everything is frozen, or peft can't keep its head
        return


def _need(trainer: SpeechTrainer, trained: Sequence[nn.Parameter]) -> Need:
    recogniser, args = trainer.recogniser, trainer.args
    vars(recogniser).pop("encoder_frozen", None)  # what is trained has changed
    count = sum(parameter.numel() for parameter in trained)
    each = next((number for name, number in _OPTIMISER_BYTES.items() if name in str(args.optim)), 8)
    batch = largest_batch(trainer).to(args.device)

    def forward() -> torch.Tensor:
        with trainer.accelerator.autocast():
            return recogniser.losses(recogniser.model, batch)

    weights = sum(p.numel() * p.element_size() for p in recogniser.model.parameters())
    return Need(weights, 4 * count, each * count, activation_bytes(recogniser.model, forward))


def activation_bytes(model: nn.Module, forward: Callable[[], Any]) -> int:
    """Return the bytes that autograd keeps for the backward pass of `forward`, weights not counted."""
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        made = forward()
    size = sum(storage.nbytes() for storage in kept.values())
    del made
    return size
