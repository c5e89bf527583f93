"""One tiny random CTC model for each way in which transformers' speech encoders differ.

Sizes are as small as keeps every part at work: odd kernels, several adapter layers, more than one transformer layer.
Every weight is random, norms and their running statistics too, so that no part is neutral by chance.
"""

from __future__ import annotations

from typing import Any

import torch

DROPOUTS = (
    *("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "final_dropout"),
    *("conformer_conv_dropout", "layerdrop", "mask_time_prob", "mask_feature_prob"),
)
NO_DROPOUT = dict.fromkeys(DROPOUTS, 0.0)
SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 11,
    "pad_token_id": 0,
}
# 30 samples make the first frame, 20 more each of the next.
CONVOLUTIONS: dict[str, Any] = {
    "conv_dim": [16, 16, 16],
    "conv_kernel": [10, 3, 2],
    "conv_stride": [5, 2, 2],
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
WAVE = {**SIZES, **NO_DROPOUT, **CONVOLUTIONS}
GROUP = {**WAVE, "feat_extract_norm": "group", "do_stable_layer_norm": False}
LAYER = {**WAVE, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
BERT = {**SIZES, **NO_DROPOUT, "feature_projection_input_dim": 16, "conv_depthwise_kernel_size": 5}

# Conformers over 16 mel features a frame.
NO_MEL_DROPOUT = {"dropout": 0.0, "layerdrop": 0.0, "activation_dropout": 0.0, "attention_dropout": 0.0}
MEL = {**{name: SIZES[name] for name in SIZES if name not in ("vocab_size", "pad_token_id")}, **NO_MEL_DROPOUT}
CONFORMER = {**MEL, "num_mel_bins": 16, "subsampling_conv_channels": 8, "conv_kernel_size": 5}
GRANITE = {**MEL, "num_hidden_layers": 4, "num_mel_bins": 4, "vocab_size": 11}
LABELS = {"vocab_size": 11, "pad_token_id": 0}

SPEC_AUGMENT = {
    "mask_time_prob": 0.4,
    "mask_time_length": 2,
    "mask_feature_prob": 0.3,
    "mask_feature_length": 2,
    "mask_feature_min_masks": 0,
}  # which WavLM's config lacks: transformers fails without

# name: (model type, config, attention implementation)
FAMILIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "wav2vec2 group norm": ("wav2vec2", GROUP, "sdpa"),
    "wav2vec2 layer norm": ("wav2vec2", LAYER, "sdpa"),
    "wav2vec2 with adapter": ("wav2vec2", {**GROUP, "add_adapter": True, "num_adapter_layers": 3}, "sdpa"),
    "mms": ("wav2vec2", {**LAYER, "adapter_attn_dim": 4}, "sdpa"),
    "hubert group norm": ("hubert", GROUP, "sdpa"),
    "hubert layer norm": ("hubert", LAYER, "eager"),
    "distilhubert": ("hubert", {**GROUP, "feat_proj_layer_norm": False}, "sdpa"),
    "hubert with batch norm": ("hubert", {**GROUP, "conv_pos_batch_norm": True}, "sdpa"),
    "wavlm group norm": ("wavlm", GROUP, "eager"),
    "wavlm layer norm, adapter": ("wavlm", {**LAYER, "add_adapter": True}, "eager"),
    "unispeech": ("unispeech", LAYER, "sdpa"),
    "unispeech group norm": ("unispeech", GROUP, "sdpa"),
    "unispeech-sat": ("unispeech-sat", GROUP, "sdpa"),
    "sew": ("sew", {**WAVE, "feat_extract_norm": "group", "squeeze_factor": 2}, "sdpa"),
    "sew layer norm": (
        "sew",
        {**WAVE, "feat_extract_norm": "layer", "squeeze_factor": 3, "num_conv_pos_embeddings": 7},
        "sdpa",
    ),
    "sew-d": (
        "sew-d",
        {
            **WAVE,
            "feat_extract_norm": "group",
            "squeeze_factor": 2,
            "max_position_embeddings": 64,
            "position_buckets": 16,
        },
        "eager",
    ),
    "data2vec-audio": ("data2vec-audio", {**WAVE, "conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 3}, "sdpa"),
    "data2vec-audio with adapter": (
        "data2vec-audio",
        {**WAVE, "conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 3, "add_adapter": True},
        "sdpa",
    ),
    "conformer relative": (
        "wav2vec2-conformer",
        {**LAYER, "position_embeddings_type": "relative", "conv_depthwise_kernel_size": 5},
        "sdpa",
    ),
    "conformer rotary, adapter": (
        "wav2vec2-conformer",
        {**GROUP, "position_embeddings_type": "rotary", "conv_depthwise_kernel_size": 5, "add_adapter": True},
        "sdpa",
    ),
    "wav2vec2-bert": ("wav2vec2-bert", {**BERT, "position_embeddings_type": "relative_key"}, "sdpa"),
    "wav2vec2-bert with adapter": (
        "wav2vec2-bert",
        {**BERT, "position_embeddings_type": "relative", "max_source_positions": 100, "add_adapter": True}
        | {"num_adapter_layers": 2, "output_hidden_size": 24},
        "sdpa",
    ),
}

FAMILIES |= {
    "parakeet": ("parakeet_ctc", {"encoder_config": CONFORMER, **LABELS}, "sdpa"),
    "lasr": ("lasr_ctc", {"encoder_config": {**CONFORMER, "conv_kernel_size": 6}, **LABELS}, "sdpa"),
    "granite 5": (
        "granite_speech5_ctc",
        {"encoder_config": {**GRANITE, "context_size": 8, "max_position_embeddings": 16}, **LABELS},
        "sdpa",
    ),
}

# Without make_padding_invariant these are invariant already, or padding changes their logits by more than a tenth.
INVARIANT_BY_THEMSELVES = {
    *("wav2vec2 layer norm", "mms", "hubert layer norm", "unispeech", "wav2vec2-bert"),
    *("parakeet", "lasr", "granite 5"),
}


INVARIANT_BUT_FOR_TRAINING = {"parakeet", "lasr", "granite 5"}  # their batch norms are not


def tiny_model(name: str) -> Any:
    """The CTC model of FAMILIES[name] in evaluation mode; equal weights at every call."""
    import transformers

    model_type, sizes, attention = FAMILIES[name]
    config = transformers.AutoConfig.for_model(model_type, **sizes)
    generator = torch.Generator().manual_seed(0)
    model = transformers.AutoModelForCTC.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
        for parameter_name, parameter in model.named_parameters():
            if "norm" in parameter_name.lower() and parameter_name.endswith("weight"):
                parameter.add_(1.0)
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith(("running_mean", "running_var")):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return model.eval()


def augmented_model(name: str) -> Any:
    """A model of the family in training mode, with heavy masks over time and channels."""
    model = tiny_model(name)
    for module in model.modules():
        if hasattr(module, "_mask_hidden_states"):
            for option, value in SPEC_AUGMENT.items():
                setattr(module.config, option, value)
            if not hasattr(module, "masked_spec_embed"):
                module.masked_spec_embed = torch.nn.Parameter(torch.full((module.config.hidden_size,), 0.3))
    return model.train()


def lengths_for(model: Any) -> list[int]:
    return [1000, 800] if input_name(model) == "input_values" else [50, 40]


def input_name(model: Any) -> str:
    return str(model.main_input_name)


def utterances(model: Any, lengths: list[int], seed: int = 1) -> list[torch.Tensor]:
    """Random inputs, each (length,) samples or (length, 16) features."""
    generator = torch.Generator().manual_seed(seed)
    width = () if input_name(model) == "input_values" else (16,)
    return [torch.randn(length, *width, generator=generator) for length in lengths]


def batch(model: Any, inputs: list[torch.Tensor], *, extra: int = 0) -> dict[str, torch.Tensor]:
    """Inputs padded at the end to the longest and `extra` more, with their mask."""
    longest = max(len(values) for values in inputs) + extra
    padded = torch.zeros(len(inputs), longest, *inputs[0].shape[1:])
    mask = torch.zeros(len(inputs), longest, dtype=torch.int32)
    for row, values in enumerate(inputs):
        padded[row, : len(values)] = values
        mask[row, : len(values)] = 1
    return {input_name(model): padded, "attention_mask": mask}


def alone(model: Any, values: torch.Tensor) -> torch.Tensor:
    """Logits (T, V) of one utterance without padding and without a mask."""
    return model(**{input_name(model): values[None]}).logits[0]


def difference(values: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative norm of the difference; `values` may be longer, by padding."""
    return float(((values[: len(expected)] - expected).norm() / expected.norm()).detach())
