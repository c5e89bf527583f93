"""Mixtures of a model's weights: averages of checkpoints, and steps between a starting and a final model.

Tensors are read from safetensors files one at a time, so that a mixture of any number of weights takes no more memory
than the model and its largest tensor. Tensors that are not floating point (counters) stay as they are.

Sources: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT), section 3; Vaswani et al. 2017,
"Attention is all you need", section 6.1 (averages of checkpoints).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechtune.errors import ModelError
from speechtune.files import replacing

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

__all__ = ["load_mixture", "load_renamed", "save_weights", "weights_version"]


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's floating-point weights and statistics into one safetensors file, tied ones once."""
    from safetensors.torch import save_file

    tensors = {names[0]: tensor.detach().cpu().contiguous() for names, tensor in _floating(model)}
    with replacing(path) as file:
        save_file(tensors, file.name)


def load_mixture(model: nn.Module, parts: Sequence[tuple[Path, float]]) -> None:
    """Set a model's weights to a weighted sum of those in files, in place, computed in float32.

    Args:
        parts: (file of `save_weights`, or folder of a checkpoint; its share). The shares sum to 1.

    Raises:
        ModelError: a file lacks a tensor of the model, or has it in another shape.
    """
    import torch

    with ExitStack() as stack, torch.no_grad():
        sources = [(path, _open(path, stack), share) for path, share in parts if share]
        for names, tensor in _floating(model):
            mixed = torch.zeros(tensor.shape, dtype=torch.float32)
            for path, files, share in sources:
                value = _tensor(files, names)
                if value is None or value.shape != tensor.shape:
                    found = "is missing" if value is None else f"has the shape {tuple(value.shape)}"
                    raise ModelError(
                        f"{path}: {names[0]} {found}, so its weights can't be mixed with those of this model.\n"
                        "Leave out --interpolate_weights and --average_checkpoints."
                    )
                mixed.add_(value.float(), alpha=share)
            tensor.copy_(mixed)


def load_renamed(model: PreTrainedModel, checkpoint: Path) -> bool:
    """Load a checkpoint whose tensors have other names than the model's; return False, with nothing done, if none has.

    transformers saves some models under the names of their original release (conversion_mapping.py), and its Trainer
    skips what it does not find, so a run would go on from untrained weights.
    """
    with ExitStack() as stack:
        saved = {name for file in sorted(checkpoint.glob("model*.safetensors")) for name in _names(file, stack)}
    if saved <= model.state_dict().keys():
        return False
    loaded = type(model).from_pretrained(checkpoint, dtype=model.dtype)
    model.load_state_dict(loaded.state_dict())
    return True


def weights_version(name: str, *, cache_dir: str | None = None, revision: str = "main") -> str | None:
    """Return what tells a model's weights from others under the same name, without reading them; None where unknown.

    Of a folder it is a hash of the names, sizes and times of its files of weights; of the hub, the commit in the cache.
    """
    if os.path.isdir(name):  # noqa: PTH112 - of any length, where Path raises
        files = sorted(path for kind in ("safetensors", "bin") for path in Path(name).glob(f"*.{kind}"))
        facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json", cache_dir=cache_dir, revision=revision)
    return Path(found).parent.name[:12] if isinstance(found, str) else None


def _floating(model: nn.Module) -> list[tuple[list[str], torch.Tensor]]:
    """Return the floating-point tensors of a model, each piece of memory once, with all of its names."""
    found: dict[tuple[int, int], tuple[list[str], torch.Tensor]] = {}
    for number, (name, tensor) in enumerate(model.state_dict().items()):
        if tensor.is_floating_point():
            key = (tensor.data_ptr(), 0) if tensor.numel() else (0, number)
            found.setdefault(key, ([], tensor))[0].append(name)
    return list(found.values())


def _open(path: Path, stack: ExitStack) -> list[Any]:
    from safetensors import safe_open

    paths = sorted(path.glob("model*.safetensors")) if path.is_dir() else [path]
    if not paths:
        raise ModelError(f"{path}: has no model.safetensors, so its weights can't be mixed.")
    return [stack.enter_context(safe_open(file, framework="pt")) for file in paths]


def _names(file: Path, stack: ExitStack) -> list[str]:
    from safetensors import safe_open

    return list(stack.enter_context(safe_open(file, framework="pt")).keys())


def _tensor(files: Sequence[Any], names: Sequence[str]) -> torch.Tensor | None:
    """Return a tensor, by one of its names, from the file that has it; None if none does."""
    for file in files:
        for name in set(names).intersection(file.keys()):
            value: torch.Tensor = file.get_tensor(name)
            return value
    return None
