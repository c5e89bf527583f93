"""LoRA: train small updates of a model's linear layers, and keep only them (`--lora`, with `peft`).

The layers are replaced in place, in the model that transformers knows: padding, attention, SpecAugment and everything
else that was changed in it stay as they are. An adapter folder is what `peft` writes, with the model's configuration
and processor beside it:

    adapter_config.json         rank, layers, and the base model by name and revision
    adapter_model.safetensors   the updates, and what is trained whole: the head, and weights that the base lacks
    config.json                 of the tuned model, whose head may have another size than the base's

Opened for recognition, or to train on from it, the updates are merged into the weights: the same model as any other.

Rejected: `get_peft_model`, whose wrapper hides the model's own methods (`get_encoder`, `generation_config`) from what
calls them; updates of our own, which nothing else could read.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models".
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechtune.errors import ModelError, OptionError
from speechtune.files import read_json
from speechtune.models.ctc.head import LABEL_LAYERS
from speechtune.options.lora import Lora

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

__all__ = [
    "ADAPTER_CONFIG", "ADAPTER_WEIGHTS", "add_lora", "base_of", "find_adapter", "has_lora", "keep_as_in_evaluation",
    "load_adapters", "merge_adapters", "merge_own_adapter", "save_adapters",
]  # fmt: skip

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # peft's names
MODEL_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_PREFIX = "base_model.model."  # of the weights' names in peft's files
_WAVLM_ATTENTION = "torch_multi_head_self_attention"
_NAME = "default"  # of the adapter in the model


def add_lora(model: PreTrainedModel, lora: Lora, *, base: str, revision: str = "main") -> str:
    """Freeze a model and add trainable updates to its linear layers, in place.

    Layers that are frozen already get none. The head of a CTC model, and weights that its checkpoint lacked
    (`model.new_weights`), are trained whole unless they are frozen. `model.trained_without_lora` lists the weights that
    would be trained otherwise.

    Args:
        base: folder or hub name of the model, kept in the adapter's configuration.

    Returns:
        A line for the user.

    Raises:
        OptionError: no layer has a name of `lora.targets`, or none is left to train.
    """
    from peft import LoraConfig, inject_adapter_in_model

    whole = _trained_whole(model)
    places = Counter(id(parameter) for name in whole for parameter in model.get_submodule(name).parameters())
    if any(count > 1 for count in places.values()):
        raise OptionError(
            f"--lora: {model.config.model_type} has its head in two places ({', '.join(whole)}), and peft would train "
            "two different ones.\nLeave --lora out."
        )
    targets = [name for name in _targets(model, lora.targets) if not _is_within(name, whole)]
    if not targets:
        raise OptionError("--lora: every linear layer is frozen, so there is nothing to add to. Freeze fewer.")
    model.trained_without_lora = [parameter for parameter in model.parameters() if parameter.requires_grad]
    is_folder = os.path.isdir(base)  # noqa: PTH112 - of any length, where Path raises
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        target_modules=targets,
        modules_to_save=whole or None,
        use_dora=lora.dora,
        base_model_name_or_path=str(Path(base).resolve()) if is_folder else base,
        revision=None if is_folder else revision,
    )
    with _quiet():
        inject_adapter_in_model(config, model, _NAME)
    for module in model.modules():
        if hasattr(module, _WAVLM_ATTENTION):
            setattr(module, _WAVLM_ATTENTION, _ProjectedAttention(module))
        if hasattr(module, "running_mean"):  # a batch norm's statistics are no part of an adapter
            keep_as_in_evaluation(module)
    kinds = ", ".join(sorted({name.rpartition(".")[2] for name in targets}))
    also = f"; {', '.join(whole)} trained whole" if whole else ""
    name = "DoRA" if lora.dora else "LoRA"
    return f"{name}: rank {lora.r}, alpha {lora.alpha}, in {len(targets)} layers ({kinds}){also}"


def keep_as_in_evaluation(module: nn.Module) -> None:
    """Put a module into evaluation mode for good, in place."""
    module.eval()
    setattr(module, "train", partial(_stay, module))  # noqa: B010 - mypy knows the method


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    """Replaces `train` of a module that stays as it is in evaluation."""
    return module


def has_lora(model: Any) -> bool:
    """Return whether `add_lora` changed this model."""
    return bool(getattr(model, "peft_config", None))


def _targets(model: nn.Module, asked: Iterable[str]) -> list[str]:
    """Return the names of the linear layers that get an update.

    They are those inside the repeated blocks of encoder and decoder, whose names have a number: attention and
    feed-forward layers, but no head, and nothing of the convolutional front end.
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if _is_linear(module) and any(part.isdigit() for part in name.split("."))
    }
    for target in asked:
        if not any(_ends_with(name, target) for name in layers):
            known = Counter(name.rpartition(".")[2] for name in layers)
            raise OptionError(f"--lora: no linear layer is named {target}. There are: {', '.join(sorted(known))}.")
    chosen = [name for name in layers if not asked or any(_ends_with(name, target) for target in asked)]
    return [name for name in chosen if layers[name].weight.requires_grad]


