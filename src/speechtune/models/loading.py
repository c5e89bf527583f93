"""Load a model by folder or hub name: its config, its family, its recogniser.

Whatever transformers raises on the way becomes one ModelError that says what is wrong and what to do.
"""

from __future__ import annotations

import json
import math
import os
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from speechtune.errors import ModelError, OptionError
from speechtune.models.frames import encoder_config_of
from speechtune.models.lora import base_of, find_adapter, merge_adapters
from speechtune.models.seq2seq.audio_prompt import AUDIO_PROMPTED
from speechtune.options.table import Family, Settings

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor

__all__ = [
    "Source", "check_finite", "check_torchaudio", "checkpoint_of", "family_of", "feature_extractor_of",
    "given_tokenizer", "initialise", "load_config", "model_config_of", "quiet_transformers", "random_config",
    "random_model", "source_of",
]  # fmt: skip

T = TypeVar("T")

MAX_LAYERS = 1000  # more would be built for hours; no model has as many


@dataclass(frozen=True)
class Source:
    """Where a checkpoint comes from: a folder or a hub name, and what the hub asks for.

    Args:
        name: folder or hub name.
        trust_remote_code: run code that comes with the checkpoint; off unless the user turns it on.
    """

    name: str
    cache_dir: str | None = None
    revision: str = "main"
    token: str | None = field(default=None, repr=False)
    trust_remote_code: bool = False

    def named(self, name: str | None) -> Source:
        """Return the same hub options for another checkpoint; for this one if `name` is empty."""
        return replace(self, name=name) if name else self

    @property
    def hub_options(self) -> dict[str, Any]:
        return {"cache_dir": self.cache_dir, "revision": self.revision, "token": self.token}

    def load(self, what: str, loader: Callable[..., T], **options: Any) -> T:
        """Call a `from_pretrained`. Of a model with an adapter (LoRA) it is the base, the adapter merged into it.

        Raises:
            ModelError: it is not there, can't be reached, or does not fit.
        """
        try:
            if hasattr(getattr(loader, "__self__", None), "_model_mapping"):
                return cast(T, self._load_model(what, loader, **options))
            return loader(self.name, trust_remote_code=self.trust_remote_code, **self.hub_options, **options)
        except ModelError:
            raise
        except Exception as error:  # damaged files make transformers raise nearly anything
            raise ModelError(self._message(what, error)) from error

    def _load_model(
        self, what: str, loader: Callable[..., Any], *, output_loading_info: bool = False, **options: Any
    ) -> Any:
        """Load a model; its `new_weights` are the names of those that the checkpoint lacks, or has in another size."""
        adapter = find_adapter(self.name, self.hub_options)
        source = self
        if adapter is not None:
            name, revision = base_of(adapter)
            source = replace(self, name=name, revision=revision or "main")
            options = {"config": load_config(self), "ignore_mismatched_sizes": True, **options}
        try:
            more = {"trust_remote_code": source.trust_remote_code, **source.hub_options, **options}
            model, loaded = loader(source.name, output_loading_info=True, **more)
        except Exception as error:
            if adapter is None:
                raise
            raise ModelError(
                f"{self.name}: an adapter (LoRA) of {source.name}, which can't be loaded.\n"
                f"{source._message(what, error)}\nIf that model is elsewhere now, write its place into {adapter}."
            ) from error
        other_sizes = [key[0] for key in loaded["mismatched_keys"]]
        model.new_weights = [*loaded["missing_keys"], *other_sizes]
        if adapter is not None:
            model = merge_adapters(model, self.name, self.hub_options, other_sizes=other_sizes)
            model.new_weights, loaded = [], {"missing_keys": [], "mismatched_keys": []}
        return (model, loaded) if output_loading_info else model

    def _message(self, what: str, error: Exception) -> str:
        name = self.name if len(self.name) <= 300 else f"{self.name[:100]}... ({len(self.name)} characters)"
        first = (str(error).strip().split("\n")[0] or type(error).__name__)[:300]
        if isinstance(error, pickle.UnpicklingError):  # torch's own message says how to load it all the same
            return (
                f"{name}: its weights are a pickle of more than tensors, or damaged; it is not loaded.\n"
                "Take a checkpoint with model.safetensors."
            )
        if "custom code" in first:
            return (
                f"{name}: comes with code of its own, which is not run.\n"
                "If you read it and want to run it, give --trust_remote_code."
            )
        if os.path.isdir(self.name):  # noqa: PTH112 - of any length, where Path raises
            return f"{name}: no usable {what} here: {first}\nIt needs the files that `save_pretrained` writes."
        if self.name.startswith((".", "/", "~")):
            return f"{name}: no such folder, so no {what}.\nGive a folder that holds a model, or a hub name."
        return (
            f"{name}: no {what} under this name, neither as a folder, nor in the local hub cache, nor on the "
            f"hub: {first}\n"
            "Check the name, and the network or HF_HUB_OFFLINE; private models need --token."
        )


