"""Memory of a training step of large models, by arithmetic on models without values: docs/lora.md.

    python benchmarks/memory.py

As `speechtune plan` estimates it, for 8 clips of 10 s in bf16. The sizes are those of the configurations on the hub.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers import masking_utils

from speechtune.models.lora import add_lora
from speechtune.options.lora import Lora
from speechtune.training.memory import GPUS_GB, Need, activation_bytes

CLIPS, SECONDS, TOKENS = 8, 10, 60
MMS_1B = {
    **{"hidden_size": 1280, "num_hidden_layers": 48, "num_attention_heads": 16, "intermediate_size": 5120},
    **{"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True, "vocab_size": 40},
}
PARAKEET_1B = {"hidden_size": 1024, "num_hidden_layers": 42, "num_attention_heads": 8, "intermediate_size": 4096}
WHISPER_LARGE = {
    **{"d_model": 1280, "encoder_layers": 32, "decoder_layers": 32, "num_mel_bins": 128, "vocab_size": 51866},
    **{"encoder_attention_heads": 20, "decoder_attention_heads": 20, "encoder_ffn_dim": 5120, "decoder_ffn_dim": 5120},
    "max_source_positions": 50 * (SECONDS + 1),  # with a second of silence after each clip
}


class Flash(torch.autograd.Function):
    """Keeps what flash attention keeps, which no tensor without values can show: no scores."""

    @staticmethod
    def forward(context: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        made = torch.empty_like(query)
        context.save_for_backward(query, key, value, made)
        return made


def flash(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> tuple[Any, None]:
    return Flash.apply(query, key, value).transpose(1, 2), None


def models() -> dict[str, tuple[Any, dict[str, tuple[int, ...]]]]:
    """Return model classes with their configurations, and the shapes of their inputs."""
    mms = transformers.Wav2Vec2Config(mask_time_prob=0.0, **MMS_1B)
    parakeet = transformers.ParakeetCTCConfig(encoder_config=PARAKEET_1B, vocab_size=1025)
    whisper = transformers.WhisperConfig(**WHISPER_LARGE)
    return {
        "mms-1b": (lambda: transformers.Wav2Vec2ForCTC(mms), {"input_values": (CLIPS, 16_000 * SECONDS)}),
        "parakeet-ctc-1.1b": (lambda: transformers.ParakeetForCTC(parakeet), {"input_features": (CLIPS, 1000, 80)}),
        "whisper-large-v3": (
            lambda: transformers.WhisperForConditionalGeneration(whisper),
            {"input_features": (CLIPS, 128, 100 * (SECONDS + 1)), "decoder_input_ids": (CLIPS, TOKENS)},
        ),
    }


def need(make: Any, shapes: dict[str, tuple[int, ...]], *, lora: bool) -> Need:
    with torch.device("meta"):
        model = make().to(torch.bfloat16).train()
        inputs = {
            name: torch.zeros(shape, dtype=torch.long if name.endswith("ids") else torch.bfloat16)
            for name, shape in shapes.items()
        }
    if "Parakeet" not in type(model).__name__:  # whose relative positions no flash kernel takes
        model.set_attn_implementation("without_scores")
    if hasattr(model, "freeze_feature_encoder"):
        model.freeze_feature_encoder()
    if lora:
        add_lora(model, Lora(), base="someone/model")
        model.to("meta", torch.bfloat16)
    kept = activation_bytes(model, lambda: model(**inputs).logits.float().log_softmax(-1))
    count = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    kept += 2 * count  # the copy of each weight in bf16 that autocast keeps for the backward pass
    return Need(4 * count, 4 * trained, 8 * trained, kept)


def main() -> None:
    transformers.AttentionInterface.register("without_scores", flash)
    masking_utils.AttentionMaskInterface.register("without_scores", lambda *args, **options: None)
    print(f"| model | way | weights | gradients | optimiser | activations | together | fits, of {GPUS_GB} GB |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (make, shapes) in models().items():
        for lora in (False, True):
            found = need(make, shapes, lora=lora)
            parts = (found.weights, found.gradients, found.optimiser, found.activations, found.total)
            sizes = " | ".join(f"{size / 1e9:.1f} GB" for size in parts)
            print(f"| {name} | {'LoRA' if lora else 'all weights'} | {sizes} | {found.gpu_gb or 'none'} |", flush=True)


if __name__ == "__main__":
    main()
