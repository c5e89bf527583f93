"""Checkpoints by folder or hub name, with one message where transformers would give a traceback."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from speechtune.errors import ModelError
from speechtune.text.vocab import save_vocabulary

__all__ = [
    "CTC_OPTIONS",
    "Source",
    "ctc_model",
    "ctc_tokenizer",
    "feature_extractor_of",
    "initialise",
    "load_config",
    "quiet_transformers",
    "random_config",
]

T = TypeVar("T")

# Options of the scripts that are written into the model's config, where it has such a field.
CTC_OPTIONS = (
    "feat_proj_dropout", "attention_dropout", "hidden_dropout", "final_dropout", "activation_dropout", "layerdrop",
    "mask_time_prob", "mask_time_length", "mask_feature_prob", "mask_feature_length",
    "ctc_loss_reduction", "ctc_zero_infinity", "add_adapter",
)  # fmt: skip


class Source:
    """Where a checkpoint comes from: a folder or a hub name, and what the hub asks for.

    Args:
        name: folder or hub name.
        trust_remote_code: run code that comes with the checkpoint; off unless the user says so.
    """

    def __init__(
        self,
        name: str,
        *,
        cache_dir: str | None = None,
        revision: str = "main",
        token: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self.name = name
        self.hub_options: dict[str, Any] = {"cache_dir": cache_dir, "revision": revision, "token": token}
        self.trust_remote_code = trust_remote_code

    def named(self, name: str) -> Source:
        """The same hub options for another checkpoint."""
        other = Source(name, trust_remote_code=self.trust_remote_code)
        other.hub_options = self.hub_options
        return other

    def load(self, what: str, loader: Callable[..., T], **options: Any) -> T:
        """Call a `from_pretrained`.

        Raises:
            ModelError: it is not there, can't be reached, or does not fit.
        """
        try:
            return loader(self.name, trust_remote_code=self.trust_remote_code, **self.hub_options, **options)
        except Exception as error:  # damaged files make transformers raise nearly anything
            raise ModelError(self._message(what, error)) from error

    def _message(self, what: str, error: Exception) -> str:
        first = (str(error).strip().split("\n")[0] or type(error).__name__)[:300]
        if isinstance(error, pickle.UnpicklingError):  # torch's own words say how to load it all the same
            return (
                f"{self.name}: its weights are a pickle of more than tensors, or damaged; it is not loaded.\n"
                "Take a checkpoint with model.safetensors."
            )
        if "custom code" in first:
            return (
                f"{self.name}: comes with code of its own, which is not run.\n"
                "If you read it and want to run it, give --trust_remote_code."
            )
        if Path(self.name).is_dir():
            return f"{self.name}: no usable {what} here: {first}\nIt needs the files that `save_pretrained` writes."
        if self.name.startswith((".", "/", "~")):
            return f"{self.name}: no such folder, so no {what}.\nGive a folder that holds a model, or a hub name."
        return (
            f"{self.name}: no {what} under this name, neither as a folder, nor in the local hub cache, nor on the "
            f"hub: {first}\n"
            "Check the name, and the network or HF_HUB_OFFLINE; private models need --token."
        )


def quiet_transformers() -> None:
    """Its load reports and progress bars out of the way; its errors stay."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # Else a checkpoint without safetensors makes it ask a service outside the hub to convert it, token and all.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")


def load_config(source: Source) -> Any:
    """The checkpoint's config."""
    from transformers import AutoConfig

    quiet_transformers()
    return source.load("config", AutoConfig.from_pretrained)