def quiet_transformers() -> None:
    """Turn off the load reports and progress bars of transformers; its errors stay."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # Else a checkpoint without safetensors makes it ask a service outside the hub to convert it, token and all.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")


# ---- config and family


def source_of(settings: Settings) -> Source | None:
    """Return the checkpoint that training starts from; None for random weights."""
    if settings.model_config is not None:
        return None
    return Source(
        settings.model_name_or_path,
        cache_dir=settings.cache_dir,
        revision=settings.model_revision,
        token=settings.token,
        trust_remote_code=settings.trust_remote_code,
    )


def checkpoint_of(settings: Settings) -> Source:
    """Return the checkpoint to evaluate or transcribe with; random weights are the user's mistake."""
    source = source_of(settings)
    if source is None:
        raise OptionError("A model from random weights can only be trained. Give --model_name_or_path.")
    return source


def load_config(source: Source) -> PreTrainedConfig:
    """Load the checkpoint's config."""
    from transformers import AutoConfig

    quiet_transformers()
    config = source.load("config", AutoConfig.from_pretrained)
    _check_sizes(config.to_dict(), f"{source.name}, config.json")
    return config


def random_config(given: Mapping[str, Any] | str) -> PreTrainedConfig:
    """Build the config of a model that starts from random weights.

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
        config = CONFIG_MAPPING[model_type](**fields)
    except Exception as error:  # transformers checks some fields, with errors of many kinds
        raise ModelError(f"--model_config: {str(error).strip() or type(error).__name__}") from error
    _check_sizes(config.to_dict(), "--model_config")
    return config


def random_model(auto_class: Any, config: PreTrainedConfig) -> PreTrainedModel:
    """Build a model with random weights of an auto class of transformers."""
    try:
        return auto_class.from_config(config)
    except Exception as error:  # sizes that don't fit each other, or memory
        raise ModelError(f"--model_config: can't build a {config.model_type} of it: {error}") from error


def _check_sizes(fields: Mapping[Any, Any], where: str) -> None:
    """Refuse sizes of a config that transformers accepts, but with which no model can be built or run."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            _check_sizes(value, where)
        elif str(name).endswith(("layers", "n_layer")) and isinstance(value, int) and value > MAX_LAYERS:
            raise ModelError(f"{where}: {name} is {value}; more than {MAX_LAYERS} layers are refused.")
        elif name in ("conv_kernel", "conv_stride", "adapter_kernel_size", "adapter_stride"):
            sizes = value if isinstance(value, (list, tuple)) else [value]
            if not all(isinstance(size, int) and size > 0 for size in sizes):
                raise ModelError(f"{where}: {name} is {value}; it needs whole numbers above 0.")


def model_config_of(settings: Settings) -> PreTrainedConfig:
    """Return the config of the model that the settings name, or of one with random weights."""
    source = source_of(settings)
    if source is None:
        assert settings.model_config is not None
        return random_config(settings.model_config)
    return load_config(source.named(settings.config_name))


