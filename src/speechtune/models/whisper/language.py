"""Detect the language that clips are spoken in, by Whisper's own language tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from speechtune.models.loading import Source, feature_extractor_of, quiet_transformers

if TYPE_CHECKING:
    from transformers import GenerationConfig

__all__ = ["generation_config_of", "language_probabilities"]


def generation_config_of(source: Source) -> GenerationConfig | None:
    """Return the checkpoint's generation config; None if it has none, as checkpoints from before 2023."""
    from transformers import GenerationConfig

    quiet_transformers()
    try:
        return GenerationConfig.from_pretrained(source.name, **source.hub_options)
    except OSError:
        return None


def language_probabilities(source: Source, clips: Sequence[NDArray[np.float32]], *, on_cpu: bool) -> dict[str, float]:
    """Return Whisper's code of each language -> its probability, the mean over the clips.

    The probabilities of the token after <|startoftranscript|>, among the languages only (Radford et al. 2022, "Robust
    Speech Recognition via Large-Scale Weak Supervision", section 2.3).

    Args:
        source: a multilingual checkpoint whose generation config has `lang_to_id`.
        clips: samples of each, shape (num_samples,), 16 kHz; the first 30 s count.
    """
    import torch
    from transformers import AutoModelForSpeechSeq2Seq

    quiet_transformers()
    model = source.load("sequence-to-sequence model", AutoModelForSpeechSeq2Seq.from_pretrained, dtype=torch.float32)
    extractor = feature_extractor_of(source, model.config)
    device = torch.device("cpu" if on_cpu or not torch.cuda.is_available() else "cuda")
    model = model.eval().to(device)
    tokens: dict[str, int] = model.generation_config.lang_to_id
    start = torch.tensor([[model.config.decoder_start_token_id]], device=device)
    total = torch.zeros(len(tokens), dtype=torch.float64)
    with torch.inference_mode():
        for clip in clips:
            features = extractor(clip, sampling_rate=extractor.sampling_rate, return_tensors="pt").input_features
            logits = model(input_features=features.to(device), decoder_input_ids=start).logits[0, -1]
            total += logits[list(tokens.values())].double().softmax(-1).cpu()
    codes = [token.removeprefix("<|").removesuffix("|>") for token in tokens]
    return dict(zip(codes, (total / len(clips)).tolist(), strict=True))