def _is_linear(module: nn.Module) -> bool:
    """Return whether it is a linear layer that reads its weight in its own forward."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    # A subclass may be quantised; that of nn.MultiheadAttention is only a name for its weights.
    return isinstance(module, (nn.Linear, Conv1D)) and not isinstance(
        module, nn.modules.linear.NonDynamicallyQuantizableLinear
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop peft's warnings: that GPT-2 keeps its weights transposed, which it handles layer by layer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _ends_with(name: str, target: str) -> bool:
    return f".{name}".endswith(f".{target}")


def _is_within(name: str, modules: Iterable[str]) -> bool:
    return any(f"{name}.".startswith(f"{module}.") for module in modules)


def _trained_whole(model: PreTrainedModel) -> list[str]:
    """Return the names of the modules that are trained and saved as a whole."""
    modules = dict(model.named_modules())
    # A language model's head is as large as its embeddings, and knows its words already.
    heads = () if hasattr(model.config, "text_config") else LABEL_LAYERS
    names = [name for name in modules if name in heads or name.endswith("enc_to_dec_proj")]
    names += [name.rpartition(".")[0] for name in getattr(model, "new_weights", ())]
    unique = [name for name in dict.fromkeys(names) if name and not _holds_layers(modules[name])]
    return [
        name
        for name in unique
        if all(parameter.requires_grad for parameter in modules[name].parameters())
        and not _is_within(name, [other for other in unique if other != name])
    ]


def _holds_layers(module: nn.Module) -> bool:
    """Return whether it is more than one layer: a new parameter of its own does not make all of it new."""
    return any(True for child in module.children() if any(True for _ in child.parameters()))


class _ProjectedAttention:
    """Replaces the method of WavLM's attention that reads its layers' weights, and so would pass by their updates."""

    def __init__(self, attention: Any) -> None:
        self.attention = attention

    def __call__(self, hidden_states: Any, attention_mask: Any, gated_position_bias: Any) -> tuple[Any, None]:
        """(B, T, D), None or (B, T) with 1 for real frames, and (B * heads, T, T) -> (B, T, D); no weights."""
        from torch.nn.functional import scaled_dot_product_attention

        own = self.attention
        batch_size, num_frames, width = hidden_states.shape
        shape = (batch_size, num_frames, own.num_heads, own.head_dim)
        query, key, value = (
            project(hidden_states).view(shape).transpose(1, 2) for project in (own.q_proj, own.k_proj, own.v_proj)
        )
        bias = gated_position_bias.view(batch_size, own.num_heads, num_frames, num_frames).to(query.dtype)
        if attention_mask is not None:
            bias = bias.masked_fill(attention_mask.ne(1)[:, None, None], float("-inf"))
        dropout = own.dropout if own.training else 0.0
        made = scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
        return own.out_proj(made.transpose(1, 2).reshape(batch_size, num_frames, width)), None


# ---- folders


def find_adapter(name: str, hub_options: Mapping[str, Any]) -> str | None:
    """Return the path of `adapter_config.json` in a folder or hub name that holds an adapter without its model."""
    from transformers.utils.hub import has_file
    from transformers.utils.peft_utils import find_adapter_config_file

    if os.path.isdir(name):  # noqa: PTH112 - of any length, where Path raises
        local = os.path.join(name, ADAPTER_CONFIG)  # noqa: PTH118
        path = local if os.path.isfile(local) else None  # noqa: PTH113
    else:
        path = find_adapter_config_file(name, **hub_options)
    # Granite's speech models have an adapter beside their weights, which belongs to them.
    if path is None or any(has_file(name, file, **hub_options) for file in MODEL_WEIGHTS):
        return None
    return str(path)


def save_adapters(
    model: PreTrainedModel, folder: Path, *, state_dict: Mapping[str, torch.Tensor] | None = None
) -> None:
    """Write the adapter, its configuration and the model's into a folder, as peft names them."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = get_peft_model_state_dict(model, state_dict, adapter_name=_NAME, save_embedding_layers=False)
    kept = {_PREFIX + name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_file(kept, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    model.peft_config[_NAME].save_pretrained(folder)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)


def load_adapters(model: PreTrainedModel, folder: Path) -> None:
    """Put the weights of an adapter folder into a model that `add_lora` made ready.

    Raises:
        ValueError: they belong to other layers, or are not all there.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    weights = {name.removeprefix(_PREFIX): tensor for name, tensor in load_file(folder / ADAPTER_WEIGHTS).items()}
    wanted = get_peft_model_state_dict(model, adapter_name=_NAME, save_embedding_layers=False)
    if weights.keys() != wanted.keys():
        name = sorted(weights.keys() ^ wanted.keys())[0]
        raise ValueError(f"its adapter belongs to other layers: {name} is not in both")
    set_peft_model_state_dict(model, weights, adapter_name=_NAME)


def base_of(adapter: str) -> tuple[str, str | None]:
    """Return name and revision of the model that an adapter belongs to.

    Args:
        adapter: path of its configuration.

    Raises:
        ModelError: it does not say.
    """
    config = read_json(Path(adapter))
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(base, str) or not base:
        raise ModelError(f"{adapter}: no base_model_name_or_path, so the model that it belongs to is not known.")
    return base, revision if isinstance(revision, str) else None


def merge_adapters(
    model: PreTrainedModel, name: str, hub_options: Mapping[str, Any], *, other_sizes: Iterable[str]
) -> Any:
    """Return the model with an adapter merged into its weights, without any trace of peft.

    Args:
        model: the adapter's base.
        name: folder or hub name of the adapter.
        other_sizes: names of the weights that the base has in another size, so that the adapter must hold them.

    Raises:
        ModelError: the adapter belongs to another model.
    """
    from peft import PeftModel

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        wrapped = PeftModel.from_pretrained(model, name, **hub_options)
    whole = wrapped.peft_config[_NAME].modules_to_save or ()
    lacking = [key for key in other_sizes if not _is_within(key, whole)]
    lacking += [str(row.message) for row in said if "missing adapter keys" in str(row.message)]
    if lacking:
        raise ModelError(f"{name}: belongs to another model than its base: {lacking[0][:200]} is missing.")
    with _quiet():
        return wrapped.merge_and_unload().requires_grad_(True)


def merge_own_adapter(model: PreTrainedModel) -> None:
    """Merge the adapter that a checkpoint has beside its weights (Granite Speech) into them, in place.

    The library switches it on wherever there is audio, so that the outputs stay the same.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    if not getattr(model, "_hf_peft_config_loaded", False):
        return
    model.enable_adapters()
    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            model.set_submodule(name, module.get_base_layer())
    del model.peft_config
    model._hf_peft_config_loaded = False
    model.requires_grad_(True)