def family_of(model_config: PreTrainedConfig) -> Family:
    """Return whether a model is trained with CTC, as a sequence-to-sequence model or as a transducer."""
    from transformers.models.auto import modeling_auto
    from transformers.models.auto.modeling_auto import MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES

    if model_config.model_type in AUDIO_PROMPTED:  # some are in no list of speech models
        return "seq2seq"
    for name in ("MODEL_FOR_TDT_MAPPING_NAMES", "MODEL_FOR_RNNT_MAPPING_NAMES"):
        if model_config.model_type in getattr(modeling_auto, name, ()):
            return "transducer"
    return "seq2seq" if model_config.model_type in MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES else "ctc"


# ---- parts of a checkpoint


def given_tokenizer(settings: Settings, source: Source | None) -> PreTrainedTokenizerBase:
    """Load the tokenizer that the user or the checkpoint names."""
    from transformers import AutoTokenizer

    name = settings.tokenizer_name_or_path or settings.model_name_or_path
    hub = source or Source(name, token=settings.token, cache_dir=settings.cache_dir)
    tokenizer = hub.named(name).load("tokenizer", AutoTokenizer.from_pretrained)
    wrong = next((row for row in tokenizer.get_vocab().items() if not isinstance(row[1], int) or row[1] < 0), None)
    if wrong is not None:
        raise ModelError(f"{name}: vocab.json gives {wrong[0]!r} the id {wrong[1]!r}; ids are whole numbers from 0 on.")
    return tokenizer


def check_torchaudio(model_type: str) -> None:
    """Check that torchaudio is there for the feature extractors that need it.

    Raises:
        ModelError: it is not.
    """
    if model_type.startswith(("granite_speech", "fun_asr")) and find_spec("torchaudio") is None:
        raise ModelError(
            f"{model_type}: its feature extractor needs torchaudio, which is not installed.\n"
            "Install the one that fits your torch: pip install torchaudio"
        )


def feature_extractor_of(source: Source | None, config: PreTrainedConfig) -> SequenceFeatureExtractor:
    """Return the checkpoint's feature extractor; without a checkpoint, the family's usual one."""
    from transformers import AutoFeatureExtractor, SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor

    check_torchaudio(config.model_type)
    if source is not None:
        extractor = source.load("feature extractor (preprocessor_config.json)", AutoFeatureExtractor.from_pretrained)
        for name, low in (("sampling_rate", 1), ("padding_value", -math.inf), ("feature_size", 1)):
            value = getattr(extractor, name, 1)
            if not isinstance(value, (int, float)) or not math.isfinite(value) or value < low:
                raise ModelError(f"{source.name}, preprocessor_config.json: {name} is {value!r}.")
        return extractor
    if config.model_type == "wav2vec2-bert":
        return SeamlessM4TFeatureExtractor()
    if hasattr(encoder := encoder_config_of(config), "num_mel_bins"):
        return _mel_extractor(config.model_type, int(encoder.num_mel_bins))
    return Wav2Vec2FeatureExtractor(
        do_normalize=True, return_attention_mask=getattr(config, "feat_extract_norm", "layer") == "layer"
    )


def _mel_extractor(model_type: str, num_mel_bins: int) -> SequenceFeatureExtractor:
    """Return a new feature extractor of a conformer over mel frames."""
    import transformers

    if model_type.startswith("granite"):
        return transformers.GraniteSpeech5FeatureExtractor(num_mel_bins=num_mel_bins)
    name = "Lasr" if model_type.startswith("lasr") else "Parakeet"
    return getattr(transformers, f"{name}FeatureExtractor")(feature_size=num_mel_bins)


def check_finite(model: nn.Module, *, where: str, advice: str) -> None:
    """Refuse a model with a weight or statistic that is NaN or infinite, so that it is never saved as a result.

    Args:
        where: names the model in the message.
        advice: what to do, the message's second line.

    Raises:
        ModelError: names the first such tensor.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ModelError(f"{where}: {name} has values that are NaN or infinite.\n{advice}")


def initialise(model: PreTrainedModel, names: Iterable[str]) -> None:
    """Draw random weights for the linear layers and norms of these names, as transformers does."""
    from torch import nn

    for name in sorted(set(names)):
        module = model.get_submodule(name)
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()
            continue
        nn.init.normal_(module.weight, std=model.config.initializer_range)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