def random_config(given: Mapping[str, Any] | str) -> Any:
    """A config for a model that starts from random weights.

    Args:
        given: `{"model_type": "wav2vec2", ...}`, or the path of a JSON file that holds this.
    """
    from transformers import CONFIG_MAPPING

    quiet_transformers()
    try:
        fields = dict(given if isinstance(given, Mapping) else json.loads(Path(given).read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"--model_config {given}: no JSON object: {error}") from error
    model_type = fields.pop("model_type", None)
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise ModelError(
            f"--model_config: model_type {model_type!r} is not one that transformers knows, e.g. wav2vec2."
        )
    try:
        return CONFIG_MAPPING[model_type](**fields)
    except Exception as error:  # transformers checks some fields, in words and errors of many kinds
        raise ModelError(f"--model_config: {str(error).strip() or type(error).__name__}") from error


def feature_extractor_of(source: Source | None, config: Any) -> Any:
    """The checkpoint's feature extractor; without a checkpoint, the family's usual one."""
    from transformers import AutoFeatureExtractor, SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor

    if source is not None:
        return source.load("feature extractor (preprocessor_config.json)", AutoFeatureExtractor.from_pretrained)
    if config.model_type == "wav2vec2-bert":
        return SeamlessM4TFeatureExtractor()
    return Wav2Vec2FeatureExtractor(
        do_normalize=True, return_attention_mask=getattr(config, "feat_extract_norm", "layer") == "layer"
    )


def ctc_tokenizer(vocabulary: Mapping[str, Any], folder: Path, *, phones: bool = False, **tokens: str) -> Any:
    """A tokenizer over `vocabulary`, by way of `folder`/vocab.json, where it stays with the model.

    It adds no token of its own, so that ids end where the vocabulary does.
    """
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2PhonemeCTCTokenizer

    path = str(save_vocabulary(vocabulary, folder))
    if phones:
        return Wav2Vec2PhonemeCTCTokenizer(path, do_phonemize=False, bos_token=None, eos_token=None, **tokens)
    return Wav2Vec2CTCTokenizer(path, do_lower_case=False, bos_token=None, eos_token=None, **tokens)


def ctc_model(source: Source | None, config: Any, *, tokenizer: Any, head_may_change: bool) -> Any:
    """An AutoModelForCTC whose head fits the tokenizer.

    Args:
        source: checkpoint, or None for random weights.
        head_may_change: the vocabulary was made for this run, so a head of another size is replaced; otherwise it is
            the user's mistake.
    """
    import torch
    from transformers import AutoModelForCTC
    from transformers.models.auto.modeling_auto import MODEL_FOR_CTC_MAPPING_NAMES

    if config.model_type not in MODEL_FOR_CTC_MAPPING_NAMES:
        raise ModelError(
            f"{source.name if source else config.model_type}: a {config.model_type} has no CTC head in transformers. "
            f"These have: {', '.join(sorted(MODEL_FOR_CTC_MAPPING_NAMES))}."
        )
    num_labels = max(tokenizer.get_vocab().values()) + 1
    trained_head = any("CTC" in name for name in (config.architectures or ()))
    if trained_head and config.vocab_size != num_labels and not head_may_change:
        raise ModelError(
            f"{source.name if source else 'model'}: its head has {config.vocab_size} labels, the tokenizer "
            f"{tokenizer.name_or_path or ''} has {num_labels}.\n"
            "Leave out --tokenizer_name_or_path to train a new head on the corpus' own letters, or give the model's "
            "own tokenizer."
        )
    config.update({"vocab_size": num_labels, "pad_token_id": tokenizer.pad_token_id})
    if source is None:
        try:
            return AutoModelForCTC.from_config(config)
        except Exception as error:  # sizes that don't fit each other
            raise ModelError(f"--model_config: no {config.model_type} can be made of it: {error}") from error
    # float32 whatever the checkpoint was saved in: mixed precision keeps its master weights so.
    return source.load(
        "CTC model", AutoModelForCTC.from_pretrained, config=config, ignore_mismatched_sizes=True, dtype=torch.float32
    )


def initialise(model: Any, names: Iterable[str]) -> None:
    """Random weights for a model's linear layers and norms of these names, as transformers draws them."""
    from torch import nn

    for name in sorted(set(names)):
        module = model.get_submodule(name)
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()
            continue
        nn.init.normal_(module.weight, std=model.config.initializer_range)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
